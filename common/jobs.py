"""What a job, an attempt and an outcome are: data, without I/O."""

from __future__ import annotations

import itertools
import os
import string
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from common.attempts import AttemptInfo, LogLine
    from common.progress import Progress

__all__ = [
    "JobInfo",
    "JobState",
    "OutcomeKind",
    "RemoteError",
    "StepTiming",
    "new_job_id",
    "new_job_ids",
    "new_worker_id",
]


class JobState(StrEnum):
    """Where a job stands; see docs/job_lifecycle.md."""

    SCHEDULED = "scheduled"
    """Due in the future: enqueued with a delay, or waiting for its next attempt."""
    QUEUED = "queued"
    """Due, and waiting for a worker."""
    RUNNING = "running"
    """A worker holds its lease."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Failed for good: no attempt is left, or its error is not retried."""
    CANCELLED = "cancelled"
    """Aborted, or discarded by its own task."""
    ENDED = "ended"
    """It has ended, but how cannot be read here: its result is a pickle, or no result at all."""
    UNKNOWN = "unknown"
    """No trace of it: never enqueued, or ended and its result is no longer kept."""

    @property
    def ended(self) -> bool:
        """Whether the job has its final outcome."""
        return self in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.ENDED}


class OutcomeKind(StrEnum):
    """How an attempt ended. The log event of an attempt is `job_` and this word.

    One that was passed on, or held back by a limit, never began, and has none.
    """

    SUCCEEDED = "succeeded"
    RETRIED = "retried"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"
    SNOOZED = "snoozed"
    RELEASED = "released"
    LOST = "lost"
    PASSED_ON = "passed_on"
    HELD_BACK = "held_back"


@dataclass(frozen=True, slots=True)
class RemoteError:
    """An exception, as it travels: no object, only words.

    Attributes:
        type: `module.Name` of the class.
        message: `str()` of the exception.
        traceback: formatted, or "".
    """

    type: str
    message: str
    traceback: str = ""


class StepTiming(NamedTuple):
    """How an attempt used its worker's event loop; a step is what runs between two waits.

    Attributes:
        busy_us: microseconds that all steps took together: what the job cost its neighbours.
        longest_us: microseconds of the longest one; nothing else ran meanwhile.
        steps: how many there were; 0 where nothing of the task's ran.
    """

    busy_us: int
    longest_us: int
    steps: int


@dataclass(frozen=True, slots=True)
class JobInfo:
    """All that is stored on one job, read without waiting.

    Attributes:
        arguments: positional arguments as plain data (not converted to the task's types).
        due_at: when it is or was due; while it runs, when its lease ends. None while it stands in the lane of a limit.
        attempt: attempts begun so far.
        started_at: when its last attempt began; while that runs, only in lists and of those that run for longest.
        result: the value as plain data when `state` is succeeded.
        metadata: what the producer attached.
        timing: how its last attempt used the event loop; of ended jobs, from a worker that tells.
        progress: what the task last said of how far it is.
        priority: from 0, normal, to 9; of a job that has not ended.
        waits_for: the limit it waits for, as `barque limits list` and `producer.limits` know it.
        unreadable: why nothing is known of what is in it: its payload is gone, too large to be listed, or cannot be
            decoded here. Of a result that cannot be read `error` says why.
        is_dead: whether a dead letter of it is kept, so that it can be replayed; told by `producer.jobs`.
        attempts: each of them, the oldest first: those before, and the one that runs now or ended it.
        attempts_dropped: how many older ones are not kept any more.
    """

    job_id: str
    state: JobState
    task: str | None = None
    queue: str | None = None
    arguments: tuple[Any, ...] = ()
    keyword_arguments: Mapping[str, Any] = field(default_factory=dict)
    enqueued_at: datetime | None = None
    due_at: datetime | None = None
    attempt: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    worker: str | None = None
    result: Any = None
    error: RemoteError | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    timing: StepTiming | None = None
    progress: Progress | None = None
    priority: int = 0
    waits_for: str | None = None
    unreadable: str | None = None
    is_dead: bool = False
    attempts: tuple[AttemptInfo, ...] = ()
    attempts_dropped: int = 0

    @property
    def logs(self) -> tuple[LogLine, ...]:
        """The lines its attempts logged, one attempt after the other; of a task that keeps some."""
        return tuple(line for attempt in self.attempts for line in attempt.logs)


class _JobIds:
    """Make ids that sort by time, so that jobs enqueued in one millisecond keep their order.

    A sorted set breaks ties of equal scores by member. An id is 20 digits of base 62: 8 of Unix milliseconds, 4 of a
    per-process counter, 8 random per process. They are short as the server copies, hashes and compares the names of a
    job dozens of times (docs/decisions/0026).
    """

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._process = _digits(int.from_bytes(os.urandom(8), "big"), 4)
        self._count = itertools.count()
        self._some_seconds = (0, "")  # the last time, in units of _PAIR ms, and its digits: one tuple, for threads

    def _now(self) -> str:
        seconds, milliseconds = divmod(time.time_ns() // 1_000_000, _PAIR)
        known, digits = self._some_seconds
        if seconds != known:
            digits = _digits(seconds, 3)
            self._some_seconds = (seconds, digits)
        return digits + _PAIRS[milliseconds]

    def __call__(self) -> str:
        number, pairs = next(self._count), _PAIRS
        return f"{self._now()}{pairs[number // _PAIR % _PAIR]}{pairs[number % _PAIR]}{self._process}"

    def many(self, count: int) -> list[str]:
        """Make so many at once, in order."""
        process, pairs = self._process, _PAIRS
        made: list[str] = []
        while len(made) < count:  # a part takes seconds to make: no number comes twice in one millisecond
            now = self._now()
            made += [
                f"{now}{pairs[number // _PAIR % _PAIR]}{pairs[number % _PAIR]}{process}"
                for number in itertools.islice(self._count, min(count - len(made), _PAIR**2))
            ]
        return made


_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
"""In the order of their bytes, which is the order of a sorted set."""

_PAIR = len(_DIGITS) ** 2
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]


def _digits(number: int, pairs: int) -> str:
    """Return a number in base 62, filled up with zeros to so many pairs of digits."""
    return "".join(_PAIRS[number // _PAIR**place % _PAIR] for place in reversed(range(pairs)))


new_job_id = _JobIds()
"""Return a fresh job id: 20 digits and letters that sort by time of creation."""

new_job_ids = new_job_id.many
"""Return so many fresh job ids, in order."""


def new_worker_id() -> str:
    """Return `host-pid-random`: readable in a log, and never given twice."""
    host = os.uname().nodename.split(".")[0][:40] or "worker"
    return f"{host}-{os.getpid()}-{os.urandom(3).hex()}"
