"""Lines: connections to the server that carry one exchange at a time, and cost a fraction of redis-py's.

redis-py opens a connection (addresses, TLS, passwords, sentinels, names); a line then takes its transport over and
reads replies as they arrive, with hiredis alone. redis-py's own way through its pool, a stream reader and a timeout an
exchange takes a quarter of a millisecond of an idle job's way, three times over, and twenty microseconds of each call.

Owns the taking over, and the keeping of lines for reuse. What is sent over them is wire.py's.
"""

# ruff: noqa: SLF001 - redis-py gives its transport and its table of errors to nobody; a test holds these names

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import redis.asyncio
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import InvalidResponse

__all__ = ["Argument", "Line", "Lines", "Pool", "pack"]

Argument = str | bytes | int

_CLOSED = "Connection closed by server."


def pack(arguments: Sequence[Argument]) -> bytes:
    """Return a command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(tuple(arguments))  # type: ignore[arg-type]  # its stub takes a tuple of one
    return packed


class Line(asyncio.Protocol):
    """One connection, in the hands of one caller at a time.

    Attributes:
        lost: whether it is of no more use: closed by either side, or left in the middle of an exchange.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._transport: asyncio.Transport = connection._writer.transport
        # redis-py closes a connection by way of its own protocol, which has to learn that it is closed.
        self._former: asyncio.BaseProtocol = self._transport.get_protocol()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,  # from an error's code to redis-py's exception
        )
        self._replies: list[Any] = []
        self._push: Callable[[Any], None] | None = None
        self._expected = 0
        self._answer: asyncio.Future[list[Any]] | None = None
        self._loop = asyncio.get_running_loop()
        self.lost = False
        self._transport.set_protocol(self)

    @classmethod
    async def open(cls, pool: redis.asyncio.ConnectionPool) -> Line:
        """Connect as the pool says.

        Raises:
            redis.exceptions.ConnectionError and the like: as redis-py does.
        """
        connection = pool.make_connection()  # type: ignore[no-untyped-call]
        await connection.connect()
        return cls(connection)

    async def exchange(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send commands and return their replies in order, errors among them.

        An exchange that is cancelled ends the line: the rest of its replies would be taken for another's.

        Raises:
            redis.exceptions.ConnectionError: the connection was lost; it is not known which commands ran.
            redis.exceptions.InvalidResponse: what came is no reply.
        """
        if self.lost:
            raise ConnectionLost(_CLOSED)
        self._expected = len(commands)
        self._replies = []
        answer: asyncio.Future[list[Any]] = self._loop.create_future()
        self._answer = answer
        try:
            await self._send(commands)
            return await answer
        except BaseException:
            self.drop()
            raise
        finally:
            self._answer = None

    async def subscribe(
        self, channel: str, receive: Callable[[bytes], None], subscribed: Callable[[], None] | None = None
    ) -> None:
        """Hand over what is published on a channel, until the connection is lost or this is cancelled.

        Args:
            receive: called with each message as it arrives, before anything else of the loop.
            subscribed: called once the server has confirmed the subscription.

        Raises:
            redis.exceptions.RedisError: the server refuses, or the connection was lost; or what `receive` raised.
        """

        def push(reply: Any) -> None:
            if isinstance(reply, Exception):
                raise reply
            kind, _, content = reply
            if kind == b"message":
                receive(content)
            elif kind == b"subscribe" and subscribed is not None:
                subscribed()

        self._answer = self._loop.create_future()
        self._push = push
        try:
            self._transport.write(pack(("SUBSCRIBE", channel)))
            await self._answer
        finally:
            self.drop()

    def drop(self) -> None:
        """Close at once."""
        self.lost = True
        self._transport.abort()
        self._connection._close()  # else redis-py takes it for one that was forgotten

    async def aclose(self) -> None:
        """Close, and wait until it is closed."""
        self.lost = True
        await self._connection.disconnect()

    async def _send(self, commands: Sequence[Sequence[Argument]]) -> None:
        for index, command in enumerate(commands):
            if index:
                # One step of the loop puts it on the wire: the server works on one while the next is packed.
                await asyncio.sleep(0)
            self._transport.write(pack(command))

    def data_received(self, data: bytes) -> None:
        """Take in what came; the exchange ends with the last reply."""
        answer = self._answer
        if answer is None or answer.done():
            self.drop()  # nobody asked
            return
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                if self._push is not None:
                    self._push(reply)
                else:
                    self._replies.append(reply)
        except Exception as error:
            answer.set_exception(error)
            return
        if self._push is not None:
            return
        if len(self._replies) >= self._expected:
            answer.set_result(self._replies)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        self.lost = True
        self._former.connection_lost(error)
        self._connection._close()
        if self._answer is not None and not self._answer.done():
            said = _CLOSED if error is None else f"Error while reading from the server: {error}"
            self._answer.set_exception(ConnectionLost(said))


class Lines:
    """The lines of one pool: one for each exchange that is under way, kept for the next."""

    def __init__(self, pool: redis.asyncio.ConnectionPool) -> None:
        self._pool = pool
        self._idle: list[Line] = []
        self._busy: set[Line] = set()

    async def exchange(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send commands over a line that is free, or a new one; see `Line.exchange`."""
        line = await self._take()
        try:
            return await line.exchange(commands)
        finally:
            self._busy.discard(line)
            if not line.lost:
                self._idle.append(line)

    async def subscribe(
        self, channel: str, receive: Callable[[bytes], None], subscribed: Callable[[], None] | None = None
    ) -> None:
        """Listen to a channel over a line of its own; see `Line.subscribe`."""
        line = await Line.open(self._pool)
        self._busy.add(line)
        try:
            await line.subscribe(channel, receive, subscribed)
        finally:
            self._busy.discard(line)

    async def _take(self) -> Line:
        while self._idle:
            line = self._idle.pop()
            if not line.lost:
                break
        else:
            line = await Line.open(self._pool)
        self._busy.add(line)
        return line

    def drop_idle(self) -> None:
        """Close the lines that nobody uses: behind the same name there may be another server by now."""
        while self._idle:
            self._idle.pop().drop()

    async def aclose(self, *, busy: bool) -> None:
        """Close all lines, those in use too if asked to."""
        lines, self._idle = self._idle, []
        if busy:
            lines += self._busy
        await asyncio.gather(*(line.aclose() for line in lines), return_exceptions=True)


class Pool(redis.asyncio.ConnectionPool):
    """A pool of redis-py's that has lines besides."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.lines = Lines(self)

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002 (redis-py's signature)
        """Close all connections and lines, those in use too unless told otherwise."""
        await self.lines.aclose(busy=inuse_connections)
        await super().disconnect(inuse_connections)
