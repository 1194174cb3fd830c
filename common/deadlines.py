"""Timeouts for thousands of things on one timer: attempts that run, results that are waited for.

Owns a heap of deadlines and the one `call_at` for the earliest. A timer per job would cost more than most jobs'
own bookkeeping; here most cost a place in a list, as they end before anybody looks. Knows no Redis.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from math import inf
from typing import Generic, Protocol, TypeVar

__all__ = ["Deadlines"]

_MOST_NEW = 250
"""Things that are not in the heap yet, at the most: those of them that have ended by then never come there."""

_WORTH_SWEEPING = 1000


class _Watched(Protocol):
    """What has a deadline.

    Attributes:
        finished: whether it has ended, so that its deadline is of no interest.
    """

    finished: bool


W = TypeVar("W", bound=_Watched)


class Deadlines(Generic[W]):
    """Call back when something outlives its deadline.

    What ends in time is forgotten when it is looked at next: with the new ones, when there are many of
    those; in the heap, when that has grown to twice what was left of it by the last sweep, or when its deadline
    passes. So memory follows what is under way, not what was done within a timeout.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, overdue: Callable[[W], None]) -> None:
        self._loop = loop
        self._overdue = overdue
        self._new: list[tuple[float, W]] = []
        self._heap: list[tuple[float, int, W]] = []
        self._order = count()  # what is watched does not compare
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = inf
        self._sweep_past = _WORTH_SWEEPING

    def __len__(self) -> int:
        return len(self._new) + len(self._heap)

    def add(self, watched: W, at: float) -> None:
        """Watch something until `at`, in the event loop's time, or until it is `finished`."""
        self._new.append((at, watched))
        if at < self._looks_at:
            self._look_at(at)
        if len(self._new) > _MOST_NEW:
            self._sort_in()

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._looks_at = inf
        self._new.clear()
        self._heap.clear()

    def _sort_in(self) -> None:
        new, self._new = self._new, []
        for at, watched in new:
            if not watched.finished:
                heapq.heappush(self._heap, (at, next(self._order), watched))
        if len(self._heap) > self._sweep_past:
            self._heap = [entry for entry in self._heap if not entry[2].finished]
            heapq.heapify(self._heap)
            self._sweep_past = max(_WORTH_SWEEPING, 2 * len(self._heap))

    def _look_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._fire)
        self._looks_at = at

    def _fire(self) -> None:
        self._timer = None
        self._looks_at = -inf  # what is added meanwhile is looked at here
        now = self._loop.time()
        try:
            while (watched := self._past(now)) is not None:
                self._overdue(watched)
        finally:
            self._looks_at = inf
            self._sort_in()
            if self._heap:
                self._look_at(self._heap[0][0])

    def _past(self, now: float) -> W | None:
        """Take the next one whose deadline has passed, and those before it that have ended."""
        self._sort_in()
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].finished):
            _, _, watched = heapq.heappop(self._heap)
            if not watched.finished:
                return watched
        return None
