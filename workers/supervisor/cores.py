"""The cores this host lets us use: how many processes that is, and which of them a process keeps to.

Owns the counting alone. Looks at the cores the process may run on, and at what the container may have of them.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["can_pin", "core_of", "cores_in_use", "pin"]

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def can_pin() -> bool:
    """Return whether this platform lets a process be kept to a core."""
    return hasattr(os, "sched_setaffinity")


def cores_in_use(quota: Path = _QUOTA) -> int:
    """Return how many processes keep all cores busy that we may use."""
    usable = len(os.sched_getaffinity(0)) if can_pin() else os.cpu_count() or 1
    try:
        most, period = quota.read_text("ascii").split()
        return max(1, min(usable, math.ceil(int(most) / int(period))))
    except (OSError, ValueError):  # no container, or none that limits it ("max")
        return usable


def core_of(place: int) -> int:
    """Return the core that the process of this number, from 1, keeps to."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[(place - 1) % len(usable)]


def pin(core: int) -> None:
    """Keep this process to a core; where the host has taken it away since, it stays as it is."""
    try:
        os.sched_setaffinity(0, {core})
    except OSError:
        return
