"""What is done some times a second beside the jobs: cron, reports, looks for what nobody tells of.

Owns when it is done, and what becomes of it when the server is away. What it is, is the engine's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from common.redis.connection import TROUBLE, UNAVAILABLE
from common.redis.reasons import reason
from workers.backoff import Backoff

__all__ = ["Heartbeat"]

log = structlog.get_logger("barque.engine")


class Heartbeat:
    """Calls something again and again, less often while the server does not take it.

    Args:
        every: seconds between two beats.
        patience: seconds one may take.

    Attributes:
        trouble: what kept the last one from the server, by its type; "" where nothing did, or the server refused it.
    """

    def __init__(self, work: Callable[[], Awaitable[None]], *, every: float, patience: float) -> None:
        self._work = work
        self._every = every
        self._patience = patience
        self._beating = asyncio.Lock()
        self._ended = False
        self.trouble = ""

    async def run(self) -> None:
        """Beat until cancelled."""
        backoff = Backoff()
        longer = 0.0
        while True:
            await asyncio.sleep(self._every + longer)
            if await self.beat():
                backoff.reset()
                longer = 0.0
            else:
                longer = backoff.next()

    async def end(self, within: float) -> None:
        """Beat no more; wait so many seconds for the one under way.

        Cut off, what it has written would be executed some time later: a report of a worker that has signed off.
        """
        self._ended = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within), self._beating:
                pass

    async def beat(self) -> bool:
        """Do what is due; return whether the server took it."""
        async with self._beating:
            return self._ended or await self._beat()

    async def _beat(self) -> bool:
        try:
            async with asyncio.timeout(self._patience):
                await self._work()
        except TROUBLE as error:
            # Not the error's own text: that of a pipeline quotes the command, and so what a cron job is given.
            log.warning("heartbeat_failed", error=f"{type(error).__name__}: {reason(error)[0]}")
            self.trouble = type(error).__name__ if isinstance(error, UNAVAILABLE) else ""
            return False
        self.trouble = ""
        return True
