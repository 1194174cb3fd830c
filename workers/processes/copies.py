"""What becomes of a process that is forked, by a task or by multiprocessing, from a process of the pool.

Owns that such a copy is no second process of the pool: it answers for no job, keeps the line from no end, and heeds the
signals by which whoever forked it wants to end it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection

import msgspec

from workers.processes.frames import FromProcess, Logged, Raised, Returned

__all__ = ["say_in_a_copy", "watch_forks"]


class _Mask(threading.local):
    before: set[int | signal.Signals]


def watch_forks(be_a_copy: Callable[[], None], heeding: Collection[signal.Signals]) -> None:
    """Have `be_a_copy` called in whatever is forked from this process, where these signals do again what they do.

    They are held back meanwhile: one that came before that, as from a `terminate()` at once, would be lost.
    """
    mask = _Mask()

    def before() -> None:
        mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, heeding)

    def after() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask.before)

    def in_the_copy() -> None:
        be_a_copy()
        for number in heeding:  # the thread that forked is the main one here
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        after()

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=in_the_copy)


def say_in_a_copy(frame: FromProcess) -> None:
    """Do what can be done of sending this in a copy: a log line goes to standard error, an outcome ends the copy."""
    if isinstance(frame, Logged):
        with contextlib.suppress(Exception):
            fields = msgspec.msgpack.decode(frame.fields)
            sys.stderr.write(f"{logging.getLevelName(frame.level)} {frame.event} {fields}\n")
    elif isinstance(frame, Returned | Raised):
        with contextlib.suppress(Exception):
            how = frame.traceback if isinstance(frame, Raised) else "it returned"
            sys.stderr.write(f"a process that a task had forked came out of the task's function, and ends: {how}\n")
        os._exit(1)
