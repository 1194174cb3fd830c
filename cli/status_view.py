"""What `barque status` prints, for people and for programs. Asks nothing itself."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from cli.output import fields, machine, show, styled, to_jsonable
from cli.pause import described, pause_document
from cli.progress_line import progress_text
from cli.words import age, compact, jobs, moment
from common.jobs import JobInfo, JobState
from common.pauses import Pause
from common.redis.inspect import QueueReport, WorkerReport
from common.redis.server_report import ServerReport

__all__ = ["Overview", "show_jobs", "show_overview"]

_STYLES = {
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "yellow",
    JobState.ENDED: "yellow",
    JobState.UNKNOWN: "red",
    JobState.RUNNING: "cyan",
}

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


def show_jobs(infos: Sequence[JobInfo], pauses: Sequence[Pause], *, arguments: bool, as_json: bool) -> None:
    """Print where these jobs stand; their arguments only if asked for."""
    if as_json:
        machine([_job_document(info, arguments=arguments) for info in infos])
        return
    for info in infos:
        show(
            styled(f"Job {info.job_id}", "bold"),
            fields(_job_rows(info, pauses, arguments=arguments), styles=_styles(info)),
        )


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


def _job_rows(info: JobInfo, pauses: Sequence[Pause], *, arguments: bool) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [("state", info.state.value)]
    if info.state is JobState.UNKNOWN:
        rows.append(("", "never enqueued in the queues looked in (--queues names others), or no longer kept"))
        return rows
    rows += [("task", info.task), ("queue", info.queue), ("priority", info.priority or None)]
    rows += [("attempt", info.attempt or None), ("worker", info.worker)]
    if info.progress is not None:
        rows.append(("progress", progress_text(info.progress, sys.maxsize)))
    for name in ("enqueued_at", "due_at", "started_at", "finished_at"):
        # A running job's score is the end of its lease.
        shown = "lease ends" if name == "due_at" and info.state is JobState.RUNNING else name.removesuffix("_at")
        rows.append((shown, moment(getattr(info, name))))
    paused = _paused_rows(info, pauses)
    rows += paused or [("waits for", info.waits_for)]
    if info.error is not None and info.state is JobState.ENDED:
        rows.append(("", f"its result cannot be read here: {info.error.message}"))
    elif info.error is not None:
        kind = info.error.type.removeprefix("builtins.")
        rows.append(("error", f"{kind}: {info.error.message}" if info.error.message else kind))
    rows.append(("metadata", compact(info.metadata) if info.metadata else None))
    if arguments and info.task is not None:
        rows.append(("arguments", compact(info.arguments)))
        rows.append(("keywords", compact(info.keyword_arguments) if info.keyword_arguments else None))
    return [(name, value) for name, value in rows if value is not None]


def _paused_rows(info: JobInfo, pauses: Sequence[Pause]) -> list[tuple[str, object]]:
    """Return what is paused and so keeps this job from being started."""
    if info.state not in {JobState.QUEUED, JobState.SCHEDULED}:
        return []
    mine = {"queue": info.queue, "task": info.task}
    held = [pause for pause in pauses if mine[pause.kind] == pause.name]
    return [("paused", f"{pause.kind} {pause.name}, {described(pause)}") for pause in held]


def _job_document(info: JobInfo, *, arguments: bool) -> dict[str, Any]:
    """Return the job for a program; results have a command of their own, arguments only if asked for."""
    left_out = {"result"} if arguments else {"result", "arguments", "keyword_arguments"}
    named = {field.name: getattr(info, field.name) for field in dataclasses.fields(info)}
    named["error"] = dataclasses.asdict(info.error) if info.error is not None else None
    if info.progress is not None:
        named["progress"] = {**dataclasses.asdict(info.progress), "fraction": info.progress.fraction}
    document: dict[str, Any] = to_jsonable({k: v for k, v in named.items() if k not in left_out}).value
    return document


def _styles(info: JobInfo) -> dict[str, str]:
    return {"state": _STYLES.get(info.state, ""), "error": "red"}


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
