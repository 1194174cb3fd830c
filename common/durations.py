"""Lengths of time as people write them: the one grammar that settings and the command line share.

Owns the reading alone; how long a time may be is said where it is used.
"""

from __future__ import annotations

import math
import re
from typing import Final

__all__ = ["UNITS", "as_duration", "read_seconds"]

UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds in each unit that may be written."""

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|s|m|h|d|)", re.ASCII)


def read_seconds(text: str) -> float:
    """Return a length of time in seconds: `90`, `90s`, `1.5m`, `2h`, `1d`, `500ms`.

    Raises:
        ValueError: it is none of these; the message quotes it.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text[:40]!r} is no length of time: write seconds, or 500ms, 90s, 5m, 2h, 1d")
    return float(found[1]) * UNITS.get(found[2], 1.0)


def as_duration(seconds: float) -> str:
    """Return seconds in the largest unit they are a whole number of, as `read_seconds` takes it: `365d`, `90s`."""
    for unit in ("d", "h", "m"):
        if seconds and math.isfinite(seconds) and seconds % UNITS[unit] == 0:
            return f"{seconds / UNITS[unit]:g}{unit}"
    return f"{seconds:g}s"
