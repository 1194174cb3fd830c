"""Record outcomes together: group commit.

Owns the batch of outcomes that wait for Redis. While one batch is on the wire the next one gathers; at idle the
batch is one and leaves at once, under load it grows by itself. Survives an absent server: a batch is sent again
until it is recorded. Knows nothing of how an outcome came about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from common.redis.connection import TROUBLE, is_transient
from common.redis.store import MOST_PER_CALL, Finish, PutBack, Store
from workers.attempt import Outcome
from workers.backoff import Backoff

__all__ = ["Completer"]

log = structlog.get_logger("barque.completer")


class Completer:
    """Sends outcomes in batches and reports what became of each.

    Args:
        recorded: called with each batch of outcomes the store took.
        refused: called with each outcome whose lease was another's by then.
    """

    def __init__(
        self,
        store: Store,
        queues: Sequence[str],
        *,
        recorded: Callable[[Sequence[Outcome]], None],
        refused: Callable[[Outcome], None],
    ) -> None:
        self._store = store
        self._queues = queues
        self._recorded = recorded
        self._refused = refused
        self._pending: list[Outcome] = []
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._backoff = Backoff()
        self._unanswered = False  # whether the batch at hand was sent before: it may be recorded already

    @property
    def waiting(self) -> int:
        """Outcomes not yet on the wire."""
        return len(self._pending)

    def add(self, outcome: Outcome) -> None:
        """Take an outcome, to be recorded with the next batch."""
        self._pending.append(outcome)
        self._idle.clear()
        self._arrived.set()

    async def drained(self) -> None:
        """Wait until every outcome taken so far is recorded."""
        await self._idle.wait()

    async def run(self) -> None:
        """Record batches until cancelled."""
        while True:
            await self._arrived.wait()
            batch, self._pending = self._pending[:MOST_PER_CALL], self._pending[MOST_PER_CALL:]
            if not self._pending:
                self._arrived.clear()
            try:
                await self._record(batch)
            except asyncio.CancelledError:
                self._pending[:0] = batch  # whoever runs this next sends it again
                self._arrived.set()
                raise
            if not self._pending:
                self._idle.set()

    async def _record(self, batch: list[Outcome]) -> None:
        records: list[Finish | PutBack] = []
        kept: list[Outcome] = []
        for outcome in batch:
            if outcome.record is None:
                self._refused(outcome)
            else:
                records.append(outcome.record)
                kept.append(outcome)
        if not records:
            return
        refused = await self._send(kept, records)
        if refused:
            lost = set(refused)
            for index in refused:
                self._refused(kept[index])
            kept = [outcome for index, outcome in enumerate(kept) if index not in lost]
        self._recorded(kept)

    async def _send(self, batch: list[Outcome], records: list[Finish | PutBack]) -> list[int]:
        """Send until the server has it. The script recognises a second copy, so sending again is safe."""
        while True:
            again, self._unanswered = self._unanswered, True
            try:
                refused = await self._store.complete(self._queues, records, again=again)
            except TROUBLE as error:
                if not is_transient(error):
                    return await self._send_apart(batch, records, error)
                delay = self._backoff.next()
                log.warning(
                    "outcomes_wait", error=f"{type(error).__name__}: {error}", outcomes=len(batch), again_in_s=delay
                )
                await asyncio.sleep(delay)
            else:
                self._backoff.reset()
                self._unanswered = False
                return refused.lost

    async def _send_apart(self, batch: list[Outcome], records: list[Finish | PutBack], error: Exception) -> list[int]:
        """Find the outcome the server cannot record (a key of a foreign type) and let the others through."""
        if len(records) == 1:
            log.error("outcome_not_recorded", job_id=batch[0].attempt.job_id, error=str(error))
            return [0]
        middle = len(records) // 2
        first = await self._send(batch[:middle], records[:middle])
        self._unanswered = True
        second = await self._send(batch[middle:], records[middle:])
        return [*first, *(middle + index for index in second)]
