"""Whether the server answers at once: a slow disk holds it up, for it writes out what it acknowledges.

A worker whose renewal came too late for that reason was fenced, and no defect; but it must be seen to have been so.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Self

__all__ = ["ServerWatch"]

_ASK_EVERY = 0.1

_WORTH_NOTING = 0.25


class ServerWatch:
    """Asks a server on loopback for a PONG again and again.

    Args:
        stood_still: called with the beginning and the end of each wait that was long. One that does not answer
            because it is not there is nothing to this.
    """

    def __init__(self, port: int, stood_still: Callable[[float, float], None]) -> None:
        self._port = port
        self._stood_still = stood_still
        self._asking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._asking = asyncio.create_task(self._ask_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._asking is not None
        self._asking.cancel()
        await asyncio.wait({self._asking})

    async def _ask_on(self) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    await self._ask(reader, writer)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(_ASK_EVERY)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked = time.monotonic()
            writer.write(b"PING\r\n")
            await reader.readuntil(b"\r\n")
            if time.monotonic() - asked > _WORTH_NOTING:
                self._stood_still(asked, time.monotonic())
            await asyncio.sleep(_ASK_EVERY)
