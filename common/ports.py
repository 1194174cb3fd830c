"""Which ports a worker's page may have: `9464`; a range `9464-9467`, of which each takes the first free one; or 0.

Owns how that is written and checked. Imports nothing, for `barque health` reads it in a container's every probe.
"""

from __future__ import annotations

__all__ = ["read_ports"]

_MOST = 256
_WORDS = "give a port, such as 9464; a range for several processes, such as 9464-9467; or 0, which takes a free one"


def read_ports(text: str) -> range:
    """Return the ports a text names.

    Raises:
        ValueError: it names none; the message says what it takes.
    """
    first, dash, last = text.strip().partition("-")
    try:
        ports = range(_number(first), _number(last if dash else first) + 1)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no port: {_WORDS}") from None
    if not ports or (dash and ports[0] == 0):
        raise ValueError(f"{text[:40]!r} is no range of ports: {_WORDS}")
    if len(ports) > _MOST:
        raise ValueError(f"{text[:40]!r} is a range of {len(ports):,} ports: give {_MOST} at most")
    return ports


def _number(text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and int(digits[:6]) <= 65535):
        raise ValueError
    return int(digits)
