"""One timer for limits that are hardly ever reached.

A timer an exchange is a handle made, put into a heap and cancelled again, thousands of times a second. Where one thing
is under way at a time, one timer does that is only looked at when it goes off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Alarm"]


class Alarm:
    """Calls back once a time has passed that may be set anew, or taken back, as often as one likes.

    Args:
        late: called when the time that was set last has passed. It must not raise.
    """

    __slots__ = ("_late", "_timer", "_until")

    def __init__(self, late: Callable[[], None]) -> None:
        self._late = late
        self._until: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, until: float) -> None:
        """Call back at this time of the event loop's, unless another is set by then.

        A time that is earlier than one that was set before is kept at that one: it is for times that only grow.
        """
        self._until = until
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(until, self._go_off)

    def clear(self) -> None:
        """Take back what was set."""
        self._until = None

    def stop(self) -> None:
        """Take back what was set, and the timer with it."""
        self._until = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_off(self) -> None:
        self._timer = None
        if self._until is None:
            return
        loop = asyncio.get_running_loop()
        if self._until > loop.time():
            self._timer = loop.call_at(self._until, self._go_off)
            return
        self._until = None
        self._late()
