"""What a worker counts of its own work, for whoever watches it: plain numbers, added to by the batch.

Owns the counting. Where the numbers are shown, and under which names, is metrics_page.py's. A worker that shows them
to nobody has none of this.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

from common.distribution import SECONDS_BOUNDS
from common.jobs import OutcomeKind
from workers.attempt import Outcome

__all__ = ["BATCH_BOUNDS", "SECONDS_BOUNDS", "Histogram", "Metrics", "Recorded", "TaskFigures"]

BATCH_BOUNDS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)

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
    """

    __slots__ = ("busy", "outcomes", "queue_wait", "run")

    def __init__(self) -> None:
        self.outcomes: dict[OutcomeKind, int] = {}
        self.queue_wait = Histogram(SECONDS_BOUNDS)
        self.run = Histogram(SECONDS_BOUNDS)
        self.busy = 0.0


class Metrics:
    """The figures of one worker, since its start.

    Attributes:
        tasks: by name.
        claims: how many jobs each claim brought; those that brought none are not counted.
        records: how many outcomes each batch recorded.
        round_trips: seconds until the server had answered, by what it was asked.
        leases_lost: attempts whose lease was another's, or nobody's, at their end.
        loop_lag: seconds by which the event loop was late for an appointment.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, TaskFigures] = {}
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
            if outcome.kind is not OutcomeKind.PASSED_ON:
                self._count(outcome)

    def lost(self, outcome: Outcome) -> None:
        """Count an attempt whose outcome the server refused."""
        self.leases_lost += 1
        self._count(outcome)

    def _count(self, outcome: Outcome) -> None:
        attempt = outcome.attempt
        name = _NO_TASK if attempt.runnable is None else attempt.runnable.name
        figures = self.tasks.get(name)
        if figures is None:
            figures = self.tasks[name] = TaskFigures()
        figures.outcomes[outcome.kind] = figures.outcomes.get(outcome.kind, 0) + 1
        if attempt.started_ms:
            figures.queue_wait.add(attempt.queued_ms / 1000)
            figures.run.add(outcome.run_seconds)
            figures.busy += attempt.busy


def _bound(value: float) -> str:
    return repr(value)
