"""The demo's jobs, enqueued as a user's program would: a fetch for each item, an insert for each batch of rows.

Owns what is enqueued, how many are under way at once, and what becomes of the results. Starts no process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from cli.demo.items import Item
from cli.demo.progress import Counts, View
from cli.demo.report import Failure
from cli.demo.tasks import Checksum, fetch_checksum
from cli.demo.verify import TABLE
from common import Call
from common.errors import BarqueError, JobError, TaskFailed
from common.jobs import new_job_id
from common.settings import Settings
from producer import Producer
from workers.tasks.database import insert_rows, query_database

__all__ = ["Work", "erase"]

T = TypeVar("T")

_ROWS_A_JOB = 100
_SECONDS_TO_GATHER_ROWS = 0.25
_SECONDS_BETWEEN_LOOKS = 0.125
_DATABASE_TIMEOUT = 60.0
"""Seconds an attempt at the database has; the demo's timeout for a fetch may be far shorter."""
_PATIENCE = 900.0
"""Seconds a job has until its end, all attempts and waits included; a `Retry-After` may say more."""


class Work:
    """Fetches the items and stores a row each.

    Args:
        settings: of the producer.
        queue: where all jobs go.
        items: what to fetch.
        window: fetches under way at once, waiting ones included.

    Attributes:
        counts: where it stands.
        failures: what failed for good.
        failed: names of the items among them.
        job_ids: of all jobs, each noted before it is enqueued.
        seconds: from the first enqueue to the last row stored.
    """

    def __init__(self, settings: Settings, queue: str, items: Sequence[Item], *, window: int) -> None:
        self._settings = settings
        self._queue = queue
        self._items = items
        self._window = window
        self._rows: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.counts = Counts(total=len(items))
        self.failures: list[Failure] = []
        self.failed: set[str] = set()
        self.job_ids: list[str] = []
        self.seconds = 0.0

    async def run(self, look: Callable[[Counts], None], view: View) -> None:
        """Do all of it.

        Args:
            look: called some times a second; brings the counts up to date, and raises to end the run.
            view: shown the counts as often.

        Raises:
            BarqueError: the server was lost, or whatever `look` raises.
        """
        try:
            async with Producer(settings=self._settings) as producer, _beside(self._watch(look, view)):
                started = time.perf_counter()
                await self._submit(producer, query_database(TABLE, write=True), timeout=_DATABASE_TIMEOUT)
                await self._fetch_and_store(producer)
                self.seconds = time.perf_counter() - started
        except BaseExceptionGroup as group:
            raise _first(group) from None

    async def _fetch_and_store(self, producer: Producer) -> None:
        items = iter(self._items)

        async def fetch_on() -> None:
            for item in items:  # shared by all streams: each takes the next one
                await self._fetch(producer, item)

        async with asyncio.TaskGroup() as storing:
            storing.create_task(self._store(producer))
            async with asyncio.TaskGroup() as fetching:
                for _ in range(min(self._window, len(self._items))):
                    fetching.create_task(fetch_on())
            self._rows.put_nowait(None)

    async def _fetch(self, producer: Producer, item: Item) -> None:
        try:
            found = await self._submit(producer, fetch_checksum(item.url))
        except JobError as error:
            self.counts.failed += 1
            self.failed.add(item.name)
            self.failures.append(Failure(item.label, _words(error)))
            return
        self.counts.fetched += 1
        self.counts.last = item.label
        self._rows.put_nowait(_row(item, found))

    async def _store(self, producer: Producer) -> None:
        """Store rows in batches until there are no more: a job of a hundred rows costs little more than one of one."""
        more = True
        while more:
            rows, more = await self._next_rows()
            if not rows:
                continue
            # A job may run twice; a row that is there already is then left alone.
            call = insert_rows("fetched", rows, on_conflict="ignore")
            try:
                await self._submit(producer, call, timeout=_DATABASE_TIMEOUT)
            except JobError as error:
                self.failures.append(Failure(f"insert_rows of {len(rows):,} rows", _words(error)))
            else:
                self.counts.stored += len(rows)

    async def _next_rows(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the rows of one job, and whether there may be more."""
        rows: list[dict[str, Any]] = []
        until: float | None = None
        while len(rows) < _ROWS_A_JOB:
            try:
                async with asyncio.timeout_at(until):
                    row = await self._rows.get()
            except TimeoutError:
                break
            if row is None:
                return rows, False
            rows.append(row)
            until = until or asyncio.get_running_loop().time() + _SECONDS_TO_GATHER_ROWS
        return rows, True

    async def _submit(self, producer: Producer, call: Call[T], *, timeout: float | None = None) -> T:
        job_id = new_job_id()
        self.job_ids.append(job_id)  # before the server has it, so that none escapes the clean-up
        job = await producer.enqueue(call, job_id=job_id, queue=self._queue, timeout=timeout)
        return await job.result(_PATIENCE)

    async def _watch(self, look: Callable[[Counts], None], view: View) -> None:
        while True:
            look(self.counts)
            view.update(self.counts)
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)


async def erase(settings: Settings, queue: str, job_ids: Sequence[str]) -> None:
    """Remove the queue and all there is of these jobs from the server; their workers must have ended."""
    async with Producer(settings=settings) as producer:
        await producer.store.erase(queue, job_ids)


@asynccontextmanager
async def _beside(watch: Any) -> AsyncIterator[None]:
    """Run a coroutine beside the block: its error ends the block, the block's end ends it."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch)
        yield
        task.cancel()


def _row(item: Item, found: Checksum) -> dict[str, Any]:
    return {
        "name": item.name,
        "status": found.status,
        "size": found.size,
        "sha256": found.sha256,
        "attempts": found.attempts,
        "worker": found.worker,
        "elapsed_ms": found.elapsed_ms,
    }


def _words(error: JobError) -> str:
    if not isinstance(error, TaskFailed):
        return str(error)
    return f"{error.remote_type.rpartition('.')[2]}: {error.remote_message} (attempts: {error.attempts})"


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the first error in it that is Barque's own, else the first."""
    leaves = [_first(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, BarqueError)), leaves[0])
