"""The fleet in the API: what its workers say of themselves and of their attempts, and its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from common.distribution import Distribution
from common.fleet import EndedAttempt, FleetSnapshot, RunningAttempt, TaskSummary, WorkerReport
from common.redis.fleet import FleetReader
from dashboard.api.documents import Time
from dashboard.api.operations import Asked, operation
from dashboard.security.masking import readable
from producer import Producer

__all__ = ["OPERATIONS"]


class WorkerDocument(msgspec.Struct, kw_only=True):
    """What a worker last said of itself."""

    worker: str
    host: str
    pid: int
    state: Annotated[str, msgspec.Meta(description="running, or why it takes no jobs")]
    reasons: Annotated[dict[str, str], msgspec.Meta(description="Why it takes no jobs, in words")]
    version: str
    python: str
    arq: str
    queues: list[str]
    paused: Annotated[
        list[str], msgspec.Meta(description="What of its queues and tasks is paused: queue:low, task:mail")
    ]
    concurrency: int
    running: int
    started_at: Time
    reported_at: Time
    given_up: Annotated[int, msgspec.Meta(description="Attempts that would not be stopped, and run on")]
    succeeded: Annotated[int, msgspec.Meta(description="Attempts since its start")]
    retried: int
    failed: int
    memory_bytes: int | None
    cpu_seconds: float
    loop_lag_ms: Annotated[float | None, msgspec.Meta(description="By how much its event loop was last late")]
    worst_loop_lag_ms: float | None


class RunningDocument(msgspec.Struct, kw_only=True):
    """An attempt that runs now."""

    job_id: str
    href: str
    task: str
    queue: str
    attempt: int
    worker: str
    started_at: Time


class EndedDocument(msgspec.Struct, kw_only=True):
    """An attempt that has ended."""

    job_id: str
    href: str
    task: str
    queue: str
    attempt: int
    worker: str
    outcome: str
    ended_at: Time
    queued_ms: Annotated[float, msgspec.Meta(description="From due to start")]
    run_ms: float
    busy_ms: Annotated[float, msgspec.Meta(description="Of these, how long it held its worker's event loop")]
    error: str | None
    retry_in_ms: int | None


class Seconds(msgspec.Struct, kw_only=True):
    """How long attempts took, in seconds, as far as buckets tell."""

    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None


class TaskDocument(msgspec.Struct, kw_only=True):
    """The attempts of one task, of all workers together, since each began to count."""

    task: str
    outcomes: dict[str, int]
    ended: int
    failed: int
    queue_wait: Seconds
    run: Seconds
    busy_seconds: float


class FleetDocument(msgspec.Struct, kw_only=True):
    """The fleet at one moment, as its workers last reported."""

    taken_at: Time
    running: int
    concurrency: int
    observed: Annotated[bool, msgspec.Meta(description="Workers count by task: they do while somebody asks")]
    workers: list[WorkerDocument]
    tasks: list[TaskDocument]
    longest: Annotated[list[RunningDocument], msgspec.Meta(description="What runs for longest now")]
    failures: Annotated[list[EndedDocument], msgspec.Meta(description="The last ones that failed, retried or not")]
    slowest: Annotated[list[EndedDocument], msgspec.Meta(description="Of the last minute")]


class WorkerList(msgspec.Struct, kw_only=True):
    """The workers that live."""

    workers: list[WorkerDocument]


class TaskList(msgspec.Struct, kw_only=True):
    """The tasks that workers count."""

    observed: bool
    tasks: list[TaskDocument]


class FleetQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Whether workers are to count."""

    observe: Annotated[
        bool, msgspec.Meta(description="Have workers report every second, and count by task, for the next 15 seconds")
    ] = True


@operation("GET", "/fleet", tag="fleet")
async def get_fleet(asked: Asked, query: FleetQuery) -> FleetDocument:
    """Tell what the fleet does right now: its workers, its tasks, what runs for longest, what failed.

    Figures by task are counted only while somebody looks: the first answer may have none.
    """
    found = await _snapshot(asked, observe=query.observe)
    return FleetDocument(
        taken_at=_moment(found.taken_ms),
        running=found.running(),
        concurrency=found.concurrency,
        observed=found.observed,
        workers=[_worker(each) for each in found.workers],
        tasks=_tasks(found.tasks),
        longest=[_running(asked, each) for each in found.longest()],
        failures=[_ended(asked, each) for each in found.failures()],
        slowest=[_ended(asked, each) for each in found.slowest()],
    )


