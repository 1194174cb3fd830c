"""A line: a connection to the server that carries one exchange at a time, and costs a fraction of redis-py's.

redis-py opens a connection (addresses, TLS, passwords, sentinels, names); a line then takes its transport over and
reads replies as they arrive, with hiredis alone.

Owns the taking over, and what an exchange, a command that nobody awaits and a subscription are on one connection. How
many lines there are, and who has which, is lines.py's.
"""

# ruff: noqa: SLF001 - redis-py gives its transport and its table of errors to nobody; a test holds these names

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from os import write as write_now
from typing import Any, NamedTuple

import hiredis
import redis.asyncio
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import InvalidResponse, NoPermissionError, RedisError

__all__ = ["Argument", "Aside", "Line", "pack"]

Argument = str | bytes | int

_CLOSED = "Connection closed by server."

_UNREADABLE = "Error while reading from the server"

_MOST_DIRECT = 16 * 1024
"""Bytes that are written past the transport at once: no more than any socket takes."""

_MOST_UNSENT = 16 * 1024 * 1024
"""Bytes that wait for a slow server before no more is packed: two script calls of the largest (see layout.py)."""


class Aside(NamedTuple):
    """A channel that is listened to beside another one, and what is called with each message of it."""

    channel: str
    receive: Callable[[bytes], None]


