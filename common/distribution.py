"""How long many things took, as counts in buckets: what several have counted can be added up, and percentiles read.

Owns the bounds of the buckets, which all of Barque's figures share, and the arithmetic. Pure. Counting as things happen
is workers/metrics.py's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["SECONDS_BOUNDS", "Distribution"]

SECONDS_BOUNDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
)
"""Upper bounds of the buckets of waits and runs: from a job that does nothing to one that takes half an hour."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """How long many attempts took, as far as the buckets tell.

    Attributes:
        counts: how many, for each of SECONDS_BOUNDS, and last for what took longer.
        total: seconds of all of them together.
    """

    counts: tuple[int, ...] = (0,) * (len(SECONDS_BOUNDS) + 1)
    total: float = 0.0

    @classmethod
    def of(cls, values: Iterable[float]) -> Distribution:
        """Return how these seconds are distributed."""
        counts = [0] * (len(SECONDS_BOUNDS) + 1)
        total = 0.0
        for value in values:
            counts[bisect_left(SECONDS_BOUNDS, value)] += 1
            total += value
        return cls(tuple(counts), total)

    @classmethod
    def read(cls, counts: Sequence[int], total: float) -> Distribution:
        """Return what a worker reported; nothing, where it has other buckets than we have."""
        if len(counts) != len(SECONDS_BOUNDS) + 1:
            return cls()
        return cls(tuple(counts), total)

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """Seconds on average; None of none."""
        count = self.count
        return self.total / count if count else None

    def __add__(self, other: Distribution) -> Distribution:
        """Return both together."""
        counts = tuple(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True))
        return Distribution(counts, self.total + other.total)

    def __sub__(self, earlier: Distribution) -> Distribution:
        """Return what has come since `earlier`, of the same count."""
        counts = tuple(max(0, now - then) for now, then in zip(self.counts, earlier.counts, strict=True))
        return Distribution(counts, max(0.0, self.total - earlier.total))

    def percentile(self, percent: float) -> float | None:
        """Return the seconds within which so many percent of them were; None of none.

        It is exact to the bucket it falls into, and inside of that taken as evenly spread. What is past the last bound
        counts as that bound.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"percent is {percent}, and has to be from 0 to 100")
        rank = self.count * percent / 100
        below, lower = 0, 0.0
        for count, upper in zip(self.counts, SECONDS_BOUNDS, strict=False):
            if count and below + count >= rank:
                return lower + (upper - lower) * max(0.0, rank - below) / count
            below, lower = below + count, upper
        return SECONDS_BOUNDS[-1] if self.count else None
