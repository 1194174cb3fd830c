"""Amounts of memory as people write them: `536870912`, `512M`, `1.5G`.

Owns the reading alone; how much may be asked for is said where it is used. K, M and G are powers of 1024, as `ulimit`,
Docker and systemd have them, with or without `B` or `iB` behind.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["read_size"]

_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}

_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([KMGT]?)(?:I?B)?", re.ASCII | re.IGNORECASE)


def read_size(text: str) -> int:
    """Return an amount of memory in bytes.

    Raises:
        ValueError: it is none; the message quotes it.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text[:40]!r} is no amount of memory: write bytes, or 512M, 1.5G")
    return int(float(found[1]) * _UNITS[found[2].upper()])
