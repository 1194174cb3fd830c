"""Schedules: when each runs next and ran last; pause, resume, run now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.schedule_records import ScheduleInfo
from dashboard.pages.acting import Asked
from dashboard.pages.notices import Notice
from dashboard.pages.view import Page, View
from dashboard.routing import path_to

__all__ = ["SCHEDULES", "pause_schedule", "resume_schedule", "run_schedule"]

_LATE = 5.0
"""Seconds by which a tick is past for that to say that nobody is there to tick; less is a matter of two clocks."""

_MOST = 500


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """One schedule.

    Attributes:
        why_not: why it does not run, in words; "" if it does.
        late: whether its next tick is past.
    """

    info: ScheduleInfo
    why_not: str
    late: bool


async def _read(view: View) -> Mapping[str, Any]:
    look = await view.look()
    found = await view.ask("the schedules", lambda producer: producer.schedules.list())
    rows = []
    for info in found[:_MOST]:
        late = info.next_run is not None and look.now_ms / 1000 - info.next_run.timestamp() > _LATE
        rows.append(ScheduleRow(info, _why_not(info), late and not look.fleet.workers))
    return {"rows": rows, "left_out": max(0, len(found) - _MOST)}


SCHEDULES = Page("schedules.html", "schedules", _read)


async def pause_schedule(asked: Asked) -> Notice:
    """Have a schedule tick no more."""
    name = asked.view.path["name"]
    if not await asked.producer.schedules.pause(name):
        return Notice(f"The schedule {name} was paused already.", "plain")
    return Notice(f"Paused the schedule {name}, restarts and deploys included.")


async def resume_schedule(asked: Asked) -> Notice:
    """Have a schedule tick again."""
    name = asked.view.path["name"]
    if not await asked.producer.schedules.resume(name):
        return Notice(f"The schedule {name} was not paused.", "plain")
    return Notice(f"Resumed the schedule {name}.")


async def run_schedule(asked: Asked) -> Notice:
    """Enqueue a run at once."""
    name = asked.view.path["name"]
    job = await asked.producer.schedules.run_now(name)
    then = asked.view.link(path_to("/jobs/{job_id}", job_id=job.job_id), {"queue": job.queue})
    return Notice(f"Enqueued a run of the schedule {name}: this is its job.", then=then)


def _why_not(info: ScheduleInfo) -> str:
    if info.unreadable is not None:
        return f"cannot be read here: {info.unreadable}"
    if info.orphaned:
        return "no live worker has its code"
    return ""
