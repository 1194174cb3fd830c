"""Send a command and read its reply, over a line where the client's pool has them, else as redis-py does.

redis-py's asyncio connections pack commands in Python, argument by argument, which for a batch of a thousand jobs
costs more than all else a worker does about them. hiredis, which parses the replies anyway, packs them in C: lines do
it so, and so do the connections of a pool that is not ours (arq's, say). A client of any other kind, a fake one or one
with a limit on the time of a reply, is used as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio
import redis.exceptions

from common.redis.line import Argument, pack
from common.redis.lines import Lines

__all__ = ["Argument", "call", "call_many", "lines_of"]


async def call(client: redis.asyncio.Redis, arguments: Sequence[Argument]) -> Any:
    """Send one command and return its reply.

    Raises:
        redis.exceptions.RedisError: as redis-py's `execute_command` does.
    """
    run: Any = client
    lines = lines_of(client)
    if lines is not None:
        (reply,) = await lines.exchange((arguments,))
        if isinstance(reply, Exception):
            raise reply
        return reply
    if not _is_plain(client):
        return await run.execute_command(*arguments)
    pool: Any = client.connection_pool
    connection = await pool.get_connection()
    try:
        await connection.send_packed_command(pack(arguments))
        return await connection.read_response()
    except redis.exceptions.ReadOnlyError:
        await _part_from_replica(connection)
        raise
    finally:
        await pool.release(connection)


async def call_many(
    client: redis.asyncio.Redis,
    commands: Sequence[Sequence[Argument]],
    arrived: Callable[[list[Any]], None] | None = None,
) -> list[Any]:
    """Send several commands in one round trip; return the replies in order, an error in the place of its reply.

    Args:
        arrived: called with them as soon as they are there, where a line is used; see `Line.exchange`.
    """
    if not commands:
        return []
    lines = lines_of(client)
    if lines is not None:
        answers = await lines.exchange(commands, arrived)
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, redis.exceptions.ResponseError):
                raise answer  # the server was not there for one of them: it may not have been for the others
        return answers
    if not _is_plain(client):
        pipeline: Any = client.pipeline(transaction=False)
        for arguments in commands:
            pipeline.execute_command(*arguments)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies
    pool: Any = client.connection_pool
    connection = await pool.get_connection()
    try:
        await connection.send_packed_command([pack(arguments) for arguments in commands])
        answers = [await _reply_or_error(connection) for _ in commands]
        if any(isinstance(answer, redis.exceptions.ReadOnlyError) for answer in answers):
            await _part_from_replica(connection)
        return answers
    finally:
        await pool.release(connection)


def lines_of(client: redis.asyncio.Redis) -> Lines | None:
    """Return the lines of a client's pool; None where it has none, or is to be used as redis-py would."""
    pool: Any = client.connection_pool
    lines: Lines | None = getattr(pool, "lines", None)
    if lines is None or client.connection is not None or pool.connection_kwargs.get("socket_timeout") is not None:
        return None
    return lines


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
