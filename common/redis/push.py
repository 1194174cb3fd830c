"""Subscriptions: what Redis pushes to us.

Owns the subscription and the frames in which results are pushed (see lua/prelude.lua, push_results).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import redis.asyncio

from common.redis.wire import lines_of

__all__ = ["listen", "result_frames"]

_LENGTHS = struct.Struct(">II")


async def listen(
    client: redis.asyncio.Redis,
    channel: str,
    receive: Callable[[bytes], None],
    *,
    subscribed: Callable[[], None] | None = None,
) -> None:
    """Hand over what is published on a channel until the connection is lost, which raises, or this is cancelled.

    Args:
        receive: called with each message.
        subscribed: called once the server has confirmed the subscription.
    """
    lines = lines_of(client)
    if lines is not None:
        return await lines.subscribe(channel, receive, subscribed)
    pubsub: Any = client.pubsub()
    try:
        await pubsub.subscribe(channel)
        async for message in pubsub.listen():
            if message["type"] == "message":
                receive(message["data"])
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
