"""Send together what arrives together.

Owns the batching of concurrent calls into shared round trips. While one batch is on the wire the next one gathers:
at idle a batch is one item and leaves at once, under load batches grow by themselves, and no timer delays anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["GroupCommit"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class GroupCommit(Generic[Item, Answer]):
    """Turn many awaited `submit` calls into few calls of `send`.

    Args:
        send: takes a batch, returns an answer for each item in order; an answer that is an exception is raised to
            that item's caller. What it raises itself reaches every caller whose item was in that batch.
        most: items in one batch at the most.
    """

    def __init__(
        self, send: Callable[[list[Item]], Awaitable[Sequence[Answer | Exception]]], *, most: int = 1000
    ) -> None:
        self._send = send
        self._most = most
        self._pending: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Answer:
        """Send the item with the next batch and return its answer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._pending.append((item, future))
        if self._sender is None:
            self._sender = loop.create_task(self._send_all())
        return await future

    async def aclose(self, *, within: float | None = None) -> None:
        """Wait until all that was submitted is answered; cancel what is not after `within` seconds."""
        while (sender := self._sender) is not None:
            done, _ = await asyncio.wait({sender}, timeout=within)
            if not done:
                pending, self._pending = self._pending, []
                for _, future in pending:
                    future.cancel()
                sender.cancel()
                await asyncio.wait({sender})

    async def _send_all(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending[: self._most], self._pending[self._most :]
                await self._send_batch(batch)
        finally:
            self._sender = None

    async def _send_batch(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._send([item for item, _ in batch])
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():  # its caller was cancelled meanwhile
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
