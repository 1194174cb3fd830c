"""End a worker process that was told to stop and does not.

Owns the last resort. A worker stops in order within its grace period and some seconds; but where the event loop
itself stands still (an endless loop without an await), no signal reaches it, and where a thread of the tasks' own
will not end, Python waits for it without end. Then the process is ended from a thread: its leases run out and
other workers take its jobs over. Whoever sends a third signal does not want to wait for that: it ends at once.
"""

from __future__ import annotations

import functools
import itertools
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import structlog

from workers import farewell
from workers.leaving import LEAVING

__all__ = ["Backstop"]

log = structlog.get_logger("barque.worker")

_MARGIN = 1.5

_PATIENT_SIGNALS = 2
"""The first lets running jobs end, the second gives them back; each one more is from somebody who will not wait."""


class Backstop:
    """Watches for SIGINT and SIGTERM, besides whoever handles them, and ends the process when it outlives them.

    A terminal that is closed (SIGHUP) counts as SIGTERM, unless the process is to outlive it (`nohup`).

    Args:
        grace: seconds that running jobs have after the first signal; none after the second. A third ends the process.
        leave: ends the process with an exit code, whatever else runs in it.
    """

    def __init__(self, grace: float, *, leave: Callable[[int], Any] = os._exit) -> None:
        self._grace = grace
        self._leave = leave
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()  # its `put` may be called in a signal handler
        self._before: dict[int, Any] = {}
        self._hang_ups = itertools.count()
        self._watched = threading.get_ident()
        self.stopped = False

    def start(self) -> None:
        """Begin to watch; does nothing outside the main thread, which alone may handle signals."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            # The event loop learns of a signal by a file descriptor; Python's own handler is free.
            self._before[number] = signal.getsignal(number)
            signal.signal(number, self._signalled)
            signal.siginterrupt(number, False)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
            signal.signal(signal.SIGHUP, self._hung_up)
        threading.Thread(target=self._run, name="barque-backstop", daemon=True).start()

    def _signalled(self, number: int, frame: Any) -> None:
        self._signals.put(number)
        before = self._before[number]
        if before is signal.default_int_handler:  # no event loop has taken the signal: this raises KeyboardInterrupt
            before(number, frame)
        # An event loop's own is left out. It is told by its file descriptor, and uvloop's would tell it once more.

    def _hung_up(self, number: int, frame: Any) -> None:  # noqa: ARG002 - as Python calls it
        # The kernel and the shell may both tell of one closed window, even while this runs: only the first counts.
        if next(self._hang_ups) == 0:
            signal.raise_signal(signal.SIGTERM)

    def _run(self) -> None:
        self._signals.get()
        end = time.monotonic() + self._grace + LEAVING + _MARGIN
        code, say = 1, self._say
        for more in itertools.count(2):
            try:
                number = self._signals.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if more > _PATIENT_SIGNALS:
                code, say = 128 + number, functools.partial(farewell.ended, number)
                break
            end = min(end, time.monotonic() + LEAVING + _MARGIN)
        try:
            say()
        finally:
            self._leave(0 if self.stopped else code)

    def _say(self) -> None:
        if self.stopped:
            busy = [thread.name for thread in threading.enumerate() if not thread.daemon]
            log.warning("process_ended_by_force", threads=busy)
        else:
            # Places in the code alone, no values: arguments are never logged.
            frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - documented, for exactly this
            stack = "".join(traceback.format_stack(frame)[-30:]) if frame is not None else ""
            log.error("worker_did_not_stop", seconds=self._grace + LEAVING + _MARGIN, stack=stack)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
