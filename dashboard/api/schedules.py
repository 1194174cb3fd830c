"""Schedules in the API: how they stand, adding, changing, pausing, running and removing them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from common.errors import ConfigurationError, ScheduleNotFound
from common.schedules import Timetable, cron, every
from dashboard.api.documents import ScheduleDocument, schedule
from dashboard.api.enqueueing import call_of
from dashboard.api.operations import Asked, operation
from dashboard.security.masking import readable

__all__ = ["OPERATIONS"]


class ScheduleList(msgspec.Struct, kw_only=True):
    """All schedules, the next to run first."""

    schedules: list[ScheduleDocument]


class ScheduleRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A schedule to be: what it runs, and when."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=1000, description="What it is known by")]
    task: Annotated[str, msgspec.Meta(min_length=1, max_length=1000, description="The task's name")]
    arguments: list[Any] = []
    keyword_arguments: dict[str, Any] = {}
    cron: Annotated[str | None, msgspec.Meta(description="Times, as `30 6 * * mon-fri`; this or `every`")] = None
    every: Annotated[
        Annotated[float, msgspec.Meta(ge=1, le=365 * 24 * 3600)] | None,
        msgspec.Meta(description="An interval, seconds"),
    ] = None
    timezone: Annotated[str, msgspec.Meta(max_length=100, description="Whose clock `cron` is read on")] = "UTC"
    missed: Annotated[
        Literal["once", "skip", "all"], msgspec.Meta(description="Which run of the ticks nobody was there for")
    ] = "once"
    jitter: Annotated[
        float, msgspec.Meta(ge=0, le=365 * 24 * 3600, description="Put each run off by up to so many seconds")
    ] = 0
    overlap: Annotated[bool, msgspec.Meta(description="Whether to run while the job before has not ended")] = True
    queue: Annotated[
        str | None, msgspec.Meta(description="Instead of the task's own, or the first of BARQUE_QUEUES")
    ] = None
    replace: Annotated[bool, msgspec.Meta(description="Change one of this name, if there is one")] = False


class ScheduleRemoved(msgspec.Struct, kw_only=True):
    """The schedule that is there no more."""

    name: str


class ScheduleChanged(msgspec.Struct, kw_only=True):
    """What a change made of a schedule."""

    changed: Annotated[bool, msgspec.Meta(description="false: it was so already")]
    schedule: ScheduleDocument


class Triggered(msgspec.Struct, kw_only=True):
    """The job that a schedule became out of turn."""

    job_id: str
    href: str
    queue: str


@operation("GET", "/schedules", tag="schedules")
async def list_schedules(asked: Asked) -> ScheduleList:
    """List the schedules of the fleet."""
    producer = await asked.dashboard.source.producer()
    return ScheduleList(schedules=[schedule(asked, each) for each in await producer.schedules.list()])


@operation("POST", "/schedules", tag="schedules", statuses=(201,), problems=(409,))
async def add_schedule(asked: Asked, body: ScheduleRequest) -> ScheduleDocument:
    """Add a schedule, or change one; every worker of the fleet knows of it at once.

    Sent again as it is, it keeps its next run and all else. Where the dashboard has imported the task's code
    (BARQUE_DASHBOARD_TASKS) the arguments are checked first. A schedule that the code of live workers declares is
    changed there.
    """
    when = _timetable(body)
    call = call_of(body.task, body.arguments, body.keyword_arguments)
    schedules = (await asked.dashboard.source.producer()).schedules
    added = schedule(asked, await schedules.add(body.name, call, when, queue=body.queue, replace=body.replace))
    asked.headers["Location"] = added.href
    return added


@operation("DELETE", "/schedules/{schedule}", tag="schedules", problems=(404, 409))
async def remove_schedule(asked: Asked) -> ScheduleRemoved:
    """Remove a schedule that was added; jobs that came of it are left alone."""
    name = asked.path["schedule"]
    if not await (await asked.dashboard.source.producer()).schedules.remove(name):
        raise ScheduleNotFound(f"there is no schedule called {name!r}")
    return ScheduleRemoved(name=readable(name))


@operation("GET", "/schedules/{schedule}", tag="schedules", problems=(404,))
async def get_schedule(asked: Asked) -> ScheduleDocument:
    """Tell how one schedule stands."""
    producer = await asked.dashboard.source.producer()
    return schedule(asked, await producer.schedules.get(asked.path["schedule"]))


@operation("POST", "/schedules/{schedule}/pause", tag="schedules", problems=(404,))
async def pause_schedule(asked: Asked) -> ScheduleChanged:
    """Let a schedule tick no more until it is resumed."""
    schedules = (await asked.dashboard.source.producer()).schedules
    changed = await schedules.pause(asked.path["schedule"])
    return ScheduleChanged(changed=changed, schedule=schedule(asked, await schedules.get(asked.path["schedule"])))


@operation("POST", "/schedules/{schedule}/resume", tag="schedules", problems=(404,))
async def resume_schedule(asked: Asked) -> ScheduleChanged:
    """Let a paused schedule tick again, from its next tick on."""
    schedules = (await asked.dashboard.source.producer()).schedules
    changed = await schedules.resume(asked.path["schedule"])
    return ScheduleChanged(changed=changed, schedule=schedule(asked, await schedules.get(asked.path["schedule"])))


@operation("POST", "/schedules/{schedule}/trigger", tag="schedules", statuses=(201,), problems=(404,))
async def trigger_schedule(asked: Asked) -> Triggered:
    """Enqueue one run of a schedule at once, paused or not; its own last and next run stay as they are."""
    producer = await asked.dashboard.source.producer()
    job = await producer.schedules.run_now(asked.path["schedule"])
    href = asked.href("/jobs/{job_id}", job_id=job.job_id)
    asked.headers["Location"] = href
    return Triggered(job_id=readable(job.job_id), href=href, queue=readable(job.queue))


def _timetable(body: ScheduleRequest) -> Timetable:
    if (body.cron is None) == (body.every is None):
        raise ConfigurationError("say when, by `cron` or by `every`, one of the two")
    if body.cron is not None:
        return cron(body.cron, timezone=body.timezone, missed=body.missed, jitter=body.jitter, overlap=body.overlap)
    if body.timezone != "UTC":
        raise ConfigurationError("`timezone` goes with `cron`: an interval has none")
    assert body.every is not None
    return every(body.every, missed=body.missed, jitter=body.jitter, overlap=body.overlap)


OPERATIONS = (
    list_schedules,
    add_schedule,
    get_schedule,
    remove_schedule,
    pause_schedule,
    resume_schedule,
    trigger_schedule,
)
