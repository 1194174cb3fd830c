"""Connect a worker to its server when it starts, and wait for one that is away.

Owns how often that is tried and what is said of it. Containers start in any order, and a server that is restarted is
away for a moment: neither is a reason to end. A server that refuses us, for a wrong password say, is asked once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

import structlog

from common.errors import RedisUnavailable
from common.redis.connection import UNAVAILABLE, Client, open_client, unavailable
from common.settings import Settings
from workers.backoff import Backoff

__all__ = ["as_arq", "by_settings"]

log = structlog.get_logger("barque.connecting")

T = TypeVar("T")


async def by_settings(settings: Settings, *, client_class: type[Client], name: str) -> Client:
    """Return a client whose server has answered; one that is away gets `start_wait` seconds.

    Raises:
        ConfigurationError: see `open_client`.
        RedisUnavailable: it was away for so long, or it refuses us.
    """
    return await _reached(
        lambda: open_client(settings, client_class=client_class, name=name), _pauses_within(settings.start_wait)
    )


async def as_arq(create_pool: Callable[..., Awaitable[T]], where: Any, **options: Any) -> T:
    """Return what arq's `create_pool` makes, tried as often as its RedisSettings `where` say.

    Raises:
        RedisUnavailable: the server was not reached, or refuses us.
    """
    # arq's own tries would go on after a wrong password, and say so to its own log alone.
    once = dataclasses.replace(where, conn_retries=0)

    async def create() -> T:
        try:
            return await create_pool(once, **options)
        except UNAVAILABLE as error:
            raise unavailable(f"{where.unix_socket_path or f'{where.host}:{where.port}'}", error) from error

    return await _reached(create, itertools.repeat(where.conn_retry_delay, where.conn_retries))


async def _reached(connect: Callable[[], Awaitable[T]], pauses: Iterable[float]) -> T:
    """Connect; after each failure wait for the next of these pauses, and try again."""
    waits = iter(pauses)
    for tries in itertools.count(1):
        try:
            connected = await connect()
        except RedisUnavailable as error:
            pause = next(waits, None) if error.passing else None
            if pause is None:
                raise
            log.warning("server_not_reached", error=str(error), tries=tries, again_in_s=round(pause, 3))
            await asyncio.sleep(pause)
        else:
            if tries > 1:
                log.info("server_reached", tries=tries)
            return connected
    raise AssertionError  # the count has no end


def _pauses_within(seconds: float) -> Iterator[float]:
    """Yield growing pauses until so many seconds have gone by; the last one ends with them."""
    backoff, over = Backoff(first=0.1), time.monotonic() + seconds
    while (left := over - time.monotonic()) > 0:
        yield min(backoff.next(), left)
