"""Samples to figures: medians, spreads, percentiles. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Figure", "percentile", "repetitions"]


@dataclass(frozen=True)
class Figure:
    """What several runs gave.

    Attributes:
        median, least, most: of all samples.
        samples: as they came.
    """

    median: float
    least: float
    most: float
    samples: tuple[float, ...]

    @classmethod
    def of(cls, samples: Sequence[float]) -> Figure:
        """Sum up samples.

        Raises:
            ValueError: there are none, or one is no number.
        """
        if not samples:
            raise ValueError("no samples")
        if any(math.isnan(sample) for sample in samples):
            raise ValueError(f"not a number among the samples: {list(samples)}")
        return cls(statistics.median(samples), min(samples), max(samples), tuple(samples))

    @property
    def spread(self) -> float:
        """Half the distance between least and most, as a share of the median."""
        return (self.most - self.least) / 2 / abs(self.median) if self.median else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all values does not exceed (nearest rank).

    Args:
        share: above 0, up to 1.

    Raises:
        ValueError: there are no values, or the share is none.
    """
    if not values:
        raise ValueError("no values")
    if not 0 < share <= 1:
        raise ValueError(f"a share is above 0 and up to 1, not {share}")
    return sorted(values)[math.ceil(share * len(values)) - 1]


def repetitions(scale: Mapping[str, Any]) -> str:
    """Return how often a run of this scale took what goals compare, in words."""
    runs = scale["repeat"]
    others = {"latencies": "repeat_latency", "numbers of processes": "repeat_scaling"}
    more = [f"{scale[key]} of {what}" for what, key in others.items() if scale.get(key, runs) != runs]
    return f"{runs} alternating runs" + (f" ({', '.join(more)})" if more else "")
