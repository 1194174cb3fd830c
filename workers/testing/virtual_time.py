"""A clock that can be set ahead: what `time.time()` says, in this process, while it is in force.

Owns that one function and its twin `time.time_ns()`. They are what Barque's producers and the server in memory ask;
`time.monotonic()`, by which event loops wait, and `datetime.now()`, which is written in C, go on as they are.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Self

__all__ = ["VirtualTime"]


class VirtualTime:
    """The time of day, and as much more as it was moved by. As a context manager, for one use at a time."""

    def __init__(self) -> None:
        self._ahead_ns = 0
        self._time, self._time_ns = time.time, time.time_ns

    def __enter__(self) -> Self:
        self._time, self._time_ns = time.time, time.time_ns
        time.time, time.time_ns = self.now, self.now_ns
        return self

    def __exit__(self, *_: object) -> None:
        time.time, time.time_ns = self._time, self._time_ns

    def now(self) -> float:
        """Return Unix seconds."""
        return self._time() + self._ahead_ns / 1e9

    def now_ns(self) -> int:
        """Return Unix nanoseconds."""
        return self._time_ns() + self._ahead_ns

    def moment(self) -> datetime:
        """Return the time of day, in UTC."""
        return datetime.fromtimestamp(self.now(), tz=UTC)

    def move_to(self, unix_ms: float) -> None:
        """Set the clock ahead to this time; it never goes back."""
        self._ahead_ns += max(0, int(unix_ms * 1e6) - self.now_ns())
