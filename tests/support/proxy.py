"""A stretch of network between a client and a server that a test can make bad.

async with Proxy(server.port) as proxy:      proxy.url, instead of the server's
    proxy.replies.clear()                    what the server says is held back, until `proxy.replies.set()`
    proxy.cut_at = b"WAITAOF"                a client that says this is cut off, and the server never hears it
    proxy.cut_all()                          every connection breaks
    proxy.leads_to = other.port              new connections end there, as behind a name that was moved
"""

import asyncio
import contextlib

__all__ = ["Proxy"]


class Proxy:
    """Passes bytes on, or does not."""

    def __init__(self, port: int) -> None:
        self.leads_to = port
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.replies = asyncio.Event()
        self.replies.set()
        self.cut_at: bytes | None = None
        self.cuts = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self):
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_) -> None:
        self._listener.close()
        self.replies.set()
        self.cut_all()
        if self._connections:
            await asyncio.wait(self._connections)

    def cut_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError):
                await self._pass_on(reader, writer)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._connections.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.leads_to)
        self._writers |= {writer, to_server}
        try:
            ways = {
                asyncio.create_task(self._copy(reader, to_server, self._heard)),
                asyncio.create_task(self._copy(from_server, writer, self._said)),
            }
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
        finally:
            to_server.transport.abort()
            self._writers.discard(to_server)

    async def _copy(self, source, target, may_pass) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if not await may_pass(data):
                    return
                target.write(data)
                await target.drain()

    async def _heard(self, data: bytes) -> bool:
        if self.cut_at is not None and self.cut_at in data:
            self.cuts += 1
            return False
        return True

    async def _said(self, data: bytes) -> bool:
        await self.replies.wait()
        return True
