"""How long to wait before asking an absent server again."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Growing delays with jitter, so that a fleet does not come back in step.

    Each delay is drawn between half and all of 50 ms, 100 ms, … up to 2 s.
    """

    def __init__(self, first: float = 0.05, longest: float = 2.0) -> None:
        self._first = first
        self._longest = longest
        self._failures = 0

    def next(self) -> float:
        """Return seconds to wait after one more failure."""
        delay: float = min(self._first * 2.0 ** min(self._failures, 16), self._longest)
        self._failures += 1
        return random.uniform(delay / 2, delay)  # noqa: S311

    def reset(self) -> None:
        """Start over: it worked."""
        self._failures = 0
