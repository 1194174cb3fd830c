"""Which event loop a worker lives in: the host program's, or the fastest there is in a process of its own.

Owns the choice alone; running the loop is the worker's.
"""

from __future__ import annotations

import asyncio
import warnings

__all__ = ["ensure_event_loop"]


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
