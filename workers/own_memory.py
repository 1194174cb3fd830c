"""How much memory this process has: for whoever replaces it, tells of it, or looks for garbage when it has grown.

Owns the asking alone. Of other processes, and of what a limit means, it knows nothing.
"""

from __future__ import annotations

import mmap
import sys

__all__ = ["memory", "memory_or_most"]


def memory() -> int | None:
    """Return the bytes of memory this process has in use; None where the system does not say at once."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:  # noqa: PTH123 - a thousand times a second, maybe
            return int(file.read(128).split()[1]) * mmap.PAGESIZE
    except (OSError, ValueError, IndexError):  # no Linux
        return None


def memory_or_most() -> int:
    """Return the bytes this process has in use; where that is not to be had, the most it ever had."""
    now = memory()
    if now is not None:
        return now
    import resource  # noqa: PLC0415 - where there is no /proc alone

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
