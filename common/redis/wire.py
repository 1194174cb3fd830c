"""Send a command and read its reply, over a connection of redis-py's.

Owns one shortcut: redis-py's asyncio connections pack commands in Python, argument by argument, which for a batch of
a thousand jobs costs more than all else a worker does about them. hiredis, which parses the replies anyway, packs
them in C. Everything else (pools, reconnecting, parsing, errors) stays redis-py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis
import redis.asyncio
import redis.exceptions

__all__ = ["call", "call_many"]

Argument = str | bytes | int


async def call(client: redis.asyncio.Redis, arguments: Sequence[Argument]) -> Any:
    """Send one command and return its reply.

    Raises:
        redis.exceptions.RedisError: as redis-py's `execute_command` does.
    """
    run: Any = client
    if not _is_plain(client):
        return await run.execute_command(*arguments)
    pool: Any = client.connection_pool
    connection = await pool.get_connection()
    try:
        await connection.send_packed_command(_pack(arguments))
        return await connection.read_response()
    except redis.exceptions.ReadOnlyError:
        await _part_from_replica(connection)
        raise
    finally:
        await pool.release(connection)


async def call_many(client: redis.asyncio.Redis, commands: Sequence[Sequence[Argument]]) -> list[Any]:
    """Send several commands in one round trip; return the replies in order, an error in the place of its reply."""
    if not _is_plain(client):
        pipeline: Any = client.pipeline(transaction=False)
        for arguments in commands:
            pipeline.execute_command(*arguments)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies
    pool: Any = client.connection_pool
    connection = await pool.get_connection()
    try:
        await connection.send_packed_command([_pack(arguments) for arguments in commands])
        answers = [await _reply_or_error(connection) for _ in commands]
        if any(isinstance(answer, redis.exceptions.ReadOnlyError) for answer in answers):
            await _part_from_replica(connection)
        return answers
    finally:
        await pool.release(connection)


def _pack(arguments: Sequence[Argument]) -> bytes:
    packed: bytes = hiredis.pack_command(tuple(arguments))  # type: ignore[arg-type]  # its stub takes a tuple of one
    return packed


async def _reply_or_error(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except redis.exceptions.ResponseError as error:
        return error


async def _part_from_replica(connection: Any) -> None:
    """Drop a connection to what was the primary: behind the same name there may be another one by now."""
    await connection.disconnect()


def _is_plain(client: redis.asyncio.Redis) -> bool:
    """Whether the client talks to a server over redis-py's own connections (a fake one has no socket)."""
    if client.connection is not None:
        return False
    kind: Any = client.connection_pool.connection_class
    return isinstance(kind, type) and kind.__module__.startswith("redis.")
