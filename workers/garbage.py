"""How often a worker process looks for cyclic garbage.

What is there when the work begins stays to the end: modules, tasks, pools. Looking through it again and again for
garbage, each 700 new objects, is a tenth of what a small job costs. Owns that it is set aside, and the interval.

Most jobs leave no cycles behind, and then a look finds nothing. But a few objects that do may hold megabytes, the body
of a response in the traceback of an error, say: with a wide interval thousands of jobs' would be held at once. So the
interval grows while looks find little, and is Python's own again as soon as one finds more. And where the process has
grown by much since the last look, there is one at once, however few objects were made.
"""

from __future__ import annotations

import gc
import time

from workers.own_memory import memory

__all__ = ["look_if_grown", "settle"]

_WIDEST, _WIDEST_OF_ALL = 10_000, 25_000
"""Containers made, and not freed, before the youngest are looked through: some hundred jobs under way."""

_EACH_SLOT = 25
"""Of these, for each job that may be under way, where there are many: a job that waits is some twenty. With fewer, the
jobs that came in since make a look every few ms, at all that wait, and are no garbage."""

_LITTLE = 0.05
"""How much of what is looked through may be garbage for the interval to grow."""

_MUCH, _MUCH_OF_ALL = 64 * 1024 * 1024, 0.25
"""Bytes by which the process has grown, and as a share of what it had, for a look at once: the larger of the two."""

_SIZED_EVERY = 0.01
"""Seconds between looks at its size: it takes some us."""


def settle(slots: int) -> None:
    """Set aside what lives as long as the process. For a process of one's own, once, when it has started up.

    A program that has set thresholds, or switched the collector off, knows better and is left alone.

    Args:
        slots: jobs that may be under way at once; those of the first worker of a process count.
    """
    if _settled() is not None:
        return
    if not gc.isenabled() or gc.get_threshold()[0] not in {700, 2000}:  # Python's own, by its version
        return
    gc.collect()
    gc.freeze()
    # A wider interval is for those alone who see what it may come to.
    widest = _WIDEST if memory() is None else min(max(_WIDEST, _EACH_SLOT * slots), _WIDEST_OF_ALL)
    gc.callbacks.append(_Interval(gc.get_threshold()[0], widest))


def look_if_grown() -> None:
    """Look for garbage at once where the process is a worker's own and has grown by much; to be called as jobs end."""
    interval = _settled()
    if interval is not None:
        interval.look_if_grown()


class _Interval:
    """Told of each look, sets when the next one is."""

    def __init__(self, least: int, widest: int) -> None:
        self._least = self._now = least
        self._widest = widest
        self._resident: int | None = None  # bytes, at the least since the last look at more than the youngest
        self._size_at = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase != "stop":
            return
        if info["generation"] > 0:
            self._resident = None
        if not self._is_ours():
            return
        now, *older = gc.get_threshold()
        much = info["collected"] > _LITTLE * now
        self._now = self._least if much else min(2 * now, self._widest)
        gc.set_threshold(self._now, *older)

    def look_if_grown(self) -> None:
        """Look at what was made lately if the process has grown by much."""
        now = time.monotonic()
        if now < self._size_at:
            return
        self._size_at = now + _SIZED_EVERY
        resident = memory()
        if resident is None:
            return
        if self._resident is None or resident < self._resident:
            self._resident = resident
        elif resident - self._resident > max(_MUCH, _MUCH_OF_ALL * self._resident) and self._is_ours():
            gc.collect(1)

    def _is_ours(self) -> bool:
        """Tell whether the program has left the collector alone since."""
        return gc.isenabled() and gc.get_threshold()[0] == self._now


def _settled() -> _Interval | None:
    return next((callback for callback in gc.callbacks if isinstance(callback, _Interval)), None)
