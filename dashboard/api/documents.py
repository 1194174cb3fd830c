"""What the API tells of things: their types, and how each is made of what the producer returns.

Owns the words of the answers. What of a job may be seen is security/masking.py's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from common.attempts import AttemptInfo
from common.dead_letters import DeadLetter
from common.jobs import JobInfo, RemoteError, StepTiming
from common.pauses import Pause
from common.progress import Progress
from common.redis.inspect import QueueReport
from common.redis.limits import LimitInfo
from common.schedule_records import ScheduleInfo
from dashboard.api.operations import Asked
from dashboard.security.masking import readable

__all__ = [
    "DeadLetterDocument",
    "ErrorDocument",
    "JobDocument",
    "LimitDocument",
    "PauseDocument",
    "ProgressDocument",
    "QueueDocument",
    "ScheduleDocument",
    "Time",
    "dead_letter",
    "job",
    "limit",
    "pause",
    "queue",
    "remote_error",
    "schedule",
]

Time = Annotated[datetime, msgspec.Meta(tz=True)]

Shown = Annotated[
    Any, msgspec.Meta(description="Any JSON; what may be secret is masked, by BARQUE_DASHBOARD_ARGUMENTS")
]


class PauseDocument(msgspec.Struct, kw_only=True):
    """That nothing more of a queue, or of a task, is started."""

    kind: Annotated[str, msgspec.Meta(description="queue or task")]
    name: str
    since: Time
    by: str
    reason: str | None
    waiting: Annotated[int | None, msgspec.Meta(description="Of a task: jobs put aside since")]


class QueueDocument(msgspec.Struct, kw_only=True):
    """How a queue stands."""

    name: str
    href: str
    queued: Annotated[int, msgspec.Meta(description="Due, and waiting for a worker")]
    scheduled: Annotated[int, msgspec.Meta(description="Due later, or running")]
    oldest_due_seconds: Annotated[float | None, msgspec.Meta(description="For how long the first due job has been due")]
    paused: PauseDocument | None


class ErrorDocument(msgspec.Struct, kw_only=True):
    """An exception of a task."""

    type: Annotated[str, msgspec.Meta(description="Its class: module.Name")]
    message: str
    traceback: str


class ProgressDocument(msgspec.Struct, kw_only=True):
    """How far a job is, as it said last."""

    done: float
    total: float | None
    message: str
    at: Time
    attempt: int


class TimingDocument(msgspec.Struct, kw_only=True):
    """How the last attempt used its worker's event loop."""

    busy_ms: float
    longest_block_ms: float
    steps: int


class LogLineDocument(msgspec.Struct, kw_only=True):
    """A line that a task logged."""

    at: Time | None
    level: str
    text: str


class AttemptDocument(msgspec.Struct, kw_only=True):
    """One attempt of a job."""

    number: Annotated[int, msgspec.Meta(description="From 1; one that was not counted has the number of the next")]
    outcome: Annotated[str, msgspec.Meta(description="running, succeeded, retried, failed, timed_out, lost, …")]
    started_at: Time | None
    finished_at: Time | None
    worker: str | None
    error: ErrorDocument | None
    reason: Annotated[str, msgspec.Meta(description="What the task said that put the job off, or dropped it")]
    retry_in_seconds: float | None
    timing: TimingDocument | None
    logs: Annotated[list[LogLineDocument], msgspec.Meta(description="Of a task that keeps some")]


class JobDocument(msgspec.Struct, kw_only=True):
    """All that is stored on a job."""

    job_id: str
    href: str
    state: Annotated[
        str, msgspec.Meta(description="scheduled, queued, running, succeeded, failed, cancelled, ended or unknown")
    ]
    task: str | None
    queue: str | None
    arguments: list[Shown]
    keyword_arguments: dict[str, Shown]
    metadata: dict[str, Shown]
    enqueued_at: Time | None
    due_at: Annotated[Time | None, msgspec.Meta(description="While it runs: when its lease ends")]
    started_at: Time | None
    finished_at: Time | None
    attempt: Annotated[int, msgspec.Meta(description="Attempts begun so far")]
    worker: str | None
    priority: int
    waits_for: Annotated[str | None, msgspec.Meta(description="The limit it waits for")]
    progress: ProgressDocument | None
    timing: TimingDocument | None
    result: Shown
    error: ErrorDocument | None
    attempts: Annotated[list[AttemptDocument], msgspec.Meta(description="The oldest first; empty in lists")]
    attempts_dropped: Annotated[int, msgspec.Meta(description="Older ones that are not kept any more")]
    is_dead: Annotated[bool, msgspec.Meta(description="A dead letter of it is kept, so that it can be replayed")]
    unreadable: Annotated[str | None, msgspec.Meta(description="Why nothing is known of what is in it")]


