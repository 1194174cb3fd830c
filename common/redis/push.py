"""Subscriptions: what Redis pushes to us.

Owns the pubsub connection and the frames in which results are pushed (see lua/prelude.lua, push_results).
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import redis.asyncio

__all__ = ["messages", "result_frames"]

_LENGTHS = struct.Struct(">II")


async def messages(
    client: redis.asyncio.Redis, channel: str, *, subscribed: Callable[[], None] | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield what is published on a channel; raise when the connection is lost.

    Args:
        subscribed: called once the server has confirmed the subscription.
    """
    pubsub: Any = client.pubsub()
    try:
        await pubsub.subscribe(channel)
        async for message in pubsub.listen():
            if message["type"] == "message":
                yield message["data"]
            elif message["type"] == "subscribe" and subscribed is not None:
                subscribed()
    finally:
        await pubsub.aclose()


def result_frames(message: bytes) -> Iterator[tuple[str, bytes | None]]:
    """Yield the ended jobs of one message: id and result, None for a result to be fetched."""
    at = 0
    while at < len(message):
        id_length, result_length = _LENGTHS.unpack_from(message, at)
        at += _LENGTHS.size
        job_id = message[at : at + id_length].decode(errors="surrogateescape")
        at += id_length
        yield job_id, message[at : at + result_length] if result_length else None
        at += result_length
