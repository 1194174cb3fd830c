"""Wait for results, pushed over one subscription shared by all jobs of a producer.

Owns the subscription, who waits for which job, and the slow look underneath for what no push announces (a stock arq
worker makes no noise when it finishes). Deals in result bytes; what they mean is job.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence

from common.errors import JobNotFound, RedisUnavailable
from common.group_commit import GroupCommit
from common.redis import keys
from common.redis.connection import TROUBLE
from common.redis.push import messages, result_frames
from common.redis.store import Store

__all__ = ["ResultListener"]

_LOOK_EVERY = 1.0
_RECONNECT_AFTER = 0.2


class ResultListener:
    """Hands each waiter the result of its job, once, as soon as it is there.

    The race between asking and finishing is closed on the server: the script that registers a wait returns the
    result if it is there already. The race between subscribing and a push is closed here: nothing is registered
    before the server has confirmed the subscription, and after a lost connection all waits are registered anew.
    """

    def __init__(self, store: Store, listener_id: str) -> None:
        self._store = store
        self._channel = keys.result_channel(listener_id)
        self._waiting: dict[str, list[asyncio.Future[bytes]]] = {}
        self._subscribed = asyncio.Event()
        self._registering = GroupCommit(self._register)
        self._tasks: list[asyncio.Task[None]] = []

    async def wait(self, job_id: str) -> bytes:
        """Return the result's bytes, when the job has ended.

        Raises:
            JobNotFound: there is no such job, or its result is no longer kept.
            RedisUnavailable: the server cannot be reached now. The job is not affected.
        """
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._look_regularly())]
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, []).append(future)
        try:
            await self._subscribed.wait()
            try:
                await self._registering.submit(job_id)
            except TROUBLE as error:
                raise RedisUnavailable(f"cannot ask for the result of job {job_id}: {error}") from error
            return await future
        finally:
            self._forget(job_id, future)

    async def aclose(self) -> None:
        """Stop listening; whoever still waits is cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()
        await self._registering.aclose()

    def _forget(self, job_id: str, future: asyncio.Future[bytes]) -> None:
        futures = self._waiting.get(job_id)
        if futures is not None:
            with contextlib.suppress(ValueError):
                futures.remove(future)
            if not futures:
                del self._waiting[job_id]

    async def _register(self, job_ids: Sequence[str]) -> list[None]:
        answers = await self._store.await_results(self._channel, job_ids)
        for job_id, answer in zip(job_ids, answers, strict=True):
            if isinstance(answer, bytes):
                self._resolve(job_id, answer)
            elif not answer:
                self._fail(job_id)
        return [None] * len(job_ids)

    def _resolve(self, job_id: str, result: bytes) -> None:
        for future in self._waiting.get(job_id, ()):
            if not future.done():
                future.set_result(result)

    def _fail(self, job_id: str) -> None:
        for future in self._waiting.get(job_id, ()):
            if not future.done():
                future.set_exception(
                    JobNotFound(
                        f"job {job_id} is not there: it was never enqueued here, or it ended and its result is "
                        "not kept (keep_result)",
                        job_id=job_id,
                    )
                )

    async def _listen(self) -> None:
        while True:
            try:
                async for message in messages(self._store.client, self._channel, subscribed=self._on_subscribed):
                    await self._on_message(message)
            except TROUBLE:
                # Waiters go on waiting, as for a slow job; their own timeouts say how long.
                self._subscribed.clear()
                await asyncio.sleep(random.uniform(_RECONNECT_AFTER / 2, _RECONNECT_AFTER))  # noqa: S311

    def _on_subscribed(self) -> None:
        self._subscribed.set()
        if self._waiting:
            # What ended while we were not subscribed was pushed to nobody.
            self._tasks = [task for task in self._tasks if not task.done()]
            self._tasks.append(asyncio.create_task(self._look()))

    async def _on_message(self, message: bytes) -> None:
        large: list[str] = []
        for job_id, result in result_frames(message):
            if result is None:
                large.append(job_id)
            else:
                self._resolve(job_id, result)
        if large:
            for job_id, stored in zip(large, await self._store.results(large), strict=True):
                if stored is not None:
                    self._resolve(job_id, stored)

    async def _look_regularly(self) -> None:
        while True:
            # Ten thousand waits are looked at within ten seconds, not within one.
            await asyncio.sleep(_LOOK_EVERY * max(1.0, len(self._waiting) / 1000))
            await self._look()

    async def _look(self) -> None:
        waiting = list(self._waiting)
        if waiting and self._subscribed.is_set():
            with contextlib.suppress(*TROUBLE):  # the next look comes
                await self._register(waiting)
