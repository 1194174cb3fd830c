"""Which files the demo's server fails on, how, and how slow it is: decided by a seed, before anything runs.

Pure: no clock and no chance, so that the same seed and files misbehave the same way on every machine.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

__all__ = ["Fault", "ServerPlan", "plan_server"]

# The share of files that see each fault. Together about one in seven, as on a bad day.
_ERRORS = 0.08
_BUSY = 0.05
_STALLS = 0.01


class Fault(StrEnum):
    """What the server does to the first request, or requests, for a file."""

    ERROR = "error"
    """500, once or twice."""
    BUSY = "busy"
    """429 with `Retry-After: 1`, once."""
    STALL = "stall"
    """Silence past the task's timeout, once."""


class ServerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All the server process is told.

    Attributes:
        folder: where the files are.
        names: the files it serves, relative to the folder; it serves no other.
        fastest, slowest: bounds of an answer's delay, seconds.
        stall: seconds of silence of a stalled answer.
        faults: the misbehaviour of the files that have one.
        corrupt: files whose last byte is changed on the way out.
    """

    folder: str
    names: list[str]
    seed: int
    fastest: float
    slowest: float
    stall: float
    faults: dict[str, Fault]
    corrupt: list[str]

    def fault(self, name: str, request: int) -> Fault | None:
        """Return what happens to a request for a file; requests for it are numbered from 1."""
        fault = self.faults.get(name)
        times = 2 if fault is Fault.ERROR and _share(self.seed, "twice", name) < 0.25 else 1
        return fault if request <= times else None

    def delay(self, name: str, request: int) -> float:
        """Return the seconds until a request is answered: most are short, some long, as on a network."""
        share = _share(self.seed, "delay", name, str(request))
        return self.fastest * math.exp(share * math.log(self.slowest / self.fastest))


def plan_server(folder: str, names: Sequence[str], *, seed: int, timeout: float, corrupt: int = 0) -> ServerPlan:
    """Plan the server's behaviour. Each fault falls on its share of the files, and on one at least.

    Args:
        timeout: seconds an attempt has; ordinary answers come well within, stalled ones well after.
        corrupt: how many files to serve wrong.
    """
    order = _shuffled(names, seed, "fault")
    counts = {Fault.STALL: _STALLS, Fault.BUSY: _BUSY, Fault.ERROR: _ERRORS}
    faults: dict[str, Fault] = {}
    for fault, share in counts.items():
        many = max(1, round(share * len(names)))
        faults |= dict.fromkeys(order[len(faults) : len(faults) + many], fault)
    return ServerPlan(
        folder=folder,
        names=list(names),
        seed=seed,
        fastest=min(0.02, timeout * 0.02),
        slowest=min(1.5, timeout * 0.3),
        stall=timeout * 3,
        faults=faults,
        corrupt=_shuffled(names, seed, "corrupt")[:corrupt],
    )


def _shuffled(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    return sorted(names, key=lambda name: (_share(seed, purpose, name), name))


def _share(seed: int, *words: str) -> float:
    """Return a number from 0 up to 1 that looks random and depends on nothing but the arguments."""
    digest = hashlib.sha256("\0".join((str(seed), *words)).encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:7]) / 2**56
