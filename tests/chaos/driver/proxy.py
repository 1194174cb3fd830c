"""A network between a worker and its server that can be cut, deaf or slow: a TCP proxy on loopback.

Owns the connections through it. Bytes are delayed, never changed, dropped within a connection or put out of order:
TCP would not do that either.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Self

__all__ = ["Proxy"]

_MOST_READ = 65536


class Proxy:
    """Passes bytes on to a port of loopback.

    Attributes:
        port: where it listens.
        delay: seconds that bytes take each way; the half again at random is added.
    """

    def __init__(self, target: int, *, seed: int = 0) -> None:
        self._target = target
        self._chance = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._passing.set()
        self._refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self.delay = 0.0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for handler in list(self._handlers):
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Break all connections and refuse new ones, until `heal`."""
        self._refusing = True
        for writer in list(self._writers):
            writer.transport.abort()

    def go_deaf(self) -> None:
        """Keep all connections, take new ones, and let no byte through either way, until `heal`."""
        self._passing.clear()

    def heal(self) -> None:
        """Pass everything on again, what was held back first."""
        self._refusing = False
        self._passing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self._writers.add(writer)
        try:
            if not self._refusing:
                await self._join(reader, writer)
        finally:
            self._handlers.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            return
        self._writers.add(server_writer)
        both = {
            asyncio.create_task(self._pump(reader, server_writer)),
            asyncio.create_task(self._pump(server_reader, writer)),
        }
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in both:
                pump.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            self._writers.discard(server_writer)
            server_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on, one way, until either end is gone."""
        on_their_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = asyncio.create_task(self._deliver(on_their_way, writer))
        now = asyncio.get_running_loop().time
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(_MOST_READ):
                    late = self.delay * (1 + self._chance.random() / 2) if self.delay else 0.0
                    on_their_way.put_nowait((now() + late, data))
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)

    async def _deliver(self, on_their_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        now = asyncio.get_running_loop().time
        while True:
            due, data = await on_their_way.get()
            if due > now():
                await asyncio.sleep(due - now())
            await self._passing.wait()
            writer.write(data)
            await writer.drain()