def pack(arguments: Sequence[Argument]) -> bytes:
    """Return a command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(tuple(arguments))  # type: ignore[arg-type]  # its stub takes a tuple of one
    return packed


class Line(asyncio.Protocol):
    """One connection, in the hands of one caller at a time.

    Attributes:
        lost: whether it is of no more use: closed by either side, or left in the middle of an exchange.
        era: which of its pool's servers it leads to; see `Lines`.
        idle_since: the event loop's time at which its last exchange ended.
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
        self._arrived: Callable[[list[Any]], None] | None = None
        self._expected = 0
        self._answer: asyncio.Future[list[Any]] | None = None
        self._told: Callable[[Any], None] | None = None  # in the place of that future, where nobody awaits the answer
        self._sendable: asyncio.Future[None] | None = None  # there while too much is unsent
        self._loop = asyncio.get_running_loop()
        self.lost = False
        self.era = 0
        self.idle_since = 0.0
        # Where a line is idle nothing of it is unsent, and uvloop would write at the end of its step.
        over_tls = self._transport.get_extra_info("ssl_object") is not None
        socket = self._transport.get_extra_info("socket")
        if socket is None:  # the server hung up meanwhile
            raise ConnectionLost(_CLOSED)
        self._direct: int = -1 if over_tls else socket.fileno()
        self._transport.set_protocol(self)
        self._transport.set_write_buffer_limits(high=_MOST_UNSENT)

    @classmethod
    async def open(cls, pool: redis.asyncio.ConnectionPool) -> Line:
        """Connect as the pool says.

        Raises:
            redis.exceptions.ConnectionError and the like: as redis-py does.
        """
        connection = pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()
            return cls(connection)
        except BaseException:
            connection._close()
            raise

    async def exchange(
        self, commands: Sequence[Sequence[Argument]], arrived: Callable[[list[Any]], None] | None = None
    ) -> list[Any]:
        """Send commands and return their replies in order, errors among them.

        An exchange that is cancelled ends the line: the rest of its replies would be taken for another's.

        Args:
            arrived: called with the replies in the step of the event loop in which they came, some steps before the
                caller can go on. What it raises, this raises.

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
        self._arrived = arrived
        try:
            await self._send(commands)
            return await answer
        except BaseException:
            self.drop()
            if answer.done() and not answer.cancelled():
                answer.exception()  # looked at, where the exchange was cancelled in the same step
            raise
        finally:
            self._answer = self._arrived = None

    def begin(self, commands: Sequence[tuple[Argument, ...]], told: Callable[[Any], None]) -> None:
        """Send commands now, in this step of the event loop, and have their replies told as they arrive.

        Nothing is awaited, so there is no task and no coroutine between a caller and the wire, nor between the reply
        and the caller. The line must not be lost.

        Args:
            told: called once, with the replies in order, errors among them, or with the error that `exchange` would
                raise. It must not raise.
        """
        self._expected = len(commands)
        self._replies = []
        self._told = told
        data = b"".join(map(hiredis.pack_command, commands))  # type: ignore[arg-type]  # as above
        sent = 0
        if self._direct >= 0 and len(data) <= _MOST_DIRECT:
            try:
                sent = write_now(self._direct, data)
            except OSError:
                sent = 0  # the transport says what is wrong
        if sent < len(data):
            self._transport.write(data[sent:])

    async def is_well(self, within: float) -> bool:
        """Tell whether the server answers over this line within so many seconds; if not, it is lost."""
        try:
            async with asyncio.timeout(within):
                await self.exchange((("PING",),))
        except (RedisError, OSError):
            return False
        return not self.lost

    async def subscribe(
        self,
        channel: str,
        receive: Callable[[bytes], None],
        subscribed: Callable[[], None] | None = None,
        also: Aside | None = None,
    ) -> None:
        """Hand over what is published on a channel, until the connection is lost or this is cancelled.

        Args:
            receive: called with each message as it arrives, before anything else of the loop.
            subscribed: called once the server has confirmed the subscription.
            also: another channel, that the server may refuse us without a harm to the first.

        Raises:
            redis.exceptions.RedisError: the server refuses, or the connection was lost; or what `receive` raised.
        """
        first, confirmed = channel.encode(), False

        def push(reply: Any) -> None:
            nonlocal confirmed
            if isinstance(reply, Exception):
                if confirmed and also is not None and isinstance(reply, NoPermissionError):
                    return
                raise reply
            if not isinstance(reply, list) or len(reply) != 3:
                raise InvalidResponse("no message of a channel")
            kind, source, content = reply
            if kind == b"message":
                if also is None or source == first:
                    receive(content)
                else:
                    also.receive(content)
            elif kind == b"subscribe" and not confirmed:
                confirmed = True
                if subscribed is not None:
                    subscribed()

        self._answer = self._loop.create_future()
        self._push = push
        try:
            self._transport.write(pack(("SUBSCRIBE", channel)))
            if also is not None:
                self._transport.write(pack(("SUBSCRIBE", also.channel)))
            await self._answer
        finally:
            self.drop()

    def drop(self) -> None:
        """Close at once."""
        self.lost = True
        self._transport.abort()
        self._connection._close()  # else redis-py takes it for one that was forgotten

    async def aclose(self) -> None:
        """Close, and wait until it is closed, or some seconds."""
        self.lost = True
        try:
            await self._connection.disconnect()
        finally:
            self._transport.abort()  # a server that hangs takes what is unsent never

    async def _send(self, commands: Sequence[Sequence[Argument]]) -> None:
        for index, command in enumerate(commands):
            if index:
                # One step of the loop puts it on the wire: the server works on one while the next is packed.
                await asyncio.sleep(0)
                if self._sendable is not None:
                    await self._sendable
                if self.lost or self._answer is None or self._answer.done():
                    return  # uvloop raises where a lost connection is written to; the answer says what happened
            self._transport.write(pack(command))

    def pause_writing(self) -> None:
        """Pack no more for now: much is unsent."""
        self._sendable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Go on packing."""
        sendable, self._sendable = self._sendable, None
        if sendable is not None and not sendable.done():
            sendable.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Take in what came; the exchange ends with the last reply."""
        if self._told is None and (self._answer is None or self._answer.done()):
            self.drop()  # nobody asked
            return
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                if self._push is not None:
                    self._push(reply)
                else:
                    self._replies.append(reply)
        except InvalidResponse as error:
            self._fail(InvalidResponse(f"{_UNREADABLE}: {error}"))
            return
        except Exception as error:
            self._fail(error)
            return
        if self._push is None and len(self._replies) >= self._expected:
            self._end_exchange()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        self.lost = True
        self._former.connection_lost(error)
        self._connection._close()
        self._fail(ConnectionLost(_CLOSED if error is None else f"{_UNREADABLE}: {error}"))

    def _end_exchange(self) -> None:
        if len(self._replies) > self._expected or self._reader.has_data():  # that would be the next exchange's reply
            self._fail(InvalidResponse(f"{_UNREADABLE}: more replies than commands"))
            return
        told = self._told
        if told is not None:
            self._told = None
            told(self._replies)
            return
        try:
            if self._arrived is not None:
                self._arrived(self._replies)
        except Exception as error:
            self._fail(error)
            return
        if self._answer is not None:
            self._answer.set_result(self._replies)

    def _fail(self, error: Exception) -> None:
        told = self._told
        if told is not None:
            self._told = None
            if not self.lost:  # the rest of what came would be taken for another's reply
                self.drop()
            told(error)
        elif self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.resume_writing()
