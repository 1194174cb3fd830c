"""A blocking client to the server an asyncio client talks to, for threads that must not need the loop.

Owns the mapping from asyncio connections to blocking ones. Knows no settings: the asyncio client may
be Barque's, arq's, `redis.asyncio.from_url`'s or fakeredis's.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.connection as asynchronous
import redis.asyncio.sentinel as asynchronous_sentinel
import redis.sentinel

from common.errors import ConfigurationError

__all__ = ["blocking_twin"]

_NOT_CARRIED = frozenset({
    # Made for the event loop.
    "retry", "parser_class", "redis_connect_func", "event_dispatcher", "connection_pool",
    # The thread tries again in its own time; redis-py's retries would stretch the timeout below.
    "retry_on_error", "retry_on_timeout",
})  # fmt: skip

_TWINS: tuple[tuple[type[Any], type[redis.connection.AbstractConnection]], ...] = (
    # Subclasses first.
    (asynchronous_sentinel.SentinelManagedSSLConnection, redis.sentinel.SentinelManagedSSLConnection),
    (asynchronous_sentinel.SentinelManagedConnection, redis.sentinel.SentinelManagedConnection),
    (asynchronous.SSLConnection, redis.SSLConnection),
    (asynchronous.UnixDomainSocketConnection, redis.UnixDomainSocketConnection),
    (asynchronous.Connection, redis.Connection),
)


def blocking_twin(client: redis.asyncio.Redis, *, timeout: float = 3.0) -> redis.Redis:
    """Return a blocking client to the same server, database and user as an asyncio client.

    It has connections of its own and nothing of it belongs to an event loop, so a thread may use it
    while the loop is blocked. Nothing is dialled before its first command. Close it with `close()`.

    Args:
        client: any asyncio client; it is only read, and may be closed afterwards.
        timeout: seconds to connect and seconds to wait for any one reply, so that a server that hangs
            costs the thread this long and not for ever. Not for blocking commands that wait longer.

    Raises:
        ConfigurationError: the client's connections are of a kind that has no blocking form.
    """
    pool = client.connection_pool
    kind = _blocking_class(pool.connection_class)
    options = _carry(
        pool.connection_kwargs,
        [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base)],
        timeout,
    )
    if options.get("client_name"):
        options["client_name"] = f"{options['client_name']}-thread"
    if isinstance(pool, asynchronous_sentinel.SentinelConnectionPool):
        return redis.Redis.from_pool(
            redis.sentinel.SentinelConnectionPool(  # type: ignore[no-untyped-call]
                pool.service_name,
                _blocking_sentinel(pool.sentinel_manager, timeout),
                connection_class=kind,
                is_master=pool.is_master,
                check_connection=pool.check_connection,
                **options,
            )
        )
    if "client_class" in pool.connection_kwargs:
        options["client_class"] = redis.Redis  # fakeredis reads the commands it knows off this class
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=kind, **options))


def _blocking_class(kind: type[Any]) -> type[redis.connection.AbstractConnection]:
    if any(base.__module__.partition(".")[0] == "fakeredis" for base in kind.__mro__):
        # Already imported by whoever made the client; Barque itself does not depend on it.
        fake: type[redis.connection.AbstractConnection] = importlib.import_module("fakeredis").FakeRedisConnection
        return fake
    for asynchronous_kind, blocking_kind in _TWINS:
        if issubclass(kind, asynchronous_kind):
            return blocking_kind
    raise ConfigurationError(
        f"{kind.__module__}.{kind.__qualname__}: no blocking form of this connection is known; "
        "use one of redis-py's own connection classes"
    )


def _carry(given: Mapping[str, Any], takers: Iterable[Callable[..., Any]], timeout: float) -> dict[str, Any]:
    """Return the options among `given` that one of the functions takes by name, with the timeouts set."""
    taken = {name for taker in takers for name in inspect.signature(taker).parameters} - _NOT_CARRIED
    options = {name: value for name, value in given.items() if name in taken}
    wait_to_connect = options.get("socket_connect_timeout") or timeout
    return options | {"socket_timeout": timeout, "socket_connect_timeout": min(wait_to_connect, timeout)}


def _blocking_sentinel(sentinel: asynchronous_sentinel.Sentinel, timeout: float) -> redis.sentinel.Sentinel:
    nodes = [
        (node.connection_pool.connection_kwargs["host"], node.connection_pool.connection_kwargs["port"])
        for node in sentinel.sentinels
    ]
    return redis.sentinel.Sentinel(  # type: ignore[no-untyped-call]
        nodes,
        min_other_sentinels=sentinel.min_other_sentinels,
        sentinel_kwargs=_carry(sentinel.sentinel_kwargs, [redis.Redis.__init__], timeout),
    )
