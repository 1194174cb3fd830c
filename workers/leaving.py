"""The last steps of a worker that stops, each bounded, so that the whole stop is.

Owns how much time there is. What the steps are is worker.py's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import structlog

__all__ = ["LAST_WORD", "LEAVING", "Leaving", "whatever_happens"]

log = structlog.get_logger("barque.worker")

LEAVING = 6.0
"""Seconds a worker takes at most to leave in order, after its grace period."""

LAST_WORD = 0.5
"""Seconds for each of the last commands to the server."""

_LEAST = 0.5
"""Seconds a step has even where those before it took all the time there was."""


class Leaving:
    """When a worker that was told to stop must be gone."""

    def __init__(self) -> None:
        self._by: float | None = None

    def begin(self, grace: float) -> None:
        """Take note that the worker is to be gone some seconds after its grace period."""
        self._by = time.monotonic() + grace + LEAVING

    def reset(self) -> None:
        """Forget it: the worker may be started again."""
        self._by = None

    def left(self) -> float | None:
        """Return the seconds there are; None where nobody told this worker to stop, and so nobody waits for it."""
        return None if self._by is None else max(_LEAST, self._by - time.monotonic())

    async def step(self, name: str, step: Coroutine[Any, Any, Any], seconds: float | None) -> None:
        """Take a step within so many seconds; past them log `stop_step_cut_short` and go on without it."""
        task = asyncio.ensure_future(step)
        try:
            await asyncio.wait({task}, timeout=seconds)
            if task.done():
                task.result()
            else:
                log.warning("stop_step_cut_short", step=name, seconds=seconds)
        finally:
            task.cancel()  # not awaited: it may swallow that


async def whatever_happens(coroutine: Coroutine[Any, Any, None]) -> None:
    """Await to the end, even when cancelled in between; the cancellation is raised afterwards."""
    task = asyncio.ensure_future(coroutine)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
