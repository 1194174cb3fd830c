"""Record outcomes together: group commit.

Owns the batch of outcomes that wait for Redis. While one batch is on the wire the next one gathers; at idle the
batch is one and leaves at once, under load it grows by itself. Survives an absent server: a batch is sent again
until it is recorded. Knows nothing of how an outcome came about.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, takewhile

import structlog

from common.alarm import Alarm
from common.redis.connection import TROUBLE, ServerError, is_transient
from common.redis.store import MOST_PER_CALL, Finish, Store
from workers.attempt import Outcome
from workers.backoff import Backoff
from workers.metrics import Metrics

__all__ = ["Completer"]

_let_the_server_run: Callable[[], None] = getattr(os, "sched_yield", lambda: None)
"""After an outcome is written while all is idle (over TLS that comes later in the step). The kernel wakes a server of
the same host on the writer's processor, where it would wait for this process, which has a tenth of a millisecond of
lesser things to do first."""

log = structlog.get_logger("barque.completer")

_MOST_BYTES = 8 * 1024 * 1024
"""Bytes of results in one call, unless a single one is larger: the server does nothing else while it takes them."""

_LARGE = 64 * 1024
"""Bytes of a result that may be too many for a server; a smaller one is sent until it arrives."""

_MOST_WAITING_BYTES = 64 * 1024 * 1024
"""Bytes of results that wait here past which there should be no more."""

_BREAKS = 3
"""How often a connection breaks on a batch, with a server that is well, before its large results are sent alone."""

_BREAKS_ALONE = 6
"""How often it breaks on one large result before that is replaced by words."""


class Completer:
    """Sends outcomes in batches and reports what became of each.

    Args:
        recorded: called with each batch of outcomes the store took.
        refused: called with each outcome whose lease was another's by then.
        in_words: makes a small outcome in place of one whose result the server does not take, or None.
        patience: seconds to wait for a reply; a server that hangs is then asked over a new connection.
        most_waiting: outcomes that wait here past which there should be no more.
        metrics: is told how long the server takes.
    """

    def __init__(
        self,
        store: Store,
        queues: Sequence[str],
        *,
        recorded: Callable[[Sequence[Outcome]], None],
        refused: Callable[[Outcome], None],
        in_words: Callable[[Outcome, Exception], Outcome | None],
        patience: float,
        most_waiting: int = 1000,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics
        self._store = store
        self._queues = queues
        self._recorded = recorded
        self._refused = refused
        self._in_words = in_words
        self._patience = patience
        self._most_waiting = most_waiting
        self._pending: list[Outcome] = []
        self._pending_bytes = 0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._backoff = Backoff()
        self._alone = True  # the last batch was one outcome: so may the next be
        self._begun: Outcome | None = None  # on its way by itself
        self._asked_at = 0.0
        self._answer: bool | Exception | None = None  # what became of it
        self._alarm = Alarm(self._give_up)
        self._unanswered = False  # whether the batch at hand was sent before: it may be recorded already

    @property
    def waiting(self) -> int:
        """Outcomes not yet on the wire."""
        return len(self._pending)

    @property
    def backed_up(self) -> bool:
        """Whether so much waits for the server that no more jobs are to be claimed: memory stays bounded."""
        return len(self._pending) > self._most_waiting or self._pending_bytes > _MOST_WAITING_BYTES

    def add(self, outcome: Outcome) -> None:
        """Take an outcome, to be recorded with the next batch."""
        if not self._pending and self._begun is None:
            if self._alone and self._idle.is_set() and self._begin(outcome):
                return
            self._idle.clear()
            self._arrived.set()
        self._pending.append(outcome)
        record = outcome.record
        if type(record) is Finish:
            self._pending_bytes += len(record.result)

    async def drained(self) -> None:
        """Wait until every outcome taken so far is recorded."""
        await self._idle.wait()

    async def run(self) -> None:
        """Record batches until cancelled."""
        while True:
            await self._arrived.wait()
            self._settle_begun()
            batch = self._next_batch()
            self._alone = len(batch) <= 1
            if not self._pending:
                self._arrived.clear()
            try:
                await self._record(batch)
            except asyncio.CancelledError:
                self._pending[:0] = batch  # whoever runs this next sends it again
                self._pending_bytes += sum(map(_size, batch))
                self._arrived.set()
                raise
            if not self._pending:
                self._idle.set()

    def _begin(self, outcome: Outcome) -> bool:
        """Send an outcome in this step of the event loop, while there is no other; `run` is told what became of it."""
        record = outcome.record
        if record is None or self._unanswered:
            return False
        line = self._store.begin_complete(self._queues, record, partial(self._told, outcome))
        if line is None:
            return False
        self._idle.clear()
        self._begun, self._line = outcome, line
        self._asked_at = time.perf_counter()
        _let_the_server_run()
        self._alarm.set(asyncio.get_running_loop().time() + self._patience)
        return True

    def _told(self, outcome: Outcome, answer: bool | Exception) -> None:  # noqa: FBT001 - the store's word
        if self._begun is outcome and self._answer is None:
            self._answer = answer
            self._alarm.clear()
            self._arrived.set()

    def _give_up(self) -> None:
        """Have an outcome whose answer does not come sent again, over another line."""
        if self._begun is not None and self._answer is None:
            self._answer = TimeoutError()
            self._arrived.set()
            self._line.drop()

    def _settle_begun(self) -> None:
        """See to the outcome that was sent by itself, if it was answered; it is sent again where it was refused."""
        outcome, answer = self._begun, self._answer
        if outcome is None or answer is None:
            return
        self._begun = self._answer = None
        if isinstance(answer, Exception):
            self._pending.insert(0, outcome)
            self._pending_bytes += _size(outcome)
            self._unanswered = True  # if it was recorded, the script will know
            return
        if self._metrics is not None:
            self._metrics.round_trips["complete"].add(time.perf_counter() - self._asked_at)
        if answer:
            self._recorded((outcome,))
        else:
            self._refused(outcome)

    def _next_batch(self) -> list[Outcome]:
        """Take what goes on the wire together: as many as fit one call, and few enough bytes for the server's ease."""
        count = min(len(self._pending), MOST_PER_CALL)
        if self._pending_bytes > _MOST_BYTES:
            sizes = accumulate(map(_size, self._pending[:count]))
            count = max(1, sum(1 for _ in takewhile(_MOST_BYTES.__ge__, sizes)))
        batch, self._pending = self._pending[:count], self._pending[count:]
        self._pending_bytes = self._pending_bytes - sum(map(_size, batch)) if self._pending else 0
        return batch

    async def _record(self, batch: list[Outcome]) -> None:
        kept: list[Outcome] = []
        for outcome in batch:
            if outcome.record is None:
                self._refused(outcome)
            else:
                kept.append(outcome)
        if not kept:
            return
        refused = await self._send(kept)
        if refused:
            lost = set(refused)
            for index in refused:
                self._refused(kept[index])
            kept = [outcome for index, outcome in enumerate(kept) if index not in lost]
        self._recorded(kept)

    async def _send(self, batch: list[Outcome]) -> list[int]:
        """Send until the server has it. The script recognises a second copy, so sending again is safe."""
        records = [outcome.record for outcome in batch if outcome.record is not None]
        breaks = 0
        while True:
            again, self._unanswered = self._unanswered, True
            asked_at = time.perf_counter()
            try:
                async with asyncio.timeout(self._patience):
                    refused = await self._store.complete(self._queues, records, again=again)
            except TROUBLE as error:
                if not is_transient(error):
                    return await self._send_apart(batch, error)
                breaks = breaks + 1 if await self._breaks_on_this(batch, error) else 0
                if breaks >= (_BREAKS if len(batch) > 1 else _BREAKS_ALONE):
                    return await self._send_large_ones_alone(batch, error)
                await self._pause(batch, error)
            else:
                self._backoff.reset()
                self._unanswered = False
                if self._metrics is not None:
                    self._metrics.round_trips["complete"].add(time.perf_counter() - asked_at)
                return refused.lost

    async def _pause(self, batch: list[Outcome], error: Exception) -> None:
        delay = self._backoff.next()
        log.warning("outcomes_wait", error=f"{type(error).__name__}: {error}", outcomes=len(batch), again_in_s=delay)
        await asyncio.sleep(delay)

    async def _breaks_on_this(self, batch: list[Outcome], error: Exception) -> bool:
        """Tell whether the connection breaks on a large result of this batch while the server is well otherwise.

        So a server behaves whose limit on the length of one argument is smaller than the result is.
        """
        if isinstance(error, ServerError) or not any(map(_is_large, batch)):
            return False
        try:
            async with asyncio.timeout(self._patience):
                await self._store.client.ping()
        except TROUBLE:
            return False
        return True

    async def _send_large_ones_alone(self, batch: list[Outcome], error: Exception) -> list[int]:
        """Let all others through, and find which of the large results the server does not take."""
        if len(batch) == 1:
            return await self._send_in_words(batch[0], error)
        small = [index for index, outcome in enumerate(batch) if not _is_large(outcome)]
        groups = [small] if small else []
        groups += [[index] for index, outcome in enumerate(batch) if _is_large(outcome)]
        refused: list[int] = []
        for group in groups:
            self._unanswered = True
            refused += [group[index] for index in await self._send([batch[index] for index in group])]
        return refused

    async def _send_apart(self, batch: list[Outcome], error: Exception) -> list[int]:
        """Find the outcome the server refuses and let the others through."""
        if len(batch) == 1:
            return await self._send_in_words(batch[0], error)
        middle = len(batch) // 2
        first = await self._send(batch[:middle])
        self._unanswered = True
        second = await self._send(batch[middle:])
        return [*first, *(middle + index for index in second)]

    async def _send_in_words(self, outcome: Outcome, error: Exception) -> list[int]:
        """Record that the job failed because its result cannot be stored; give up what is not refused for its size."""
        words = self._in_words(outcome, error) if _is_large(outcome) else None
        if words is None:  # a key of a foreign type, say
            log.error("outcome_not_recorded", job_id=outcome.attempt.job_id, error=str(error))
            return [0]
        outcome.become(words)
        return await self._send([outcome])


def _size(outcome: Outcome) -> int:
    record = outcome.record
    return len(record.result) if isinstance(record, Finish) else 0


def _is_large(outcome: Outcome) -> bool:
    return _size(outcome) >= _LARGE
