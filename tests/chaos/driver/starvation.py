"""Whether a process had the processor when it wanted it, as Linux counts it for each thread.

On a machine that is busy with other things a healthy worker may lose a lease because it was not let run. That is a
worker that was fenced, and no defect; but it must be seen to have been so, not supposed. Where the system does not
count this (macOS), nothing is reported, and such a second run stays unexplained.
"""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["Starvation"]


class Starvation:
    """Adds up, over a window of time, how long threads of a process were kept waiting for a processor."""

    def __init__(self) -> None:
        self._waited: dict[tuple[int, str], int] = {}
        self._looked_at = time.monotonic()

    def look(self, pids: dict[str, int]) -> tuple[float, float, dict[str, float]]:
        """Return the window since the last look, and for each process the longest wait of a thread within it.

        Args:
            pids: process ids by label.

        Returns:
            From, to, and seconds by label.
        """
        since, self._looked_at = self._looked_at, time.monotonic()
        return since, self._looked_at, {label: self._longest(pid) for label, pid in pids.items()}

    def _longest(self, pid: int) -> float:
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
