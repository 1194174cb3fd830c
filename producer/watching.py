"""Follow running jobs: what they say of how far they are, and that there are new items in their streams.

Owns who follows which job, and that the server knows of it: each follower is told over the one subscription of the
producer (results.py), and asks anew every some seconds, and when the subscription was lost. Deals in bytes and
wake-ups; what they mean is job.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from common.group_commit import GroupCommit
from common.redis.connection import TROUBLE, is_transient
from common.redis.progress import WATCH_MS, ProgressStore, StoredItem
from common.redis.push import Frame
from common.redis.reasons import may_pass
from common.redis.store import MOST_PER_CALL
from producer.answers import Answers
from producer.results import ResultListener

__all__ = ["Watch", "Watching"]

_RENEW_EVERY = WATCH_MS / 3000

_TRY_AGAIN = 0.2

_MOST_ITEMS = 100
"""Items in one reply; a reader takes its time with them, and what it has not asked for is not held here."""


class Watch:
    """One follower of one job.

    Attributes:
        news: set when there is something to look at: progress, items, or the end.
        latest: the newest progress that is known here.
        ended: done when the job has: with its result, or with the error that `ResultListener.wait` raises.
    """

    __slots__ = ("ended", "job_id", "latest", "news", "pushes")

    def __init__(self, job_id: str, ended: asyncio.Future[bytes]) -> None:
        self.job_id = job_id
        self.ended = ended
        self.latest: bytes | None = None
        self.news = asyncio.Event()
        self.news.set()
        self.pushes = 0
        ended.add_done_callback(lambda _: self.news.set())


class Watching:
    """All followers of one producer."""

    def __init__(self, store: ProgressStore, results: ResultListener, answers: Answers) -> None:
        self._store = store
        self._results = results
        self._answers = answers
        self._watches: dict[str, list[Watch]] = {}
        self._registering = GroupCommit(self._register, most=MOST_PER_CALL)
        self._renewing: asyncio.Task[None] | None = None
        self._errands: set[asyncio.Task[None]] = set()
        results.follow(self._told, self._anew)

    @contextlib.asynccontextmanager
    async def of(self, job_id: str, result: bytes | None) -> AsyncIterator[Watch]:
        """Follow a job.

        Args:
            result: of the job, where it is known.

        Raises:
            RedisUnavailable: the server refuses to be asked.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[bytes]
        if result is None:
            ended = loop.create_task(self._results.wait(job_id))
        else:
            ended = loop.create_future()
            ended.set_result(result)
        watch = Watch(job_id, ended)
        self._watches.setdefault(job_id, []).append(watch)
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())
        try:
            if not ended.done() and await self._results.subscribed():
                await self._ask(job_id)
            yield watch
        finally:
            self._watches[job_id].remove(watch)
            if not self._watches[job_id]:
                del self._watches[job_id]
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)

    async def progress(self, job_id: str) -> bytes | None:
        """Return what a job last said of how far it is.

        Raises:
            RedisUnavailable: the server gives no answer, or refuses.
        """
        return await self._answers.of(self._store.progress(job_id), f"the progress of job {job_id}")

    async def items(self, job_id: str, after: bytes | None) -> tuple[list[StoredItem], bool]:
        """Return some items of a job's stream, those after the entry of the last, and whether there may be more.

        A server that is away for a moment is waited for.

        Raises:
            RedisUnavailable: it is away for longer than it has for an answer, or refuses.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._answers.within
        asked = f"the stream of job {job_id}"
        while True:
            try:
                async with asyncio.timeout_at(until) as limit:
                    found = await self._store.items(job_id, after=after, most=_MOST_ITEMS)
                    return found, len(found) == _MOST_ITEMS
            except TROUBLE as error:
                if limit.expired():
                    raise self._answers.late(asked, "the job is not affected") from None
                if not is_transient(error) or not may_pass(error) or self._answers.closed:
                    raise self._answers.refused(asked, error) from None
                if loop.time() + _TRY_AGAIN >= until:
                    raise self._answers.refused(asked, error) from None
            await asyncio.sleep(_TRY_AGAIN)

    async def aclose(self) -> None:
        """Stop following; whoever still does is told that there is no result."""
        tasks = [task for task in (self._renewing, *self._errands) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._renewing = None
        await self._registering.aclose(within=0)

    async def _ask(self, job_id: str) -> None:
        try:
            async with asyncio.timeout(self._answers.within):
                await self._registering.submit(job_id)
        except TROUBLE as error:
            if not is_transient(error) or not may_pass(error):
                raise self._answers.refused(f"the progress of job {job_id}", error) from None
            # The server is away, or one connection was: the next renewal asks again.

    async def _register(self, job_ids: Sequence[str]) -> list[None]:
        before = {watch: watch.pushes for job_id in job_ids for watch in self._watches.get(job_id, ())}
        progress = await self._store.watch(self._results.channel, job_ids)
        for job_id, latest in zip(job_ids, progress, strict=True):
            for watch in self._watches.get(job_id, ()):
                # What was pushed since may be newer than this reply.
                if latest is not None and before.get(watch) == watch.pushes:
                    watch.latest = latest
                watch.news.set()
        return [None] * len(job_ids)

    def _told(self, frame: Frame) -> None:
        for watch in self._watches.get(frame.job_id, ()):
            if frame.content is not None:
                watch.latest = frame.content
                watch.pushes += 1
            watch.news.set()

    def _anew(self) -> None:
        if self._watches:
            task = asyncio.create_task(self._register_all())
            self._errands.add(task)
            task.add_done_callback(self._errands.discard)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_EVERY)
            await self._register_all()

    async def _register_all(self) -> None:
        job_ids = list(self._watches)
        with contextlib.suppress(*TROUBLE):  # the waits for the results, beside, say when it is away for too long
            for start in range(0, len(job_ids), MOST_PER_CALL):
                async with asyncio.timeout(self._answers.within):
                    await self._register(job_ids[start : start + MOST_PER_CALL])