@operation("GET", "/workers", tag="fleet")
async def list_workers(asked: Asked) -> WorkerList:
    """List the workers that live, and what they last said of themselves."""
    found = await _snapshot(asked, observe=False)
    return WorkerList(workers=[_worker(each) for each in found.workers])


@operation("GET", "/tasks", tag="tasks")
async def list_tasks(asked: Asked, query: FleetQuery) -> TaskList:
    """List the tasks that workers have counted attempts of, with how they ended and how long they took.

    They count only while somebody looks: the first answer may have none.
    """
    found = await _snapshot(asked, observe=query.observe)
    return TaskList(observed=found.observed, tasks=_tasks(found.tasks))


async def _snapshot(asked: Asked, *, observe: bool) -> FleetSnapshot:
    async def read(producer: Producer) -> FleetSnapshot:
        reader = FleetReader(producer.store.client)
        if observe:
            await reader.observe()
        return await reader.snapshot()

    return await asked.ask("the fleet", read)


def _worker(report: WorkerReport) -> WorkerDocument:
    return WorkerDocument(
        worker=readable(report.worker),
        host=readable(report.host),
        pid=report.pid,
        state=report.state,
        reasons={readable(name): readable(why) for name, why in report.reasons.items()},
        version=report.version,
        python=report.python,
        arq=report.arq,
        queues=[readable(name) for name in report.queues],
        paused=[readable(name) for name in report.paused],
        concurrency=report.concurrency,
        running=report.running,
        started_at=_moment(report.started_ms),
        reported_at=_moment(report.reported_ms),
        given_up=report.given_up,
        succeeded=report.succeeded,
        retried=report.retried,
        failed=report.failed,
        memory_bytes=report.rss,
        cpu_seconds=report.cpu_s,
        loop_lag_ms=report.loop_lag_ms,
        worst_loop_lag_ms=report.worst_loop_lag_ms,
    )


def _running(asked: Asked, attempt: RunningAttempt) -> RunningDocument:
    return RunningDocument(
        job_id=readable(attempt.job_id),
        href=asked.href("/jobs/{job_id}", job_id=attempt.job_id),
        task=readable(attempt.task),
        queue=readable(attempt.queue),
        attempt=attempt.attempt,
        worker=readable(attempt.worker),
        started_at=_moment(attempt.started_ms),
    )


def _ended(asked: Asked, attempt: EndedAttempt) -> EndedDocument:
    return EndedDocument(
        job_id=readable(attempt.job_id),
        href=asked.href("/jobs/{job_id}", job_id=attempt.job_id),
        task=readable(attempt.task),
        queue=readable(attempt.queue),
        attempt=attempt.attempt,
        worker=readable(attempt.worker),
        outcome=attempt.outcome,
        ended_at=_moment(attempt.ended_ms),
        queued_ms=attempt.queued_ms,
        run_ms=attempt.run_ms,
        busy_ms=attempt.busy_ms,
        error=None if attempt.error is None else asked.dashboard.masking.text(attempt.error),
        retry_in_ms=attempt.retry_in_ms,
    )


def _tasks(found: Mapping[str, TaskSummary]) -> list[TaskDocument]:
    return [
        TaskDocument(
            task=readable(name),
            outcomes=dict(each.outcomes),
            ended=each.ended,
            failed=each.failed,
            queue_wait=_seconds(each.queue_wait),
            run=_seconds(each.run),
            busy_seconds=each.busy_s,
        )
        for name, each in found.items()
    ]


def _seconds(found: Distribution) -> Seconds:
    p50, p95, p99 = (found.percentile(percent) for percent in (50, 95, 99))
    return Seconds(mean=found.mean, p50=p50, p95=p95, p99=p99)


def _moment(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(min(max(unix_ms, 0), 253402300799000) / 1000, tz=UTC)


OPERATIONS = (get_fleet, list_workers, list_tasks)
