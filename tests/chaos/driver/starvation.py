"""What a busy machine does of itself, to be told from what Barque does: processes that were not let run.

On a machine that is busy with other things a healthy worker may lose a lease because it did not get the processor, as
Linux counts it for each thread; or because the server did not answer. That is a worker that was fenced, and no defect;
but it must be seen to have been so, not supposed. Where the system does not count it (macOS), nothing is noted, and
such a second run stays unexplained.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.chaos.driver.verdict import Fault

__all__ = ["SERVER", "BusyMachine"]

SERVER = "server"
"""What the server is called among the processes; whatever holds it up holds up all."""

_LOOK_EVERY = 0.25

_STARVED = 0.25
"""Seconds a thread waited for a processor within one look that are worth noting."""


class BusyMachine:
    """Notes as faults, which nobody did on purpose, when processes were kept waiting.

    Args:
        faults: where to note them.
        least: seconds it must have lasted to explain a second run.
    """

    def __init__(self, faults: list[Fault], *, least: float) -> None:
        self._faults = faults
        self._least = least
        self._waited: dict[tuple[int, str], int] = {}
        self._looked_at = time.monotonic()

    def look(self, pids: dict[str, int]) -> None:
        """Look at these processes, if the last look is some time ago; to be called often.

        Args:
            pids: process ids by label.
        """
        since, now = self._looked_at, time.monotonic()
        if now - since < _LOOK_EVERY:
            return
        self._looked_at = now
        waits = {label: self._longest_wait(pid) for label, pid in pids.items()}
        if now - since > 2 * _LOOK_EVERY + _STARVED:  # we ourselves stood still, and so did all, perhaps
            waits[SERVER] = now - since
        for label, waited in waits.items():
            if waited >= _STARVED:
                self._note("starved of the processor", None if label == SERVER else label, since, now)

    def server_stood_still(self, since: float, to: float) -> None:
        """Note that the server gave no answer in this time."""
        self._note("server stood still", None, since, to)

    def _note(self, what: str, worker: str | None, since: float, to: float) -> None:
        """Note it, as one with what was noted of the same process just before."""
        for fault in self._faults:
            if (fault.what, fault.worker) == (what, worker) and fault.ended >= since - _LOOK_EVERY:
                fault.ended = to
                return
        self._faults.append(Fault(what, worker, since, to, least=self._least, counted=False))

    def _longest_wait(self, pid: int) -> float:
        longest = 0
        for thread in Path(f"/proc/{pid}/task").glob("*"):
            try:
                # Nanoseconds on a processor, nanoseconds of waiting for one, times it was given one.
                waited = int((thread / "schedstat").read_text().split()[1])
            except (OSError, IndexError, ValueError):  # it ended, or this system does not count
                continue
            before = self._waited.get((pid, thread.name), 0)
            self._waited[pid, thread.name] = waited
            longest = max(longest, waited - before)
        return longest / 1e9
