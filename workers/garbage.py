"""How often a worker process looks for cyclic garbage.

What is there when the work begins stays to the end: modules, tasks, pools. Looking through it again and again for
garbage, each 700 new objects, is a tenth of what a small job costs. Owns that it is set aside, and a wider interval.
"""

from __future__ import annotations

import gc

__all__ = ["settle"]

_NEW_OBJECTS = 10_000
"""Containers made, and not freed, before the youngest are looked through: some hundred jobs under way."""


def settle() -> None:
    """Set aside what lives as long as the process. For a process of one's own, once, when it has started up.

    A program that has set thresholds, or switched the collector off, knows better and is left alone.
    """
    if not gc.isenabled() or gc.get_threshold()[0] not in {700, 2000}:  # Python's own, by its version
        return
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
