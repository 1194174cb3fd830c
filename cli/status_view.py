"""What `barque status` prints of server, queues and workers, for people and for programs. Asks nothing itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from cli.output import machine, show, styled
from cli.pause import described, pause_document
from cli.words import age, jobs
from common.pauses import Pause
from common.redis.inspect import QueueReport, WorkerReport
from common.redis.server_report import ServerReport

__all__ = ["Overview", "show_overview"]

_LISTS = {"longest", "failures", "figures"}
"""What a report has of single attempts and tasks: `barque workers` and `barque top` show it."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Server, queues and workers at one moment.

    Attributes:
        where: the server's URL without a password.
        server: what it says of itself; None where it may not be asked.
    """

    where: str
    server: ServerReport | None
    queues: Sequence[QueueReport]
    workers: Sequence[WorkerReport]
    pauses: Sequence[Pause] = ()

    def is_paused(self, queue: str) -> bool:
        """Whether nothing of a queue is claimed."""
        return any(pause.kind == "queue" and pause.name == queue for pause in self.pauses)

    def served_by(self, queue: str) -> int:
        """Return how many live workers serve a queue."""
        return sum(queue in worker.queues for worker in self.workers)


def show_overview(overview: Overview, *, as_json: bool) -> None:
    """Print the overview."""
    if as_json:
        machine(_overview_document(overview))
        return
    show(styled(_server_line(overview)), "", _queue_table(overview), "")
    if overview.pauses:
        show(*(styled(_paused_line(pause), "yellow") for pause in overview.pauses), "")
    if overview.workers:
        show(_worker_table(overview.workers))
    else:
        show(styled("No worker is alive; `barque worker` starts one.", "yellow"))


def _paused_line(pause: Pause) -> str:
    waiting = f", {jobs(pause.waiting)} put aside" if pause.waiting else ""
    return f"Paused: {pause.kind} {pause.name}, {described(pause)}{waiting}"


def _overview_document(overview: Overview) -> dict[str, Any]:
    return {
        "server": {"url": overview.where, **(dataclasses.asdict(overview.server) if overview.server else {})},
        "queues": [
            {
                **dataclasses.asdict(report),
                "workers": overview.served_by(report.queue),
                "paused": overview.is_paused(report.queue),
            }
            for report in overview.queues
        ],
        "workers": [
            {field: getattr(worker, field) for field in WorkerReport.__struct_fields__ if field not in _LISTS}
            for worker in overview.workers
        ],
        "pauses": [pause_document(pause) for pause in overview.pauses],
    }


def _server_line(overview: Overview) -> str:
    server = overview.server
    if server is None:
        return f"{overview.where} (INFO is refused: no more is known)"
    limit = f" of {_mebibytes(server.memory_limit)}" if server.memory_limit else ""
    used = _mebibytes(server.used_memory)
    clients = "1 client" if server.clients == 1 else f"{server.clients} clients"
    return f"{overview.where}: {server.kind} {server.version}, {used}{limit} used, {clients}"


def _queue_table(overview: Overview) -> Table:
    table = _table("Queue", "Queued", "Scheduled or running", "Oldest due", "Workers")
    for report in overview.queues:
        waiting = report.oldest_due_seconds
        workers = overview.served_by(report.queue)
        # Jobs are due and nobody takes them: most often a worker of other queues, or none.
        forgotten = "red" if report.queued and not workers else "yellow" if overview.is_paused(report.queue) else ""
        table.add_row(
            styled(report.queue),
            styled(report.queued, forgotten),
            styled(report.scheduled),
            styled("-" if waiting is None else f"{age(waiting)} ago", forgotten),
            styled(workers, forgotten),
        )
    return table


def _worker_table(workers: Sequence[WorkerReport]) -> Table:
    table = _table("Worker", "Running", "Succeeded", "Retried", "Failed", "Up")
    for worker in workers:
        table.add_row(
            styled(worker.worker),
            _running(worker),
            styled(worker.succeeded),
            styled(worker.retried),
            styled(worker.failed),
            styled(age(max(0, worker.reported_ms - worker.started_ms) / 1000)),
        )
    return table


def _running(worker: WorkerReport) -> Text:
    said = styled(f"{worker.running}/{worker.concurrency}")
    if worker.given_up:  # they hold no slot, but what else they hold nobody knows
        said.append(f" +{worker.given_up} given up", "red")
    return said


def _table(first: str, *others: str) -> Table:
    """Return a table whose first column takes what room is left and folds, and whose numbers stay whole."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, overflow="fold")
    for other in others:
        longest = max(other.split(), key=len)
        table.add_column(other, justify="right", min_width=len(longest), overflow="fold")
    return table


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
