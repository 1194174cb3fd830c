"""How somebody who looks on says so to workers, and how workers tell them of attempts: two channels of a database.

Owns the words on both. Who asks is fleet.py's, what a worker does about it workers/observation.py's.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import redis.asyncio

from common.redis import keys
from common.worker_reports import AttemptLines

__all__ = ["LONGEST_LOOK", "Look", "attempts_channel_of", "observe_channel_of", "publish_attempts", "read_look"]

LONGEST_LOOK = 60
"""Seconds for which workers can be told at a time that somebody looks on."""

Look = Literal["figures", "attempts"]
"""What somebody looks at: what workers count, or each attempt."""


async def publish_attempts(client: redis.asyncio.Redis, lines: AttemptLines) -> int:
    """Tell who follows attempts; return how many do."""
    heard: int = await client.publish(attempts_channel_of(client), msgspec.json.encode(lines))
    return heard


def read_look(message: bytes) -> tuple[Look, int] | None:
    """Return what somebody looks at, and for how many seconds more, 60 at the most; None of no such message."""
    what, _, seconds = message.partition(b" ")
    if not seconds.isdigit():
        return None
    until = min(int(seconds[:9]), LONGEST_LOOK)
    if what == b"figures":
        return "figures", until
    return ("attempts", until) if what == b"attempts" else None


def observe_channel_of(client: redis.asyncio.Redis) -> str:
    """Return the channel on which the workers of this client's database are told that somebody looks on."""
    return keys.observe_channel(_database(client))


def attempts_channel_of(client: redis.asyncio.Redis) -> str:
    """Return the channel on which the workers of this client's database tell of attempts."""
    return keys.attempts_channel(_database(client))


def _database(client: redis.asyncio.Redis) -> int:
    return int(client.connection_pool.connection_kwargs.get("db") or 0)
