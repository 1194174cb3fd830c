"""How many attempts run at once outside the event loop, in threads or in processes, and which of them wait.

Owns the places of one pool, the line in front of them, and the pace at which jobs go back to their queue that would
make the line too long: a worker claims without knowing what it will get, and whoever waits here holds a slot and a
lease that another worker has use for. Knows neither threads nor processes.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque

from common.errors import BarqueError
from workers.clock import ServerClock

__all__ = ["NoPlaceLeft", "Places"]

_SOONEST_MS = 250
"""Until a job that was given back is due again, at least; and as much again by chance, so that a fleet does not beat
in time."""

_LEAST_APART_MS = 1.0
_MOST_APART_MS = 20.0
"""Between two jobs that were given back. However many there are, they cost a worker fifty claims a second, or, where
they are short, as many as it can run twice over: places stand never empty for want of a job that is due."""

_WEIGHT = 0.1
"""Of the newest attempt in the average of how long they take."""

_MOST_WAIT_MS = 1000
_MOST_IN_LINE = 16
"""As many wait as will probably have their turn within that time, at the most so many for each place; and one for
each in any case, so that no place stands empty between two claims."""


class NoPlaceLeft(BarqueError):
    """Every place is held by work that was given up and runs on. Retried; another worker may have places."""


class Places:
    """So many places, taken in the order of coming.

    Args:
        size: places.
        none_left: what to say to whoever wants one when all were closed.

    Attributes:
        taken: places that are held now.
        gives_back: whether the line is ever full; otherwise all wait, however many.
    """

    def __init__(self, size: int, none_left: str = "no place is left") -> None:
        self.size = size
        self.taken = 0
        self.gives_back = True
        self._none_left = none_left
        self._line: deque[asyncio.Future[None]] = deque()
        self._next_slot_ms = 0.0
        self._average_ms: float | None = None

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._line)

    @property
    def full(self) -> bool:
        """Whether whoever comes now would wait for long, or for ever, and had better go elsewhere."""
        if self.taken < self.size or not self.gives_back:
            return False
        each = 1.0
        if self._average_ms is not None:
            each = min(_MOST_IN_LINE, max(each, _MOST_WAIT_MS / max(self._average_ms, 1.0)))
        return len(self._line) >= each * self.size

    async def enter(self) -> None:
        """Take a place, waiting for one if need be; give it back with `leave`.

        Raises:
            NoPlaceLeft: there is none, and none will come free by itself.
        """
        if self.size <= 0:
            raise NoPlaceLeft(self._none_left)
        if self.taken < self.size and not self._line:
            self.taken += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            await place
        except BaseException:
            if place in self._line:
                self._line.remove(place)
            elif not place.cancelled() and place.exception() is None:
                self.leave()  # it was given the place in the very step in which it was cancelled
            raise

    def leave(self, seconds: float | None = None) -> None:
        """Give a place back; the first in the line has it.

        Args:
            seconds: for how long it was held, where that tells how long others will hold theirs.
        """
        self.taken -= 1
        if seconds is not None:
            newest = seconds * 1000
            average = newest if self._average_ms is None else self._average_ms
            self._average_ms = average + _WEIGHT * (newest - average)
        self._admit()

    def close_one(self) -> None:
        """Have one place fewer; who stands in the line has it said when that was the last."""
        self.size -= 1
        while self.size <= 0 and (first := self._first()) is not None:
            first.set_exception(NoPlaceLeft(self._none_left))

    def open_one(self) -> None:
        """Have one place more."""
        self.size += 1
        self._admit()

    def due_again(self, clock: ServerClock) -> str:
        """Return when a job that finds the line full is due again, as a score: Unix ms."""
        apart = _MOST_APART_MS
        if self._average_ms is not None:
            apart = min(apart, max(_LEAST_APART_MS, self._average_ms / max(1, self.size) / 2))
        soonest = clock.now_ms() + _SOONEST_MS * (1 + random.random())  # noqa: S311 - no secret
        self._next_slot_ms = max(soonest, self._next_slot_ms + apart)
        return str(round(self._next_slot_ms))

    def _admit(self) -> None:
        while self.taken < self.size and (first := self._first()) is not None:
            self.taken += 1
            first.set_result(None)

    def _first(self) -> asyncio.Future[None] | None:
        """Take the first one who still waits out of the line: who was cancelled stands there until its next step."""
        while self._line:
            first = self._line.popleft()
            if not first.done():
                return first
        return None
