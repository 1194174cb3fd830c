"""See from another thread whether an event loop still turns, and what keeps it if not.

Owns the pings and what is logged about a loop that does not answer them. Decides nothing: that a worker whose loop
stands still for too long gives its leases up is leases.py's.
"""

from __future__ import annotations

import asyncio
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

__all__ = ["LoopWatch"]

log = structlog.get_logger("barque.loop")

_WORTH_SAYING = 1.0
"""Seconds without an answer after which the loop is called blocked."""

_MOST_FRAMES = 30

_ADVICE = (
    "nothing else of this worker goes on meanwhile. Where the task calls what blocks, write it as a plain `def`: it "
    "runs in a thread; or `await asyncio.to_thread(…)` that call. Where it computes: @task(cpu=True) on a plain `def`"
)


class LoopWatch:
    """Pings the event loop it is made in; `look` is called from another thread, several times a second.

    Args:
        about: tells which job an asyncio task of the loop runs, as keys for the log line. Called from that thread.
        clock: seconds, never going back.

    Attributes:
        blocks: how often the loop was called blocked.
        blocked_s: seconds for which it was, all together; of one that goes on, up to the last look.
        still: called by `look` with the seconds for which the loop has not answered, once it is called blocked.
    """

    def __init__(
        self,
        about: Callable[[asyncio.Task[Any] | None], Mapping[str, Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._about = about
        self._clock = clock
        self._sent = 0
        self._sent_at = 0.0
        self._answered = 0  # written by the loop, read by the thread
        self._said = False
        self.blocks = 0
        self.blocked_s = 0.0
        self._blocked_before = 0.0
        self.still: Callable[[float], None] | None = None
        self._lag: float | None = None
        self._worst_lag: float | None = None

    def look(self, late: float = 0.0) -> float:
        """Return for how many seconds the loop has not answered; log when that begins to be long, and its end.

        Args:
            late: seconds by which this look is later than planned: then the whole process stood still (suspended, or
                in C code that keeps the interpreter), which is no fault of the loop's.

        Raises:
            RuntimeError: the loop is closed.
        """
        now = self._clock()
        blocked = now - self._sent_at
        if self._answered == self._sent:
            if self._said:
                log.warning("event_loop_resumed", seconds=round(blocked, 1))
                self._said = False
                self.blocked_s = self._blocked_before = self._blocked_before + blocked
            self._sent += 1
            self._sent_at = now
            self._loop.call_soon_threadsafe(self._answer, self._sent)
            return 0.0
        if late > _WORTH_SAYING:
            self._sent_at = min(now, self._sent_at + late)
            blocked = now - self._sent_at
        if blocked >= _WORTH_SAYING and not self._said:
            self._said = True
            self.blocked_s = self._blocked_before + blocked  # first: who sees the count is to see this, too
            self.blocks += 1
            self._say(blocked)
        if self._said:
            self.blocked_s = self._blocked_before + blocked
            if self.still is not None:
                self.still(blocked)
        return blocked

    def take_lag(self) -> tuple[float | None, float | None]:
        """Return by how many seconds the loop was last late with its answer, and at the worst since this was asked."""
        worst, self._worst_lag = self._worst_lag, None
        return self._lag, worst

    def _answer(self, number: int) -> None:
        self._lag = max(0.0, self._clock() - self._sent_at)
        self._worst_lag = max(self._lag, self._worst_lag or 0.0)
        self._answered = number

    def _say(self, seconds: float) -> None:
        try:
            about = self._about(asyncio.current_task(self._loop))
        except Exception:  # what it reads belongs to the other thread
            about = {}
        # Places in the code alone, no values: arguments are never logged.
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - documented, for exactly this
        frames = traceback.extract_stack(frame)[-_MOST_FRAMES:] if frame is not None else []
        log.warning(
            "event_loop_blocked",
            **about,
            seconds=round(seconds, 1),
            place=_place(frames),
            advice=_ADVICE,
            stack="".join(traceback.format_list(frames)),
        )


def _place(frames: Sequence[traceback.FrameSummary]) -> str:
    """Return `file:line in function` of the innermost frame that is the program's own, as far as one is."""
    if not frames:
        return ""
    paths = sysconfig.get_paths()
    installed = tuple({paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    own = [frame for frame in frames if not frame.filename.startswith((*installed, "<frozen"))]
    found = (own or frames)[-1]
    return f"{found.filename}:{found.lineno} in {found.name}"
