"""How often a worker process looks for cyclic garbage.

What is there when the work begins stays to the end: modules, tasks, pools. Looking through it again and again for
garbage, each 700 new objects, is a tenth of what a small job costs. Owns that it is set aside, and the interval.

Most jobs leave no cycles behind, and then a look finds nothing. But a few objects that do may hold megabytes, the body
of a response in the traceback of an error, say: with a wide interval thousands of jobs' would be held at once. So the
interval grows while looks find little, and is Python's own again as soon as one finds more.
"""

from __future__ import annotations

import gc

__all__ = ["settle"]

_WIDEST = 10_000
"""Containers made, and not freed, before the youngest are looked through: some hundred jobs under way."""

_LITTLE = 0.05
"""How much of what is looked through may be garbage for the interval to grow."""


def settle() -> None:
    """Set aside what lives as long as the process. For a process of one's own, once, when it has started up.

    A program that has set thresholds, or switched the collector off, knows better and is left alone.
    """
    if not gc.isenabled() or gc.get_threshold()[0] not in {700, 2000}:  # Python's own, by its version
        return
    if any(isinstance(callback, _Interval) for callback in gc.callbacks):
        return
    gc.collect()
    gc.freeze()
    gc.callbacks.append(_Interval(gc.get_threshold()[0]))


class _Interval:
    """Told of each look, sets when the next one is."""

    def __init__(self, least: int) -> None:
        self._least = self._now = least

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase != "stop":
            return
        now, *older = gc.get_threshold()
        if now != self._now:  # the program has set one of its own since
            return
        much = info["collected"] > _LITTLE * now
        self._now = self._least if much else min(2 * now, _WIDEST)
        gc.set_threshold(self._now, *older)
