"""What a worker counts of its own work, for whoever watches it: plain numbers, added to by the batch.

Owns the counting. Where the numbers are shown, and under which names, is metrics_page.py's. A worker that shows them
to nobody has none of this.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

from common.dead_letters import decode_about
from common.distribution import SECONDS_BOUNDS
from common.jobs import OutcomeKind
from common.redis.records import Finish
from common.worker_reports import LONGEST_NAME, bounded
from workers.attempt import Outcome

__all__ = [
    "BATCH_BOUNDS",
    "MOST_NAMES",
    "OTHERS",
    "SECONDS_BOUNDS",
    "Histogram",
    "LimitFigures",
    "Metrics",
    "Recorded",
    "TaskFigures",
    "shown_name",
]

BATCH_BOUNDS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)

MOST_NAMES = 200
"""Tasks, limits and breakers that have series of their own: each has some fifty, and a program may make up names."""

OTHERS = "(others)"

_MOST_KEPT = 10_000
"""Names for which it is known which series they have."""

_SUCCEEDED, _PASSED_ON = OutcomeKind.SUCCEEDED, OutcomeKind.PASSED_ON

_NO_TASK = "(unknown)"
"""Stands for the names this worker has no task for: they come from outside, and each would be a series of its own."""


class Recorded(Protocol):
    """What is told of attempts as they are recorded, where somebody watches."""

    def recorded(self, outcomes: Sequence[Outcome]) -> None:
        """Count a batch of outcomes that the server has."""
        ...

    def lost(self, outcome: Outcome) -> None:
        """Count an attempt whose outcome the server refused."""
        ...


class Histogram:
    """How often a value fell between two bounds, and the sum of all.

    Attributes:
        counts: one for each bound, and a last one for all that is larger.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, int]]:
        """Return each upper bound and how many values were not above it, as Prometheus has its buckets."""
        found, sum_ = [], 0
        for bound, count in zip([*map(_bound, self._bounds), "+Inf"], self.counts, strict=True):
            sum_ += count
            found.append((bound, sum_))
        return found


class TaskFigures:
    """The attempts of one task.

    Attributes:
        outcomes: how many ended in which way.
        queue_wait: seconds from due to start.
        run: seconds from start to end.
        busy: seconds that all of them held the event loop.
        awaited: seconds that they ran and did not.
        steps: how often they held it.
        longest_step: seconds of the longest of the steps of each attempt.
        retries: after how many another attempt comes.
        dead: jobs that failed for good and were kept, by the reason.
    """

    __slots__ = ("awaited", "busy", "dead", "longest_step", "outcomes", "queue_wait", "retries", "run", "steps")

    def __init__(self) -> None:
        self.outcomes: dict[OutcomeKind, int] = {}
        self.queue_wait = Histogram(SECONDS_BOUNDS)
        self.run = Histogram(SECONDS_BOUNDS)
        self.longest_step = Histogram(SECONDS_BOUNDS)
        self.busy = self.awaited = 0.0
        self.steps = self.retries = 0
        self.dead: dict[str, int] = {}


class LimitFigures:
    """What the limits of one name and kind did to the attempts of this worker.

    Attributes:
        held_back: attempts that were put back.
        wait: seconds from when a job was first held back until it began.
    """

    __slots__ = ("held_back", "wait")

    def __init__(self) -> None:
        self.held_back = 0
        self.wait = Histogram(SECONDS_BOUNDS)


