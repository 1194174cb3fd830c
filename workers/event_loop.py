"""The event loop a worker lives in: the host program's, or the fastest there is in a process of its own.

Owns the choice, and that running it ends with the worker and not with one of its jobs.
"""

from __future__ import annotations

import asyncio
import signal
import warnings

import structlog

__all__ = ["ensure_event_loop", "run_until_ended"]

log = structlog.get_logger("barque.worker")


def ensure_event_loop(*, own_process: bool) -> None:
    """Give the worker an event loop to live in, where none is running: uvloop's, in a process of its own.

    arq's constructor takes the current event loop, and newer Pythons no longer make one by themselves.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if own_process:
            asyncio.set_event_loop(_fastest_loop())
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                asyncio.get_event_loop()  # one the host program has set stays
            except RuntimeError:
                asyncio.set_event_loop(_fastest_loop())


def _fastest_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - it exists on some platforms only
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run_until_ended(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], *, handles_signals: bool) -> None:
    """Run the event loop until this task of the worker's own has ended.

    A SystemExit in any asyncio task stops the loop it runs in. Here it may come from a task that a job started
    (`asyncio.wait_for` starts one), and one job must not end the others.

    Args:
        handles_signals: the worker handles SIGINT, so that a KeyboardInterrupt is a task's own and not Ctrl-C's.
    """
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            handled = handles_signals and signal.getsignal(signal.SIGINT) is not signal.default_int_handler
            if task.done() or (isinstance(error, KeyboardInterrupt) and not handled):
                raise
            log.exception("exit_in_a_task", error=f"{type(error).__name__}: {error}")
