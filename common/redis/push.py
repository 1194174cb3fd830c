"""Subscriptions: what Redis pushes to us.

Owns the subscription and the frames in which is pushed what jobs end with (see lua/prelude.lua, push_results) and what
they say while they run (lua/report.lua).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import msgspec
import redis.asyncio
from redis.exceptions import NoPermissionError

from common.redis.line import Aside
from common.redis.wire import lines_of

__all__ = ["Aside", "Frame", "frames", "listen"]

_LENGTHS = struct.Struct(">II")

_RUNNING = 1 << 31
"""Added to the length of the id of a job that says something while it runs."""


async def listen(
    client: redis.asyncio.Redis,
    channel: str,
    receive: Callable[[bytes], None],
    *,
    subscribed: Callable[[], None] | None = None,
    also: Aside | None = None,
) -> None:
    """Hand over what is published on a channel until the connection is lost, which raises, or this is cancelled.

    Args:
        receive: called with each message.
        subscribed: called once the server has confirmed the subscription.
        also: another channel, over the same connection. A server that refuses us this one changes nothing for the
            first: rights may have been given when there was no such channel.
    """
    lines = lines_of(client)
    if lines is not None:
        return await lines.subscribe(channel, receive, subscribed, also)
    return await _listen_as_redis_py_does(client, channel, receive, subscribed, also)


async def _listen_as_redis_py_does(
    client: redis.asyncio.Redis,
    channel: str,
    receive: Callable[[bytes], None],
    subscribed: Callable[[], None] | None,
    also: Aside | None,
) -> None:
    taken_by = {channel.encode(): receive}
    confirmed = False
    pubsub: Any = client.pubsub()
    try:
        await pubsub.subscribe(channel)
        if also is not None:
            await pubsub.subscribe(also.channel)
            taken_by[also.channel.encode()] = also.receive
        while pubsub.subscribed:
            try:
                message = await pubsub.get_message(timeout=None)
            except NoPermissionError:
                if not confirmed:
                    raise
                continue
            if message is not None and message["type"] == "message":
                taken_by[message["channel"]](message["data"])
            elif message is not None and message["type"] == "subscribe" and not confirmed:
                confirmed = True
                if subscribed is not None:
                    subscribed()
    finally:
        await pubsub.aclose()


class Frame(msgspec.Struct):
    """What is said of one job.

    Attributes:
        content: a result, or how far the job is; None says that there is something to be fetched: a result, or items.
        ended: whether it has ended, and this is about its result.
    """

    job_id: str
    content: bytes | None
    ended: bool


def frames(message: bytes) -> list[Frame]:
    """Return what one message says."""
    found = []
    at = 0
    while at < len(message):
        id_length, length = _LENGTHS.unpack_from(message, at)
        at += _LENGTHS.size
        ended, id_length = id_length < _RUNNING, id_length % _RUNNING
        job_id = message[at : at + id_length].decode(errors="surrogateescape")
        at += id_length
        found.append(Frame(job_id, message[at : at + length] if length else None, ended))
        at += length
    return found
