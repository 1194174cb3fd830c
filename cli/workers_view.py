"""What `barque workers` prints, and `barque top` of workers. Asks nothing itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.text import Text

from cli.columns import Column, fitting
from cli.measures import count, rate, size, span
from cli.output import fields, machine, note, show, styled, width
from common.fleet import FleetSnapshot, WorkerActivity
from common.worker_reports import WorkerReport

__all__ = ["show_workers", "state_style", "worker_columns", "worker_document"]

_LATE_MS = 100.0
"""Lag that is worth a look: a request of somebody's waited for so long."""


def show_workers(snapshot: FleetSnapshot, found: Sequence[WorkerReport], *, named: bool, as_json: bool) -> None:
    """Print workers, one a line; if they were named, all there is to say of each."""
    if as_json:
        machine([worker_document(worker) for worker in found])
        return
    if not found:
        if named and snapshot.workers:
            note("None of these lives; `barque workers` lists those that do.")
        else:
            note("No worker is alive; `barque worker` starts one.")
        return
    if not named:
        show(fitting(worker_columns(snapshot, found), width(), fold=True))
        return
    for worker in found:
        show(styled(f"Worker {worker.worker}", "bold"), fields(_rows(snapshot, worker)))
        if worker.longest:
            show("", fitting(_running_columns(worker), width(), fold=True))
        if worker.failures:
            show("", fitting(_failure_columns(snapshot, worker), width(), fold=True))
        show("")


def worker_document(worker: WorkerReport) -> dict[str, Any]:
    """Return a report for a program, all its fields in it."""
    document: dict[str, Any] = {name: getattr(worker, name) for name in worker.__struct_fields__}
    for name in ("longest", "failures"):
        document[name] = [{**attempt_document(attempt), "worker": worker.worker} for attempt in document[name]]
    document["figures"] = msgspec.to_builtins(worker.figures)
    return document


def attempt_document(attempt: msgspec.Struct) -> dict[str, Any]:
    """Return an attempt for a program, all its fields in it."""
    return {name: getattr(attempt, name) for name in attempt.__struct_fields__}


def worker_columns(
    snapshot: FleetSnapshot,
    workers: Sequence[WorkerReport],
    *,
    title: str = "Worker",
    did: Mapping[str, WorkerActivity] | None = None,
) -> list[Column]:
    """Return the columns of a table of workers.

    Args:
        did: what each did lately: shown in place of what it did since its start.
    """
    name = Column(title, least=16)
    state, load = Column("State", least=8, matters=6), Column("Running", number=True)
    lag, memory = Column("Lag", number=True, matters=5), Column("Memory", number=True, matters=4)
    done, failed = Column("Ended", number=True), Column("Failed", number=True)
    cpu, up = Column("CPU", number=True, matters=2), Column("Up", number=True, matters=3)
    version = Column("Barque", least=6, matters=1)
    for worker in workers:
        style = state_style(worker)
        name.cells.append(styled(worker.worker, style))
        state.cells.append(styled(worker.state, style))
        load.cells.append(load_cell(worker))
        lag.cells.append(lag_cell(worker))
        memory.cells.append(styled(size(worker.rss)))
        up.cells.append(styled(span(max(0, snapshot.taken_ms - worker.started_ms) / 1000)))
        version.cells.append(styled(worker.version))
        if did is None:
            done.cells.append(styled(count(worker.ended)))
            failed.cells.append(styled(count(worker.failed), "red" if worker.failed else ""))
        else:
            lately = did.get(worker.worker, WorkerActivity())
            done.cells.append(styled(rate(lately.ended)))
            failed.cells.append(styled(rate(lately.failed), "red" if lately.failed else ""))
            cpu.cells.append(styled(f"{lately.cpu:.0%}", "yellow" if lately.cpu >= 0.9 else ""))
    columns = [name, state, load, lag, memory, done, failed]
    return [*columns, *([] if did is None else [cpu]), up, version]


def load_cell(worker: WorkerReport) -> Text:
    """Return how many attempts run, of how many, and how many would not be stopped."""
    said = styled(f"{count(worker.running)}/{count(worker.concurrency)}")
    if worker.given_up:  # they hold no slot, but what else they hold nobody knows
        said.append(f" +{worker.given_up}", "red")
    return said


def lag_cell(worker: WorkerReport) -> Text:
    """Return by how much the event loop was late at the worst."""
    lag = worker.worst_loop_lag_ms if worker.worst_loop_lag_ms is not None else worker.loop_lag_ms
    if lag is None:
        return styled("-")
    return styled(span(lag / 1000), "red" if lag >= 10 * _LATE_MS else "yellow" if lag >= _LATE_MS else "")


def state_style(worker: WorkerReport) -> str:
    """Return the style of a worker in this state."""
    return (
        ""
        if worker.state == "running"
        else "red"
        if worker.state in {"fenced", "loop_blocked", "server_away"}
        else "yellow"
    )


def _rows(snapshot: FleetSnapshot, worker: WorkerReport) -> list[tuple[str, object]]:
    started = datetime.fromtimestamp(worker.started_ms / 1000, tz=UTC)
    up = span(max(0, snapshot.taken_ms - worker.started_ms) / 1000)
    rows: list[tuple[str, object]] = [("state", styled(worker.state, state_style(worker) or "green"))]
    rows += [("", words) for words in worker.reasons.values()]
    rows += [
        ("host", f"{worker.host}, process {worker.pid}"),
        ("versions", f"Barque {worker.version}, Python {worker.python or '?'}, arq {worker.arq or '?'}"),
        ("queues", ", ".join(worker.queues)),
        ("paused", ", ".join(worker.paused) or None),
        ("running", load_cell(worker)),
        ("given up", f"{worker.given_up} would not be stopped, and run on" if worker.given_up else None),
        ("memory", size(worker.rss)),
        ("loop lag", lag_cell(worker)),
        ("started", f"{started:%Y-%m-%d %H:%M:%S} UTC, {up} ago"),
        ("reported", f"{span(snapshot.silent_s(worker))} ago"),
        ("ended", f"{worker.succeeded:,} succeeded, {worker.retried:,} retried, {worker.failed:,} failed"),
    ]
    return [(name, value) for name, value in rows if value is not None]


def _running_columns(worker: WorkerReport) -> list[Column]:
    runs, task = Column("Runs for", number=True), Column("Task", least=12)
    job, attempt, queue = Column("Job", least=16), Column("Attempt", number=True), Column("Queue", least=8, matters=1)
    for one in worker.longest:
        runs.cells.append(styled(span(max(0, worker.reported_ms - one.started_ms) / 1000)))
        task.cells.append(styled(one.task))
        job.cells.append(styled(one.job_id))
        attempt.cells.append(styled(one.attempt))
        queue.cells.append(styled(one.queue))
    return [runs, task, job, attempt, queue]


def _failure_columns(snapshot: FleetSnapshot, worker: WorkerReport) -> list[Column]:
    when, outcome = Column("Failed", number=True), Column("Outcome", least=9)
    task, job, error = Column("Task", least=12), Column("Job", least=16), Column("Error", least=16)
    for one in reversed(worker.failures):
        when.cells.append(styled(f"{span(max(0, snapshot.taken_ms - one.ended_ms) / 1000)} ago"))
        outcome.cells.append(styled(one.outcome, "yellow" if one.retry_in_ms is not None else "red"))
        task.cells.append(styled(one.task))
        job.cells.append(styled(one.job_id))
        error.cells.append(styled(one.error or ""))
    return [when, outcome, task, job, error]
