"""A server inside this process, for tests: what `redis_url="memory://name"` leads to.

Owns the servers by name, and what a client of one is. They are fakeredis's: it knows the commands and runs the scripts,
so that what is tested is Barque as it is; what it is not is a server that dies, is full or is far away.
"""

from __future__ import annotations

import importlib
from typing import Any, TypeVar

import redis.asyncio

from common.errors import ConfigurationError
from common.redis.address import MEMORY

__all__ = ["forget", "memory_client"]

Client = TypeVar("Client", bound=redis.asyncio.Redis)

_servers: dict[str, Any] = {}


def memory_client(url: str, client_class: type[Client]) -> Client:
    """Return a client of the server of this name, which is there from its first client on.

    Raises:
        ConfigurationError: fakeredis is not installed.
    """
    try:
        fakeredis = importlib.import_module("fakeredis")
        importlib.import_module("lupa")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"BARQUE_REDIS_URL: {MEMORY} is a server for tests, and {error.name} is not installed: "
            'pip install "barque[testing]"'
        ) from None
    name = _name(url)
    server = _servers.get(name)
    if server is None:
        server = _servers[name] = fakeredis.FakeServer()
    fake = fakeredis.FakeAsyncRedis(server=server)
    client: Client = client_class.from_pool(fake.connection_pool)  # type: ignore[assignment]
    return client


def forget(url: str) -> None:
    """Let a server go with all that is on it; who opens one of this name again finds it empty."""
    _servers.pop(_name(url), None)


def _name(url: str) -> str:
    return url.removeprefix(MEMORY).rstrip("/")
