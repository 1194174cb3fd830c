"""Send together what arrives together.

Owns the batching of concurrent calls into shared round trips. While one batch is on the wire the next one gathers:
at idle a batch is one item and leaves at once, under load batches grow by themselves, and no timer delays anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from functools import partial
from typing import Final, Generic, TypeVar

import msgspec

from common.alarm import Alarm

__all__ = ["SEND", "Begun", "GroupCommit", "Send"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Send(Enum):
    """The type of `SEND`."""

    SEND = "send"


SEND: Final = Send.SEND
"""Says of an item that was begun: it was not taken, have it sent."""


class Begun(msgspec.Struct):
    """An item that is on its way by itself.

    Attributes:
        until: the event loop's time at which no answer comes any more.
        give_up: called then; it tells the error that its caller gets.
    """

    until: float
    give_up: Callable[[], None]


class GroupCommit(Generic[Item, Answer]):
    """Turn many awaited `submit` calls into few calls of `send`.

    Args:
        send: takes a batch, returns an answer for each item in order; an answer that is an exception is raised to
            that item's caller. What it raises itself reaches every caller whose item was in that batch.
        most: items in one batch at the most.
        begin: sends an item in this very step of the event loop, if it can. An item that is alone then leaves without
            a task that is made for it, and its caller goes on in the step after the answer came: in a process that
            was idle that is a seventh of a job's way. It is given the item, and what it calls once with the answer or
            an exception, or with `SEND`.
    """

    def __init__(
        self,
        send: Callable[[list[Item]], Awaitable[Sequence[Answer | Exception]]],
        *,
        most: int = 1000,
        begin: Callable[[Item, Callable[[Answer | Exception | Send], None]], Begun | None] | None = None,
    ) -> None:
        self._send = send
        self._most = most
        self._begin = begin
        self._pending: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._sender: asyncio.Task[None] | None = None
        self._alone = True  # the last batch was one item; those of many callers at once go together
        self._begun: asyncio.Future[Answer] | None = None  # of the item that was begun and has no answer yet
        self._give_up: Callable[[], None] | None = None
        self._alarm = Alarm(self._late)
        self._answered: asyncio.Event | None = None  # there when somebody waits for that answer

    def submit(self, item: Item) -> asyncio.Future[Answer]:
        """Send the item with the next batch; the answer is to be awaited."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        if self._sender is None and self._begun is None:
            if self._alone and self._begin is not None:
                begun = self._begin(item, partial(self._tell, item, future))
                if begun is not None:
                    self._begun, self._give_up = future, begun.give_up
                    self._alarm.set(begun.until)
                    return future
            self._sender = loop.create_task(self._send_all())
        self._pending.append((item, future))
        return future

    async def aclose(self, *, within: float | None = None) -> None:
        """Wait until all that was submitted is answered; cancel what is not after `within` seconds."""
        while self._begun is not None or self._sender is not None:  # whoever has an answer may submit the next one
            if self._begun is not None:
                await self._end_begun(within)
                continue
            sender = self._sender
            assert sender is not None
            done, _ = await asyncio.wait({sender}, timeout=within)
            if not done:
                pending, self._pending = self._pending, []
                for _, future in pending:
                    future.cancel()
                sender.cancel()
                await asyncio.wait({sender})
        self._alarm.stop()

    def _tell(self, item: Item, future: asyncio.Future[Answer], answer: Answer | Exception | Send) -> None:
        """Hand on what became of an item that was begun, and go on with those that came meanwhile."""
        if self._begun is not future:
            return  # it was given up before
        self._begun = self._give_up = None
        self._alarm.clear()
        if isinstance(answer, Send):
            self._pending.insert(0, (item, future))
        elif not future.done():  # its caller was not cancelled meanwhile
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        if self._pending:
            self._sender = future.get_loop().create_task(self._send_all())
        if self._answered is not None:
            self._answered.set()
            self._answered = None

    def _late(self) -> None:
        if self._give_up is not None:
            self._give_up()

    async def _end_begun(self, within: float | None) -> None:
        begun = self._begun
        answered = self._answered = self._answered or asyncio.Event()  # several may close at once
        try:
            async with asyncio.timeout(within):
                await answered.wait()
        except TimeoutError:
            if begun is not None and self._begun is begun:
                begun.cancel()
                self._late()

    async def _send_all(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending[: self._most], self._pending[self._most :]
                self._alone = len(batch) == 1
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
