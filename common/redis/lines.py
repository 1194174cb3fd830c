"""Lines: the connections of one pool that are taken over from redis-py, kept for reuse.

redis-py's own way through its pool, a stream reader and a timeout an exchange takes a quarter of a millisecond of an
idle job's way, three times over, and twenty microseconds of each call.

Owns who has which line, how many there are, and which of them are still to be trusted. What happens on one of them is
line.py's, what is sent over them wire.py's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio
import redis.exceptions

from common.redis.line import Argument, Aside, Line

__all__ = ["Lines", "Pool"]

_MOST_LINES = 100
"""Exchanges under way at once; more wait for one to end. A server takes some thousands of connections from all."""

# What was the primary is a replica now, and behind the same name there may be another one; or, of the second kind, it
# is loading, or knows us no more (NOAUTH) until we have said again who we are.
_ANOTHER_SERVER_NEEDED = (redis.exceptions.ReadOnlyError, redis.exceptions.ConnectionError)


class Lines:
    """The lines of one pool: one for each exchange that is under way, kept for the next.

    A line that was opened before the pool was told to close, or to look for another server, ends with its exchange:
    each such telling begins an era.
    """

    def __init__(self, pool: redis.asyncio.ConnectionPool) -> None:
        options = pool.connection_kwargs
        self._pool = pool
        self._idle: list[Line] = []
        self._busy: set[Line] = set()
        self._era = 0
        self._most = min(_MOST_LINES, pool.max_connections)
        self._under_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        # As redis-py's own connections: one that was silent for long is tried before it is used.
        self._trusted_for: float = options.get("health_check_interval") or float("inf")
        self._well_within: float = options.get("socket_connect_timeout") or 5.0

    async def exchange(
        self, commands: Sequence[Sequence[Argument]], arrived: Callable[[list[Any]], None] | None = None
    ) -> list[Any]:
        """Send commands over a line that is free, or a new one; see `Line.exchange`."""
        if self._under_way < self._most:
            self._under_way += 1
        else:
            await self._wait_for_place()
        try:
            line = self._trusted() or await self._tried_or_new()
            try:
                replies = await line.exchange(commands, arrived)
            finally:
                self._give_back(line)
        finally:
            self._pass_place_on()
        for reply in replies:
            if isinstance(reply, _ANOTHER_SERVER_NEEDED):
                self.drop_idle()  # the one that was just used is among them
        return replies

    def begin(self, commands: Sequence[tuple[Argument, ...]], told: Callable[[Any], None]) -> Line | None:
        """Send commands now, where a line is free to take them; see `Line.begin`.

        Returns:
            the line that they went over: to `drop` it gives the answer up. None if none was free: nothing was sent.
        """
        line = self._trusted() if self._under_way < self._most else None
        if line is None:
            return None
        self._under_way += 1

        def answered(replies: list[Any] | Exception) -> None:
            self._give_back(line)
            if self._waiting:
                self._pass_place_on()
            else:
                self._under_way -= 1
            if type(replies) is list:
                for reply in replies:
                    if isinstance(reply, _ANOTHER_SERVER_NEEDED):
                        self.drop_idle()  # the one that was just used is among them
            told(replies)

        line.begin(commands, answered)
        return line

    async def subscribe(
        self,
        channel: str,
        receive: Callable[[bytes], None],
        subscribed: Callable[[], None] | None = None,
        also: Aside | None = None,
    ) -> None:
        """Listen to a channel over a line of its own; see `Line.subscribe`."""
        line = await Line.open(self._pool)
        self._busy.add(line)
        try:
            await line.subscribe(channel, receive, subscribed, also)
        finally:
            self._busy.discard(line)

    async def _wait_for_place(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():
                self._pass_place_on()
            raise

    def _pass_place_on(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._under_way -= 1

    def _trusted(self) -> Line | None:
        """Take a line that can be used as it is, if there is one."""
        while self._idle:
            line = self._idle[-1]
            if not line.lost and asyncio.get_running_loop().time() - line.idle_since > self._trusted_for:
                return None
            self._idle.pop()
            if not line.lost:
                self._busy.add(line)
                return line
        return None

    async def _tried_or_new(self) -> Line:
        while self._idle:
            line = self._idle.pop()
            self._busy.add(line)
            if await self._is_well(line):
                return line
            self.drop_idle()  # all others were silent for longer still
        era = self._era
        line = await Line.open(self._pool)
        line.era = era
        self._busy.add(line)
        return line

    async def _is_well(self, line: Line) -> bool:
        well = False
        try:
            well = await line.is_well(self._well_within)
        finally:
            if not well:
                self._busy.discard(line)
        return well

    def _give_back(self, line: Line) -> None:
        self._busy.discard(line)
        if line.lost:
            return
        if line.era != self._era:
            line.drop()
            return
        line.idle_since = asyncio.get_running_loop().time()
        self._idle.append(line)

    def drop_idle(self) -> None:
        """Close the lines that nobody uses, and the others after use: there may be another server by now."""
        self._era += 1
        while self._idle:
            self._idle.pop().drop()

    async def aclose(self, *, busy: bool) -> None:
        """Close all lines, those in use too if asked to."""
        lines, self._idle = self._idle, []
        if busy:
            self._era += 1
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
