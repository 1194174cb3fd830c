"""The one producer behind pages and API: opened on first use, and again once a server that was away is back.

Owns the connection. What is asked over it stands with who asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from common.errors import RedisUnavailable
from common.settings import Settings
from producer import Producer

__all__ = ["Source"]

T = TypeVar("T")

_ANSWER_WITHIN = 10.0
"""Seconds the server has for an answer: somebody looks at a page that does not come."""

_NOT_AGAIN_WITHIN = 0.5
"""Seconds for which a server that could not be reached is not tried again: each request would wait for its timeout."""


class Source:
    """Gives out the producer.

    Args:
        settings: where the server is.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._producer: Producer | None = None
        self._opening = asyncio.Lock()
        self._failed: tuple[float, RedisUnavailable] | None = None

    async def producer(self) -> Producer:
        """Return the producer, connected.

        Raises:
            RedisUnavailable: the server cannot be reached now; the next call tries again.
            ConfigurationError: the settings can connect to no server.
        """
        if (open_already := self._producer) is not None:
            return open_already
        async with self._opening:
            return await self._open()

    async def ask(self, asked: str, question: Callable[[Producer], Awaitable[T]]) -> T:
        """Return what is asked of the producer, within the time there is for an answer.

        Args:
            asked: what it is, after "it was asked for".

        Raises:
            RedisUnavailable: the server cannot be reached, gives no answer in time, or refuses.
        """
        producer = await self.producer()
        return await producer.answers.of(question(producer), asked)

    async def _open(self) -> Producer:
        if self._producer is not None:  # by who had the lock before
            return self._producer
        now = asyncio.get_running_loop().time()
        if self._failed is not None and now - self._failed[0] < _NOT_AGAIN_WITHIN:
            raise self._failed[1]
        producer = Producer(settings=self.settings, answer_within=_ANSWER_WITHIN)
        try:
            await producer.connect()
        except RedisUnavailable as error:
            self._failed = (asyncio.get_running_loop().time(), error)
            raise
        self._producer, self._failed = producer, None
        return producer

    async def aclose(self) -> None:
        """Close the connection."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.aclose()
