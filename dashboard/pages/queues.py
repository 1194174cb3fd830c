"""Queues and what is paused: how they stand; pause, resume and purge them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import ConfigurationError
from common.pauses import Pause
from common.redis.inspect import QueueReport
from dashboard.pages.acting import Asked
from dashboard.pages.notices import Notice
from dashboard.pages.view import Page, View

__all__ = ["QUEUES", "pause_queue", "pause_task", "resume_queue", "resume_task"]


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One queue.

    Attributes:
        workers: how many serve it.
        later: jobs due later.
    """

    report: QueueReport
    running: int
    later: int
    workers: int
    pause: Pause | None


async def _read(view: View) -> Mapping[str, Any]:
    look = await view.look()
    rows = []
    for report in look.queues:
        running = look.fleet.running(report.queue)
        later = max(0, report.scheduled - running)
        serving = look.fleet.serving(report.queue)
        rows.append(QueueRow(report, running, later, serving, look.pause_of(report.queue)))
    return {"rows": rows, "paused_tasks": [pause for pause in look.pauses if pause.kind == "task"]}


QUEUES = Page("queues.html", "queues", _read)


async def pause_queue(asked: Asked) -> Notice:
    """Have nothing more of a queue started."""
    return _paused(await asked.producer.pause(queue=asked.view.path["queue"], reason=_reason(asked), by=asked.by))


async def resume_queue(asked: Asked) -> Notice:
    """Have a queue go on."""
    queue = asked.view.path["queue"]
    return _resumed(f"queue {queue}", was_paused=await asked.producer.resume(queue=queue))


async def pause_task(asked: Asked) -> Notice:
    """Have nothing more of a task started, in any queue."""
    task = asked.form.get("task")
    if not task:
        raise ConfigurationError("say which task: its name, as it is enqueued")
    return _paused(await asked.producer.pause(task=task, reason=_reason(asked), by=asked.by))


async def resume_task(asked: Asked) -> Notice:
    """Have a task go on."""
    task = asked.view.path["task"]
    return _resumed(f"task {task}", was_paused=await asked.producer.resume(task=task))


def _reason(asked: Asked) -> str | None:
    return asked.form.get("reason") or None


def _paused(pause: Pause) -> Notice:
    if not pause.is_new:
        return Notice(f"The {pause.kind} {pause.name} was paused already, by {pause.by}.", "plain")
    return Notice(f"Paused the {pause.kind} {pause.name}. What runs goes on; nothing more is started.")


def _resumed(what: str, *, was_paused: bool) -> Notice:
    if not was_paused:
        return Notice(f"The {what} was not paused.", "plain")
    return Notice(f"Resumed the {what}.")
