"""Timeouts for thousands of attempts on one timer.

Owns a heap of deadlines and the one `call_at` for the earliest. A timer per job would cost more than most jobs'
own bookkeeping; here a job costs one heap push. Knows no Redis.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from workers.attempt import Attempt

__all__ = ["Deadlines"]

_WORTH_SWEEPING = 1000


class Deadlines:
    """Call back when an attempt outlives its deadline.

    An attempt that ends in time stays in the heap until its deadline passes, or until more than half of the heap
    has ended: then it is swept, so that memory follows the attempts that run, not the jobs done within a timeout.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, overdue: Callable[[Attempt], None]) -> None:
        self._loop = loop
        self._overdue = overdue
        self._heap: list[tuple[float, int, Attempt]] = []
        self._order = count()  # attempts do not compare
        self._timer: asyncio.TimerHandle | None = None
        self._ended = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, attempt: Attempt, at: float) -> None:
        """Watch an attempt until `at`, in the event loop's time."""
        heapq.heappush(self._heap, (at, next(self._order), attempt))
        if self._heap[0][2] is attempt:
            self._arm()

    def note_end(self) -> None:
        """Take note that a watched attempt has ended."""
        self._ended += 1
        if self._ended > _WORTH_SWEEPING and self._ended * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2].finished]
            heapq.heapify(self._heap)
            self._ended = 0

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._heap.clear()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._heap[0][0], self._fire) if self._heap else None

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].finished):
            _, _, attempt = heapq.heappop(self._heap)
            if attempt.finished:
                self._ended = max(0, self._ended - 1)
            else:
                self._overdue(attempt)
        self._arm()
