"""`BlockingProducer`: the same producer for synchronous code: Django views, scripts, notebooks.

Owns one background thread with an event loop, in which a `Producer` lives; every method here runs the method of the
same name there and waits. There is no second implementation.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, Self, TypeVar, overload

from common.errors import BarqueError, RedisUnavailable
from common.jobs import JobInfo, JobState
from common.settings import Settings
from common.tasks import Call, Task
from producer.client import Producer
from producer.job import Job

__all__ = ["BlockingJob", "BlockingProducer"]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class BlockingJob(Generic[R_co]):
    """The handle of a job, for synchronous code; see `producer.Job`."""

    __slots__ = ("_job", "_producer")

    def __init__(self, producer: BlockingProducer, job: Job[R_co]) -> None:
        self._producer = producer
        self._job = job

    def __repr__(self) -> str:
        return repr(self._job)

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self._job.job_id

    @property
    def queue(self) -> str:
        """The queue it is in."""
        return self._job.queue

    @property
    def is_new(self) -> bool:
        """Whether this enqueue added it."""
        return self._job.is_new

    def result(self, timeout: float | timedelta | None = None) -> R_co:
        """Return what the task returned; wait for it if need be. See `producer.Job.result`."""
        return self._producer.run(self._job.result(timeout))

    def status(self) -> JobState:
        """Return where the job stands now."""
        return self._producer.run(self._job.status())

    def info(self) -> JobInfo:
        """Return all that is stored on the job, without waiting."""
        return self._producer.run(self._job.info())

    def abort(self, *, wait: float | None = 10.0) -> bool:
        """End the job as cancelled. See `producer.Job.abort`."""
        return self._producer.run(self._job.abort(wait=wait))


class BlockingProducer:
    """Enqueue jobs and wait for their results, from synchronous code.

        with BlockingProducer() as producer:
            job = producer.enqueue(fetch_url("https://…"))
            page = job.result(timeout=30)

    Safe to use from many threads, and across a fork: a forked child opens its own connection. Connects on first
    use. Do not use it inside an event loop; there, use `Producer`.

    Args:
        redis_url, settings, answer_within: as for `Producer`.
    """

    def __init__(
        self, redis_url: str | None = None, *, settings: Settings | None = None, answer_within: float = 30.0
    ) -> None:
        self._make = functools.partial(Producer, redis_url, settings=settings, answer_within=answer_within)
        self._make()  # a wrong setting shows here, not at the first enqueue
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._producer: Producer | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def enqueue(
        self,
        call: Call[R],
        *,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        expires: float | timedelta | None = None,
        job_id: str | None = None,
        queue: str | None = None,
        timeout: float | timedelta | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> BlockingJob[R]:
        """Add one job; see `Producer.enqueue`."""
        producer = self._open()
        job = self.run(
            producer.enqueue(
                call,
                delay=delay,
                at=at,
                expires=expires,
                job_id=job_id,
                queue=queue,
                timeout=timeout,
                metadata=metadata,
            )
        )
        return BlockingJob(self, job)

    def enqueue_many(
        self,
        calls: Iterable[Call[R]],
        *,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        expires: float | timedelta | None = None,
        queue: str | None = None,
        timeout: float | timedelta | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[BlockingJob[R]]:
        """Add many jobs, thousands in one round trip; see `Producer.enqueue_many`."""
        producer = self._open()
        jobs = self.run(
            producer.enqueue_many(
                list(calls), delay=delay, at=at, expires=expires, queue=queue, timeout=timeout, metadata=metadata
            )
        )
        return [BlockingJob(self, job) for job in jobs]

    @overload
    def gather(
        self, *calls: Call[R], return_exceptions: Literal[False] = False, timeout: float | None = None
    ) -> list[R]: ...

    @overload
    def gather(
        self, *calls: Call[R], return_exceptions: Literal[True], timeout: float | None = None
    ) -> list[R | BarqueError]: ...

    def gather(
        self, *calls: Call[R], return_exceptions: bool = False, timeout: float | None = None
    ) -> list[R] | list[R | BarqueError]:
        """Enqueue the calls and return their results in order; see `Producer.gather`."""
        producer = self._open()
        if return_exceptions:
            return self.run(producer.gather(*calls, return_exceptions=True, timeout=timeout))
        return self.run(producer.gather(*calls, timeout=timeout))

    def as_completed(self, calls: Iterable[Call[R]], *, timeout: float | None = None) -> Iterator[BlockingJob[R]]:
        """Enqueue the calls and yield their jobs as they end; see `Producer.as_completed`."""
        producer = self._open()
        for job in self._iterate(producer.as_completed(list(calls), timeout=timeout)):
            yield BlockingJob(self, job)

    def map(
        self, task: Callable[[T], Call[R]], items: Iterable[T], *, window: int = 1000, ordered: bool = True
    ) -> Iterator[R]:
        """Run a task on each item and yield the results; see `Producer.map`.

        The items are taken in the background thread.
        """
        producer = self._open()
        return self._iterate(producer.map(task, items, window=window, ordered=ordered))

    def job(self, job_id: str, *, queue: str | None = None, task: Task[..., R] | None = None) -> BlockingJob[R]:
        """Return the handle of a job enqueued elsewhere; see `Producer.job`."""
        return BlockingJob(self, self._open().job(job_id, queue=queue, task=task))

    def close(self) -> None:
        """Close the connection and end the thread. Jobs are not affected."""
        with self._lock:
            loop, thread, producer = self._loop, self._thread, self._producer
            self._loop = self._thread = self._producer = None
            if loop is None or thread is None or self._pid != os.getpid():
                return
        if producer is not None:
            asyncio.run_coroutine_threadsafe(producer.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine of the producer's in the background thread and wait for it.

        An interrupt (Ctrl-C) while waiting cancels it.

        Raises:
            RedisUnavailable: the producer is closed, or it is a forked child's copy whose thread stayed behind.
        """
        loop = self._loop
        if loop is None or self._pid != os.getpid():
            coroutine.close()
            raise RedisUnavailable(
                "this BlockingProducer is not open in this process: a job's handle belongs to the producer that "
                "made it. In a forked child, ask for it again: producer.job(job_id)"
            )
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        async def step() -> tuple[T] | None:
            try:
                return (await anext(source),)
            except StopAsyncIteration:
                return None

        async def end() -> None:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()

        try:
            while (item := self.run(step())) is not None:
                yield item[0]
        finally:
            with contextlib.suppress(RedisUnavailable):  # closed in between: nothing of it is left
                self.run(end())

    def _open(self) -> Producer:
        with self._lock:
            if self._producer is not None and self._pid == os.getpid():
                return self._producer
            # First use, or first use after a fork, in which threads do not survive.
            self._pid = os.getpid()
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="barque-producer", daemon=True)
            thread.start()
            producer = self._make()
            try:
                asyncio.run_coroutine_threadsafe(producer.connect(), loop).result()
            except BaseException:
                loop.call_soon_threadsafe(loop.stop)
                thread.join()
                loop.close()
                raise
            self._loop, self._thread, self._producer = loop, thread, producer
            return producer
