"""Clients for the Redis server that `Settings` name, and the words for when there is none.

Owns how a client is put together and tried. What the settings mean stands in `address`, what an error
means in `reasons`, the blocking client for threads in `twin`; what others need of those is exported
here, so that nobody outside this package imports `redis`.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypeVar, overload

import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.sentinel
from redis.exceptions import RedisError

from common.errors import RedisUnavailable
from common.redis.address import MEMORY, connection_options, describe, parse_url, sentinels
from common.redis.lines import Pool
from common.redis.reasons import TROUBLE, UNAVAILABLE, ServerError, is_transient, may_pass, reason
from common.redis.twin import blocking_twin
from common.settings import Settings

__all__ = [
    "TROUBLE",
    "UNAVAILABLE",
    "Client",
    "ServerError",
    "blocking_twin",
    "check",
    "connect",
    "describe",
    "is_transient",
    "open_client",
    "unavailable",
]

Client = TypeVar("Client", bound=redis.asyncio.Redis)


@overload
def connect(settings: Settings, *, name: str | None = None) -> redis.asyncio.Redis: ...


@overload
def connect(settings: Settings, *, client_class: type[Client], name: str | None = None) -> Client: ...


def connect(
    settings: Settings,
    *,
    client_class: type[Client] = redis.asyncio.Redis,  # type: ignore[assignment]  # PEP 696 is newer than 3.11
    name: str | None = None,
) -> Client:
    """Return an asyncio client for the server the settings name. Nothing is dialled yet.

    Replies are bytes. There is no limit on the time a command takes, since blocking pops wait as long as
    they are told to; TCP keepalive ends a connection whose peer is gone. `?socket_timeout=` in the URL
    sets a limit. No command is sent twice by itself. Close the client with `aclose()`.

    Args:
        settings: where the server is and who we are.
        client_class: a subclass of `redis.asyncio.Redis` that takes `connection_pool=`, such as arq's
            `ArqRedis`.
        name: what the connections are called in `CLIENT LIST`, after `barque-`.

    Raises:
        ConfigurationError: the settings contradict each other or name a file that is not there.
    """
    if settings.redis_url.startswith(MEMORY):
        # Imported here: it is for tests.
        from common.redis.memory import memory_client  # noqa: PLC0415

        return memory_client(settings.redis_url, client_class)
    options = connection_options(settings)
    options["client_name"] = _client_name(name)
    client: Client = client_class.from_pool(_make_pool(settings, options))  # type: ignore[assignment]
    return client


@overload
async def open_client(settings: Settings, *, name: str | None = None) -> redis.asyncio.Redis: ...


@overload
async def open_client(settings: Settings, *, client_class: type[Client], name: str | None = None) -> Client: ...


async def open_client(
    settings: Settings,
    *,
    client_class: type[Client] = redis.asyncio.Redis,  # type: ignore[assignment]  # see connect
    name: str | None = None,
) -> Client:
    """Return a client whose server has answered; as `connect` otherwise.

    Raises:
        ConfigurationError: see `connect`.
        RedisUnavailable: see `check`.
    """
    client = connect(settings, client_class=client_class, name=name)
    try:
        await check(client, describe(settings), timeout=settings.redis_connect_timeout)
    except BaseException:
        await client.aclose()
        raise
    return client


async def check(client: redis.asyncio.Redis, where: str, *, timeout: float = 5.0) -> None:
    """Return once the server has answered a PING.

    Args:
        client: the client to try; it stays open whatever happens.
        where: the server in words fit for a log, from `describe`.
        timeout: seconds for the answer, after at most as many for the connection.

    Raises:
        RedisUnavailable: it did not; one line says where, why and what to do.
    """
    try:
        # Something that accepts connections and never speaks would otherwise be waited for without end.
        async with asyncio.timeout(2 * timeout):
            await client.ping()
    except (RedisError, OSError) as error:
        # Not `from error`: the reason is in the message, and a script that ends here shows three tracebacks less.
        raise unavailable(where, error) from None


def unavailable(where: str, error: BaseException) -> RedisUnavailable:
    """Return the error to raise for a server that was not reached, or refuses us."""
    why, advice = reason(error)
    made = RedisUnavailable(f"Redis at {where}: {why}; {advice}")
    made.passing = may_pass(error)
    return made


def _make_pool(settings: Settings, options: dict[str, Any]) -> redis.asyncio.ConnectionPool:
    found = sentinels(settings)
    if found is not None:
        manager = redis.asyncio.sentinel.Sentinel(  # type: ignore[no-untyped-call]
            found.nodes, sentinel_kwargs=dict(found.options)
        )
        for sentinel in manager.sentinels:
            made = sentinel.connection_pool
            sentinel.connection_pool = _AskedOnce(made.connection_class, made.max_connections, **made.connection_kwargs)
        return _SentinelPool(  # type: ignore[no-untyped-call]
            found.service, manager, ssl="ssl_cert_reqs" in options, **options
        )
    address = parse_url(settings.redis_url)
    kind: type[redis.asyncio.connection.AbstractConnection] = redis.asyncio.Connection
    if address.path is not None:
        kind = redis.asyncio.UnixDomainSocketConnection
    elif address.tls:
        kind = redis.asyncio.SSLConnection
    return Pool(connection_class=kind, **options)


class _SentinelPool(redis.asyncio.sentinel.SentinelConnectionPool, Pool):
    """Connections to what the sentinels call the primary."""


class _AskedOnce(redis.asyncio.ConnectionPool):
    """Closes each connection after its one question: redis-py's Sentinel leaves its own open, past the pool's end.

    A sentinel is asked when a connection to the primary is made, which is rare.
    """

    async def release(self, connection: redis.asyncio.connection.AbstractConnection) -> None:
        try:
            await connection.disconnect()  # while nobody else can be given it
        finally:
            await super().release(connection)


def _client_name(name: str | None) -> str:
    # CLIENT SETNAME takes no space, no newline and nothing outside printable ASCII.
    return re.sub(r"[^!-~]+", "-", f"barque-{name}" if name else "barque")