class ScheduleDocument(msgspec.Struct, kw_only=True):
    """How a schedule stands."""

    name: str
    href: str
    task: str
    queue: str
    when: Annotated[str, msgspec.Meta(description="A cron expression, or `every 30s`")]
    timezone: str
    missed: str
    overlap: bool
    declared: Annotated[bool, msgspec.Meta(description="By the code of workers")]
    orphaned: Annotated[bool, msgspec.Meta(description="Declared by code that no live worker runs: it does not tick")]
    unreadable: str | None
    paused_at: Time | None
    next_run: Time | None
    last_run_at: Time | None
    last_job_id: str | None
    runs: int
    arguments: list[Shown]
    keyword_arguments: dict[str, Shown]


class DeadLetterDocument(msgspec.Struct, kw_only=True):
    """A job that failed for good, and is kept."""

    job_id: str
    href: str
    task: str | None
    queue: str
    reason: str
    error: ErrorDocument
    attempts: int
    worker: str | None
    enqueued_at: Time | None
    died_at: Time | None
    expires_at: Time | None
    unreadable: str | None
    history: Annotated[
        list[AttemptDocument], msgspec.Meta(description="Each attempt, the oldest first; empty in lists")
    ]
    history_dropped: Annotated[int, msgspec.Meta(description="Older ones that are not kept any more")]
    arguments: Annotated[list[Shown], msgspec.Meta(description="Where one letter was asked for; empty in lists")]
    keyword_arguments: dict[str, Shown]
    metadata: dict[str, Shown]


class LimitDocument(msgspec.Struct, kw_only=True):
    """How one limit stands for one key."""

    name: str
    kind: Annotated[str, msgspec.Meta(description="rate, concurrency, breaker or door")]
    key: Annotated[str | None, msgspec.Meta(description="Comes from arguments: masked where those are not shown")]
    limit: float | None
    in_use: int | None
    waiting: int | None
    next_free: Time | None
    state: str


def pause(found: Pause) -> PauseDocument:
    """Tell of a pause."""
    return PauseDocument(
        kind=found.kind,
        name=readable(found.name),
        since=found.since,
        by=readable(found.by),
        reason=None if found.reason is None else readable(found.reason),
        waiting=found.waiting,
    )


def queue(asked: Asked, report: QueueReport, paused: Pause | None) -> QueueDocument:
    """Tell of a queue."""
    return QueueDocument(
        name=readable(report.queue),
        href=asked.href("/queues/{queue}", queue=report.queue),
        queued=report.queued,
        scheduled=report.scheduled,
        oldest_due_seconds=report.oldest_due_seconds,
        paused=None if paused is None else pause(paused),
    )


def job(asked: Asked, info: JobInfo) -> JobDocument:
    """Tell of a job."""
    show = asked.dashboard.masking
    return JobDocument(
        job_id=readable(info.job_id),
        href=asked.href("/jobs/{job_id}", job_id=info.job_id),
        state=info.state.value,
        task=_text(info.task),
        queue=_text(info.queue),
        arguments=show.arguments(info.task, info.arguments),
        keyword_arguments=show.named(info.keyword_arguments),
        metadata=show.named(info.metadata),
        enqueued_at=info.enqueued_at,
        due_at=info.due_at,
        started_at=info.started_at,
        finished_at=info.finished_at,
        attempt=info.attempt,
        worker=_text(info.worker),
        priority=info.priority,
        waits_for=_text(info.waits_for),
        progress=None if info.progress is None else _progress(asked, info.progress),
        timing=_timing(info.timing),
        result=None if info.result is None else show.value(info.result),
        error=None if info.error is None else remote_error(asked, info.error),
        attempts=[_attempt(asked, each) for each in info.attempts],
        attempts_dropped=info.attempts_dropped,
        is_dead=info.is_dead,
        unreadable=_text(info.unreadable),
    )


