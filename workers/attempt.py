"""One try of a job by this worker, and how it ended: data that the worker's components pass along.

Owns no behaviour. An Attempt is made by the engine from a claim, carried through the executor, and named in
its Outcome to the completer.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import msgspec

from common.codec import Payload
from common.jobs import OutcomeKind, RemoteError
from common.redis.scores import is_meant
from common.redis.store import Claimed, Finish, HeldLease, PutBack
from common.stopping import Lifetime, WhyStop
from workers.runnables import Runnable

if TYPE_CHECKING:
    from workers.admission import Passage
    from workers.batch_runs import RunLifetime

__all__ = ["Attempt", "Outcome", "PassedOnError", "StopReason"]


class StopReason(Enum):
    """Why a running attempt was cancelled from outside, or one that was claimed did not begin."""

    TIMED_OUT = auto()
    DEADLINE = auto()
    ABORTED = auto()
    RELEASED = auto()
    LOST = auto()
    NOT_BEGUN = auto()


class PassedOnError(Exception):
    """The attempt does not begin: its worker knows no such task, or a limit does not let it.

    Attributes:
        due: the score with which the job goes back to its queue; None where the server has put it there already.
    """

    def __init__(self, due: str | None = None) -> None:
        super().__init__(due or "")
        self.due = due


class Attempt(Lifetime):
    """One try of one job.

    Attributes:
        number: from 1.
        due_ms, started_ms: Unix ms by the server's clock.
        past: how it came to be due, as far as that is no plain due time.
        priority: what it had a head start for when it was claimed.
        started: `time.perf_counter()` at which it began, or 0.
        stop: set before its asyncio task is cancelled from outside.
        context: the dict arq's functions and hooks receive, where one was made.
        passage: what it has to pass to begin; not there for a task without limits.
        begun: whether its coroutine has taken its first step; cancelling before that would end it unseen.
        finished: whether its outcome is known. It may run on even so, if it would not be cancelled.
        timeout: seconds it may take, once that is watched; None where its job's deadline comes first.
        soft_timeout: seconds after which it is told to come to an end, until it has been.
        ends_at: when it is stopped, in the event loop's time, once that is watched; None is never.
        leaves_by: when its worker gives it back, having been asked to stop, in the event loop's time.
        notes: what observers keep of it until its outcome is recorded; not there where nobody observes.
        place: what its runnable took to run it outside the event loop; unset where it runs on it.
        busy: seconds its steps held the event loop, all together.
        longest_block: seconds the longest of them did.
        steps: how many there were.
        batch: the run it shares with other jobs, told to stop as it is; None for a job that runs alone.
        deadline_ms: Unix ms by the server's clock at which its job ends, whatever it has come to; None is no limit.
        aborted: since when it is to be aborted, as a score of `arq:abort`; 0 where nobody asked.
    """

    __slots__ = (
        "aborted",
        "batch",
        "begun",
        "busy",
        "context",
        "deadline_ms",
        "due_ms",
        "ends_at",
        "finished",
        "job_id",
        "lease",
        "leaves_by",
        "longest_block",
        "max_attempts",
        "notes",
        "number",
        "passage",
        "past",
        "payload",
        "place",
        "priority",
        "queue",
        "raw",
        "runnable",
        "soft_timeout",
        "started",
        "started_ms",
        "steps",
        "stop",
        "task",
        "timeout",
    )

    notes: dict[Any, Any]
    passage: Passage
    place: Any

    def __init__(self, claimed: Claimed, queue: str) -> None:
        self.told = ""
        self._stopping = None
        self.lease = claimed
        self.job_id = claimed.job_id
        self.raw = claimed.payload
        self.number = claimed.attempt or 1  # 0: the first one, of a job that has a history
        self.due_ms = claimed.due_ms
        self.past = claimed.past
        self.priority = claimed.priority
        self.aborted = claimed.aborted
        self.queue = queue
        self.max_attempts = 1
        self.payload: Payload | None = None
        self.runnable: Runnable | None = None
        self.task: asyncio.Task[None] | None = None
        self.stop: StopReason | None = None
        self.context: dict[Any, Any] | None = None
        self.begun = False
        self.finished = False
        self.timeout: float | None = None
        self.soft_timeout: float | None = None
        self.ends_at: float | None = None
        self.leaves_by: float | None = None
        self.deadline_ms: int | None = None
        self.started = 0.0
        self.started_ms = 0
        self.busy = self.longest_block = 0.0
        self.steps = 0
        self.batch: RunLifetime | None = None

    def note_step(self, seconds: float) -> None:
        """Count a step that held the event loop for so long."""
        self.steps += 1
        self.busy += seconds
        if seconds > self.longest_block:  # noqa: PLR1730 - max() takes as long as all the rest of this
            self.longest_block = seconds

    def tell(self, why: WhyStop) -> None:
        """Have the task come to an end, and with it the run it shares with other jobs."""
        super().tell(why)
        if self.batch is not None:
            self.batch.tell(why)

    @property
    def lease_as_counted(self) -> HeldLease:
        """Its lease, with the number of attempts that it has come to."""
        return HeldLease(self.lease.queue, self.job_id, self.lease.token, self.script_number)

    @property
    def queued_ms(self) -> int:
        """Milliseconds from due to start; 0 where it did not start."""
        if not self.started_ms:
            return 0
        since_ms = self.due_ms
        # arq's Job.abort() makes a job due in 1970, so that a worker looks at it at once.
        if self.payload is not None and since_ms < self.payload.enqueued_ms:
            since_ms = self.payload.enqueued_ms
        return self.started_ms - since_ms if self.started_ms > since_ms else 0

    @property
    def timing(self) -> tuple[int, int, int]:
        """How its steps were, as a result stores it: see common.jobs.StepTiming."""
        busy_us = int(self.busy * 1e6 + 0.5)
        if self.steps == 1:  # as with most small jobs, of which there are the most
            return busy_us, busy_us, 1
        return busy_us, int(self.longest_block * 1e6 + 0.5), self.steps

    def is_meant_by(self, wish: float) -> bool:
        """Tell whether a wish to abort this id, by its score, is about this job and not one before it."""
        return self.payload is None or is_meant(wish, self.payload.enqueued_ms)

    @property
    def script_number(self) -> int:
        """Its number as scripts take it: 0 for the first one of a job that has a history; see `Claimed`."""
        return self.lease.attempt if self.number == 1 else self.number

    @property
    def task_name(self) -> str:
        """The task's name, or "" while the payload has not been decoded."""
        return self.payload.task if self.payload is not None else ""

    @property
    def time_left(self) -> float | None:
        """Seconds until it is stopped, by a limit or by its worker's own end; None is no limit."""
        ends = [at for at in (self.ends_at, self.leaves_by) if at is not None]
        if not ends or self.task is None:
            return None
        return max(0.0, min(ends) - self.task.get_loop().time())

    @property
    def first_due_ms(self) -> int:
        """When the job was first due, as far as its payload tells: Unix ms by its producer's clock."""
        payload = self.payload
        if payload is None:
            return self.due_ms
        if payload.extras is not None and payload.extras.due is not None:
            return payload.extras.due
        return payload.enqueued_ms


class Outcome(msgspec.Struct, eq=False):
    """How an attempt ended, and what is to be written about it.

    Attributes:
        record: what the store writes; None for an attempt whose lease is known to be lost.
        retry_in_ms: until the next attempt, for a retried or snoozed one.
        reason: what the task said, or the error that was ignored; "" for what explains itself.
        run_seconds: from start to end.
        timing: how the attempt's steps were, as its result tells it; None where none was made of it.
    """

    attempt: Attempt
    kind: OutcomeKind
    record: Finish | PutBack | None
    run_seconds: float
    error: RemoteError | None = None
    retry_in_ms: int | None = None
    reason: str = ""
    timing: tuple[int, int, int] | None = None

    def become(self, other: Outcome) -> None:
        """Be what `other` says instead, of the same attempt."""
        self.kind, self.record, self.error = other.kind, other.record, other.error
        self.retry_in_ms, self.reason = other.retry_in_ms, other.reason
