"""The server's clock, as this worker knows it: clocks of many hosts never mix."""

from __future__ import annotations

import time

__all__ = ["ServerClock"]


class ServerClock:
    """Estimate the server's time between two replies that carried it.

    The estimate is late by at most a round trip: the reply is taken as if it arrived the moment it was made.
    """

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = time.time() * 1000 - time.perf_counter() * 1000

    def set(self, now_ms: int) -> None:
        """Take note of the server's time, just received, in Unix ms."""
        self._offset = now_ms - time.perf_counter() * 1000

    def now_ms(self) -> int:
        """Return the server's time in Unix ms."""
        return int(time.perf_counter() * 1000 + self._offset)

    def at(self, moment: float) -> int:
        """Return what the server's time was, in Unix ms, when `time.perf_counter()` gave `moment`."""
        return int(moment * 1000 + self._offset)
