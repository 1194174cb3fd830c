"""What `barque queues` prints, and `barque top` of queues. Asks nothing itself."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from cli.columns import Column, fitting
from cli.fleet_look import QueueStanding, queue_document
from cli.measures import count, span
from cli.output import machine, show, styled, width
from cli.pause import described

__all__ = ["queue_columns", "show_queues"]


def show_queues(queues: Sequence[QueueStanding], *, as_json: bool) -> None:
    """Print queues, one a line."""
    if as_json:
        machine([queue_document(queue) for queue in queues])
        return
    show(fitting(queue_columns(queues), width(), fold=True))
    said = [_said(queue) for queue in queues]
    lines = [line for line in said if line is not None]
    if lines:
        show("", *lines)


def queue_columns(queues: Sequence[QueueStanding], title: str = "Queue") -> list[Column]:
    """Return the columns of a table of queues."""
    name, state = Column(title, least=12), Column("State", least=6, matters=3)
    due, oldest = Column("Due", number=True), Column("Oldest", number=True)
    running, scheduled = Column("Running", number=True, matters=2), Column("Scheduled", number=True, matters=1)
    workers = Column("Workers", number=True, matters=4)
    for queue in queues:
        style = _style(queue)
        name.cells.append(styled(queue.name, style))
        due.cells.append(styled(count(queue.report.queued), style))
        oldest.cells.append(styled(span(queue.report.oldest_due_seconds), style))
        running.cells.append(styled(count(queue.running)))
        scheduled.cells.append(styled(count(queue.scheduled)))
        workers.cells.append(styled(len(queue.workers), style))
        state.cells.append(styled(_state(queue), style))
    return [name, due, oldest, running, scheduled, workers, state]


def _state(queue: QueueStanding) -> str:
    if queue.pause is not None:
        return "paused"
    if queue.forgotten:
        return "no worker"
    return "serving" if queue.workers else "-"


def _style(queue: QueueStanding) -> str:
    return "yellow" if queue.pause is not None else "red" if queue.forgotten else ""


def _said(queue: QueueStanding) -> Text | None:
    if queue.pause is not None:
        return styled(
            f"{queue.name} is paused, {described(queue.pause)}; `barque resume --queue` lets it go on.", "yellow"
        )
    if queue.forgotten:
        return styled(
            f"{queue.name} has jobs that are due, and no worker serves it: name it in BARQUE_QUEUES of some worker.",
            "red",
        )
    return None
