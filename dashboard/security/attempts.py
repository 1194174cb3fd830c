"""How often an address may be wrong about who it is: guessing passwords has to be slow.

Owns the count, in memory: one process serves a dashboard, and a restart forgives.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

__all__ = ["Attempts"]

_WINDOW = 60.0
_MOST_ADDRESSES = 10_000


class Attempts:
    """Counts wrong credentials.

    Args:
        limit: so many an address may send within a minute; after that none is looked at until the first is a minute
            old, a right one neither, since else guessing would go on.
        clock: tells the time in seconds.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Return the seconds until credentials from this address are looked at again; 0 if they are now."""
        failures = self._failures.get(address)
        if failures is None:
            return 0.0
        now = self._clock()
        while failures and now - failures[0] >= _WINDOW:
            failures.popleft()
        if not failures:
            del self._failures[address]
        if len(failures) < self._limit:
            return 0.0
        return _WINDOW - (now - failures[0])

    def failed(self, address: str) -> None:
        """Note a wrong credential."""
        self._failures.setdefault(address, deque(maxlen=self._limit)).append(self._clock())
        self._failures.move_to_end(address)
        while len(self._failures) > _MOST_ADDRESSES:
            self._failures.popitem(last=False)
