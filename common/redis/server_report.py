"""What a server says of itself, in a line for people: `barque status`. Judging it is diagnosis.py's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis.asyncio

from common.redis.reasons import ServerError

__all__ = ["ServerReport", "read_server"]


@dataclass(frozen=True, slots=True)
class ServerReport:
    """A server's account of itself.

    Attributes:
        kind: "Valkey" or "Redis".
        used_memory, memory_limit: bytes; a limit of 0 is none.
        clients: connections it has, ours among them.
    """

    kind: str
    version: str
    used_memory: int
    memory_limit: int
    clients: int


async def read_server(client: redis.asyncio.Redis) -> ServerReport | None:
    """Return what INFO says; None where the ACL user may not ask."""
    try:
        info: dict[str, Any] = await client.info("default")
    except ServerError:
        return None
    return ServerReport(
        kind="Valkey" if "valkey_version" in info else "Redis",
        version=str(info.get("valkey_version") or info.get("redis_version") or "unknown"),
        used_memory=int(info.get("used_memory", 0)),
        memory_limit=int(info.get("maxmemory", 0)),
        clients=int(info.get("connected_clients", 0)),
    )
