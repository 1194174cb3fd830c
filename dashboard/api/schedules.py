"""Schedules in the API: how they stand, pausing and running them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from dashboard.api.documents import ScheduleDocument, schedule
from dashboard.api.operations import Asked, operation
from dashboard.security.masking import readable

__all__ = ["OPERATIONS"]


class ScheduleList(msgspec.Struct, kw_only=True):
    """All schedules, the next to run first."""

    schedules: list[ScheduleDocument]


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


OPERATIONS = (list_schedules, get_schedule, pause_schedule, resume_schedule, trigger_schedule)
