"""What the workers' log files say about the attempts: one JSON line each, as `workers.attempt_log` writes them.

Owns reading the lines as they are appended, and the figures made of them. Needs nothing but the files: the same
figures can be had from the logs of any fleet.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from common.jobs import OutcomeKind

__all__ = ["Journal", "LogLine", "LogTail", "Percentiles", "Tally", "TaskFigures", "percentiles"]


class LogLine(msgspec.Struct, frozen=True):
    """What is read of a log line; a line of another kind has only an event."""

    event: str
    task: str = ""
    job_id: str = ""
    queued_ms: float = 0.0
    run_ms: float = 0.0
    retry_in_ms: int | None = None


class Percentiles(msgspec.Struct, frozen=True):
    """Milliseconds that half, 95 and 99 of a hundred values are not above."""

    p50: float
    p95: float
    p99: float


class TaskFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to the jobs of one task.

    Attributes:
        jobs: how many there were.
        attempts: tries of all jobs.
        retries: attempts after which another one was due, timed out ones included.
        timeouts: attempts that ran past their time.
        failed: jobs that failed for good.
        queue_wait_ms: from being due to being started, an attempt.
        run_ms: from start to end, an attempt.
        run_seconds: of all attempts together.
    """

    task: str
    jobs: int
    attempts: int
    retries: int
    timeouts: int
    failed: int
    queue_wait_ms: Percentiles
    run_ms: Percentiles
    run_seconds: float


class LogTail:
    """Reads the lines that were appended to a log file since it was last asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.unreadable = 0

    def read(self) -> list[LogLine]:
        """Return the new lines. One that is still being written is left for the next time."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole, _, _ = data.rpartition(b"\n")
        if not whole:
            return []
        self._offset += len(whole) + 1
        lines: list[LogLine] = []
        for text in whole.split(b"\n"):
            try:
                lines.append(msgspec.json.decode(text, type=LogLine))
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.unreadable += 1
        return lines


# A released attempt was cut short by a stopping worker and does not count, neither there nor here; nor a snoozed one.
_COUNTED = {f"job_{kind.value}" for kind in OutcomeKind} - {f"job_{OutcomeKind.RELEASED}", f"job_{OutcomeKind.SNOOZED}"}
_TIMED_OUT = f"job_{OutcomeKind.TIMED_OUT.value}"
_SUCCEEDED = f"job_{OutcomeKind.SUCCEEDED.value}"
_ENDED_BADLY = {f"job_{OutcomeKind.FAILED.value}", _TIMED_OUT}


class Tally:
    """Counts attempts as their lines come in.

    Attributes:
        retries, timeouts: of all tasks.
        by_worker: jobs brought to success, by the worker's number.
    """

    def __init__(self) -> None:
        self._lines: dict[str, list[LogLine]] = {}
        self.retries = 0
        self.timeouts = 0
        self.by_worker: Counter[int] = Counter()

    def add(self, lines: Iterable[LogLine], *, worker: int) -> None:
        """Count these lines of a worker; those that report no attempt are passed over."""
        for line in lines:
            if line.event not in _COUNTED:
                continue
            self._lines.setdefault(line.task, []).append(line)
            self.retries += line.retry_in_ms is not None
            self.timeouts += line.event == _TIMED_OUT
            if line.event == _SUCCEEDED:
                self.by_worker[worker] += 1

    def figures(self) -> list[TaskFigures]:
        """Return the figures of each task, the one with most attempts first."""
        made = [_figures(task, lines) for task, lines in self._lines.items()]
        return sorted(made, key=lambda figures: (-figures.attempts, figures.task))


class Journal:
    """The log files of all workers, read as they grow; worker N's is the N-th, from 1.

    Attributes:
        tally: of all that was read so far.
        started: the workers that said they run.
    """

    def __init__(self, logs: Sequence[Path]) -> None:
        self._tails = [LogTail(log) for log in logs]
        self.tally = Tally()
        self.started: set[int] = set()

    @property
    def unreadable(self) -> int:
        """Lines that are no JSON."""
        return sum(tail.unreadable for tail in self._tails)

    def read(self) -> None:
        """Read what is new."""
        for number, tail in enumerate(self._tails, start=1):
            lines = tail.read()
            self.tally.add(lines, worker=number)
            if any(line.event == "worker_started" for line in lines):
                self.started.add(number)


def _figures(task: str, lines: Sequence[LogLine]) -> TaskFigures:
    return TaskFigures(
        task=task,
        jobs=len({line.job_id for line in lines}),
        attempts=len(lines),
        retries=sum(line.retry_in_ms is not None for line in lines),
        timeouts=sum(line.event == _TIMED_OUT for line in lines),
        failed=sum(line.event in _ENDED_BADLY and line.retry_in_ms is None for line in lines),
        queue_wait_ms=percentiles([line.queued_ms for line in lines]),
        run_ms=percentiles([line.run_ms for line in lines]),
        run_seconds=round(sum(line.run_ms for line in lines) / 1000, 3),
    )


def percentiles(values: Sequence[float]) -> Percentiles:
    """Return the 50th, 95th and 99th percentile by nearest rank: each is one of the values.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values, no percentiles")
    ordered = sorted(values)

    def rank(share: int) -> float:
        return ordered[max(0, math.ceil(share * len(ordered) / 100) - 1)]

    return Percentiles(rank(50), rank(95), rank(99))