class Metrics:
    """The figures of one worker, since its start.

    Attributes:
        tasks: by name, or what stands for it: names past the first 200 share one.
        limits: by kind and name, likewise.
        circuits: how often a call of this worker's opened, half opened or closed a breaker, by its name and that word.
        ticks: of schedules, by what became of them.
        claims: how many jobs each claim brought; those that brought none are not counted.
        records: how many outcomes each batch recorded.
        round_trips: seconds until the server had answered, by what it was asked.
        leases_lost: attempts whose lease was another's, or nobody's, at their end.
        loop_lag: seconds by which the event loop was late for an appointment.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, TaskFigures] = {}
        self._by_name: dict[str, TaskFigures] = {}
        self.limits: dict[tuple[str, str], LimitFigures] = {}
        self.circuits: dict[tuple[str, str], int] = {}
        self.ticks = {"enqueued": 0, "left_out": 0, "refused": 0}
        self.claims = Histogram(BATCH_BOUNDS)
        self.records = Histogram(BATCH_BOUNDS)
        self.round_trips = {"claim": Histogram(SECONDS_BOUNDS), "complete": Histogram(SECONDS_BOUNDS)}
        self.leases_lost = 0
        self.loop_lag = Histogram(SECONDS_BOUNDS)

    def claimed(self, jobs: int) -> None:
        """Count a claim that brought jobs."""
        self.claims.add(jobs)

    def recorded(self, outcomes: Sequence[Outcome]) -> None:
        """Count a batch of outcomes that the server has."""
        if outcomes:
            self.records.add(len(outcomes))
        for outcome in outcomes:
            if outcome.kind is not _PASSED_ON:
                self._count(outcome)

    def lost(self, outcome: Outcome) -> None:
        """Count an attempt whose outcome the server refused."""
        self.leases_lost += 1
        self._count(outcome)

    def held_back(self, kind: str, name: str) -> None:
        """Count an attempt that a limit did not let begin."""
        self._limit(kind, name).held_back += 1

    def waited(self, kind: str, name: str, seconds: float) -> None:
        """Count a job that begins after a limit has held it back for so long."""
        self._limit(kind, name).wait.add(max(0.0, seconds))

    def circuit(self, name: str, word: str) -> None:
        """Count a change of a breaker's."""
        place = (_within(self.circuits, shown_name(name), word), word)
        self.circuits[place] = self.circuits.get(place, 0) + 1

    def ticked(self, enqueued: int, *, left_out: bool, refused: bool) -> None:
        """Count what became of a schedule's ticks that were due."""
        self.ticks["enqueued"] += enqueued
        self.ticks["left_out"] += left_out
        self.ticks["refused"] += refused

    def _count(self, outcome: Outcome) -> None:
        attempt, kind = outcome.attempt, outcome.kind
        name = _NO_TASK if attempt.runnable is None else attempt.runnable.name
        figures = self._by_name.get(name)
        if figures is None:
            figures = self._new(name)
        figures.outcomes[kind] = figures.outcomes.get(kind, 0) + 1
        if kind is not _SUCCEEDED:
            _count_failure(figures, outcome)
        if attempt.started_ms:
            run, busy = outcome.run_seconds, attempt.busy
            figures.queue_wait.add(attempt.queued_ms / 1000)
            figures.run.add(run)
            figures.longest_step.add(attempt.longest_block)
            figures.steps += attempt.steps
            figures.busy += busy
            if run > busy:
                figures.awaited += run - busy

    def _new(self, name: str) -> TaskFigures:
        shown = shown_name(name)
        if shown not in self.tasks and len(self.tasks) >= MOST_NAMES:
            shown = OTHERS
        figures = self.tasks.setdefault(shown, TaskFigures())
        if len(self._by_name) < _MOST_KEPT:
            self._by_name[name] = figures
        return figures

    def _limit(self, kind: str, name: str) -> LimitFigures:
        place = (kind, shown_name(name))
        if place not in self.limits and len(self.limits) >= MOST_NAMES:
            place = (kind, OTHERS)
        return self.limits.setdefault(place, LimitFigures())


def shown_name(name: str) -> str:
    """Return a name as the value of a label: any text that travels as UTF-8, of bounded length."""
    return bounded(name, LONGEST_NAME)


def _within(circuits: dict[tuple[str, str], int], name: str, word: str) -> str:
    return name if (name, word) in circuits or len(circuits) < MOST_NAMES else OTHERS


def _count_failure(figures: TaskFigures, outcome: Outcome) -> None:
    if outcome.retry_in_ms is not None:
        figures.retries += outcome.kind is not OutcomeKind.SNOOZED
    elif type(outcome.record) is Finish and outcome.record.letter is not None:
        reason = decode_about(outcome.record.letter.about).reason
        figures.dead[reason] = figures.dead.get(reason, 0) + 1


def _bound(value: float) -> str:
    return repr(value)
