"""What the supervisor knows of its processes: each child, and the places they stand in.

Owns the records alone. What becomes of them is fleet.py's, how processes are started and heard processes.py's.
"""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

__all__ = ["Child", "Place", "Stage", "Starter", "delay", "how_it_ended"]

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 60.0
"""Seconds before a process is started again: drawn between half and all of 0.5, 1, 2, … up to 60."""


class Stage(Enum):
    """Where a process stands in its life: see the drawing in fleet.py."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"


class Starter(Protocol):
    """Starts processes, and sends them signals."""

    def start(self, place: int) -> int:
        """Start a worker process; return its pid.

        Raises:
            OSError: the system gives none.
        """
        ...

    def send(self, pid: int, signum: int) -> None:
        """Send a signal; does nothing where the process has ended."""
        ...


@dataclass(slots=True)
class Child:
    """One process. Times are those of the supervisor's clock.

    Attributes:
        told: how many signals it was sent that ask it to stop.
        grace: seconds that its jobs have after the first.
        kill_at: when it is ended by force.
        why: what it leaves for.
    """

    pid: int
    place: int
    started: float
    stage: Stage = Stage.STARTING
    ready: float = 0.0
    told: int = 0
    grace: float = 0.0
    kill_at: float | None = None
    why: str = ""


@dataclass(slots=True)
class Place:
    """One of the processes that there are to be, whichever process that is.

    Attributes:
        number: from 1.
        current: the process that stands in it; None where there is none now.
        successor: the one that starts to take its place.
        failures: how often in a row it ended by itself, or did not become ready.
        start_at: when the next one is started; None where that waits for something else.
        done: its burst is.
        last: how the last one ended, in words.
    """

    number: int
    current: Child | None = None
    successor: Child | None = None
    failures: int = 0
    start_at: float | None = None
    done: bool = False
    last: str = ""


def delay(failures: int) -> float:
    """Return seconds to wait after so many failures in a row."""
    longest = min(_FIRST_DELAY * 2.0 ** min(failures - 1, 16), _LONGEST_DELAY)
    return random.uniform(longest / 2, longest)  # noqa: S311


def how_it_ended(code: int) -> str:
    """Return an exit code as `subprocess` has it in words: `exit code 1`, `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}"