def schedule(asked: Asked, info: ScheduleInfo) -> ScheduleDocument:
    """Tell of a schedule."""
    show = asked.dashboard.masking
    return ScheduleDocument(
        name=readable(info.name),
        href=asked.href("/schedules/{schedule}", schedule=info.name),
        task=readable(info.task),
        queue=readable(info.queue),
        when=info.when,
        timezone=info.timezone,
        missed=info.missed,
        overlap=info.overlap,
        declared=info.declared,
        orphaned=info.orphaned,
        unreadable=_text(info.unreadable),
        paused_at=info.paused_at,
        next_run=info.next_run,
        last_run_at=info.last_run_at,
        last_job_id=_text(info.last_job_id),
        runs=info.runs,
        arguments=show.arguments(info.task, info.arguments),
        keyword_arguments=show.named(info.keyword_arguments),
    )


def dead_letter(asked: Asked, letter: DeadLetter) -> DeadLetterDocument:
    """Tell of a dead letter."""
    show = asked.dashboard.masking
    return DeadLetterDocument(
        job_id=readable(letter.job_id),
        href=asked.href("/dead/{job_id}", job_id=letter.job_id),
        task=_text(letter.task),
        queue=readable(letter.queue),
        reason=readable(letter.reason),
        error=remote_error(asked, letter.error),
        attempts=letter.attempts,
        worker=_text(letter.worker),
        enqueued_at=letter.enqueued_at,
        died_at=letter.died_at,
        expires_at=letter.expires_at,
        unreadable=_text(letter.unreadable),
        history=[_attempt(asked, each) for each in letter.history],
        history_dropped=letter.history_dropped,
        arguments=show.arguments(letter.task, letter.arguments),
        keyword_arguments=show.named(letter.keyword_arguments),
        metadata=show.named(letter.metadata),
    )


def limit(asked: Asked, info: LimitInfo) -> LimitDocument:
    """Tell of a limit."""
    return LimitDocument(
        name=readable(info.name),
        kind=info.kind,
        key=None if info.key is None else asked.dashboard.masking.value(info.key),
        limit=info.limit,
        in_use=info.in_use,
        waiting=info.waiting,
        next_free=info.next_free,
        state=info.state,
    )


def remote_error(asked: Asked, error: RemoteError, *, whole: bool = False) -> ErrorDocument:
    """Tell of an exception of a task."""
    show = asked.dashboard.masking
    return ErrorDocument(
        type=readable(error.type),
        message=show.text(error.message, whole=whole),
        traceback=show.text(error.traceback, whole=whole),
    )


def _attempt(asked: Asked, attempt: AttemptInfo) -> AttemptDocument:
    show = asked.dashboard.masking
    return AttemptDocument(
        number=attempt.number,
        outcome=attempt.outcome,
        started_at=attempt.started_at,
        finished_at=attempt.finished_at,
        worker=_text(attempt.worker),
        error=None if attempt.error is None else remote_error(asked, attempt.error),
        reason=show.text(attempt.reason),
        retry_in_seconds=attempt.retry_in,
        timing=_timing(attempt.timing),
        logs=[
            LogLineDocument(at=line.at, level=readable(line.level), text=show.text(line.text)) for line in attempt.logs
        ],
    )


def _timing(timing: StepTiming | None) -> TimingDocument | None:
    if timing is None:
        return None
    busy_ms, longest_ms = timing.busy_us / 1000, timing.longest_us / 1000
    return TimingDocument(busy_ms=busy_ms, longest_block_ms=longest_ms, steps=timing.steps)


def _progress(asked: Asked, progress: Progress) -> ProgressDocument:
    return ProgressDocument(
        done=progress.done,
        total=progress.total,
        message=asked.dashboard.masking.text(progress.message),
        at=progress.at,
        attempt=progress.attempt,
    )


def _text(text: str | None) -> str | None:
    return None if text is None else readable(text)
