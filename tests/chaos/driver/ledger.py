"""Lines that the processes under test append to files of their own, for the oracle to read.

Owns the format. A line is in the kernel's hands when `write` returns, so a SIGKILL of its process loses none. Times
are of the monotonic clock, which all processes of a machine share and which no wrong `time.time` touches.

    s <time> <job id> <attempt>             an attempt starts
    e <time> <job id> <attempt> <how>       it ends: done, cancelled, or raised
    b <from> <to>                           the event loop stood still
    a <time> <job id> <sent at> <delay ms>  an enqueue was acknowledged; sent at: its first try
    u <time> <job id>                       an enqueue raised: it may be there or not
    r <time>                                the process is ready
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["FOLDER", "LABEL", "Ledger", "ledger_of_process"]

FOLDER = "CHAOS_LEDGER"
"""Environment variable: the folder of the ledgers."""

LABEL = "CHAOS_LABEL"
"""Environment variable: what this process is called."""


class Ledger:
    """One process's file."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, kind: str, *words: object) -> None:
        """Append a line with the time it is now."""
        self.note(kind, f"{time.monotonic():.6f}", *words)

    def note(self, kind: str, *words: object) -> None:
        """Append a line."""
        os.write(self._file, " ".join(map(str, (kind, *words))).encode() + b"\n")

    def first(self, job_id: str) -> bool:
        """Whether this is the first time that any process asks this of this job."""
        try:
            os.close(os.open(self._folder / f"{job_id}.begun", os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return False
        return True

    async def told(self, name: str) -> None:
        """Wait until some process has asked `first` of this name."""
        while not (self._folder / f"{name}.begun").exists():
            await asyncio.sleep(0.005)

    @contextlib.contextmanager
    def attempt(self, job_id: str, number: int) -> Iterator[None]:
        """Record the start of an attempt, and its end however it ends."""
        self.write("s", job_id, number)
        try:
            yield
        except asyncio.CancelledError:
            self.write("e", job_id, number, "cancelled")
            raise
        except BaseException:
            self.write("e", job_id, number, "raised")
            raise
        self.write("e", job_id, number, "done")


@functools.cache
def ledger_of_process() -> Ledger:
    """Return the ledger that the environment names."""
    return Ledger(Path(os.environ[FOLDER]) / f"{os.environ[LABEL]}.ledger")
