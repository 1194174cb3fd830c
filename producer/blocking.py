"""`BlockingProducer`: the same producer for synchronous code: Django views, scripts, notebooks.

Owns a `Producer` in a background thread (background.py); every method here runs the method of the same name there
and waits. There is no second implementation.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Never, Self, TypeVar, Unpack, overload

from common.errors import BarqueError, RedisUnavailable
from common.jobs import JobInfo, JobState
from common.progress import Item, Progress
from common.settings import Settings
from common.tasks import Call, Task
from producer.background import BackgroundLoop, keep_inherited
from producer.client import Producer
from producer.controls import BlockingControls
from producer.editing import BlockingEditing
from producer.enqueue_hooks import EnqueueHook
from producer.job import Job
from producer.listing import BlockingListing
from producer.options import EnqueueArguments, not_one_call

if TYPE_CHECKING:
    from producer.dead import BlockingDeadLetters
    from producer.limits import BlockingLimits
    from producer.schedules import BlockingSchedules
    from producer.tracing import EnqueueSpans

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

    @property
    def replaced(self) -> bool:
        """Whether this enqueue replaced the arguments of a job that was there."""
        return self._job.replaced

    def result(self, timeout: float | timedelta | None = None) -> R_co:
        """Return what the task returned; wait for it if need be. See `producer.Job.result`."""
        return self._producer.run(self._job.result(timeout))

    def progress(self) -> Progress | None:
        """Return what the job last said of how far it is. See `producer.Job.progress`."""
        return self._producer.run(self._job.progress())

    def watch(self) -> Iterator[Progress]:
        """Yield what the job says of how far it is, until it has ended. See `producer.Job.watch`."""
        return self._producer.iterate(self._job.watch())

    @overload
    def stream(self) -> Iterator[Item[Any]]: ...

    @overload
    def stream(self, kind: type[T]) -> Iterator[Item[T]]: ...

    @overload
    def stream(self, kind: Any) -> Iterator[Item[Any]]: ...

    def stream(self, kind: Any = Any) -> Iterator[Item[Any]]:
        """Yield the items the job emits, from the first, until it has ended. See `producer.Job.stream`."""
        return self._producer.iterate(self._job.stream(kind))

    def status(self) -> JobState:
        """Return where the job stands now."""
        return self._producer.run(self._job.status())

    def info(self) -> JobInfo:
        """Return all that is stored on the job, without waiting."""
        return self._producer.run(self._job.info())

    def abort(self, *, wait: float | None = 10.0) -> bool:
        """End the job as cancelled. See `producer.Job.abort`."""
        return self._producer.run(self._job.abort(wait=wait))

    def reschedule(self, *, delay: float | timedelta | None = None, at: datetime | None = None) -> datetime:
        """Have the job come due at another time. See `producer.Job.reschedule`."""
        return self._producer.run(self._job.reschedule(delay=delay, at=at))


class _Opened(NamedTuple):
    background: BackgroundLoop
    producer: Producer


class BlockingProducer(BlockingControls, BlockingListing, BlockingEditing):
    """Enqueue jobs and wait for their results, from synchronous code.

        with BlockingProducer() as producer:
            job = producer.enqueue(fetch_url("https://…"))
            page = job.result(timeout=30)

    Safe to use from many threads, and across a fork: a forked child opens its own connection, and nothing it does
    reaches its parent's. Connects on first use. Do not use it inside an event loop; there, use `Producer`.

    Its arguments are those of `Producer`.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        settings: Settings | None = None,
        answer_within: float = 30.0,
        durable: bool | None = None,
        before_enqueue: Sequence[EnqueueHook] = (),
        tracing: EnqueueSpans | bool | None = None,
    ) -> None:
        self._make = functools.partial(
            Producer,
            redis_url,
            settings=settings,
            answer_within=answer_within,
            durable=durable,
            before_enqueue=before_enqueue,
            tracing=tracing,
        )
        self._make()  # a wrong setting shows here, not at the first enqueue
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        self._pid = os.getpid()
        _all.add(self)

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def enqueue(
        self,
        call: Call[R],
        *surplus: Never,
        job_id: str | None = None,
        durable: bool | None = None,
        **arguments: Unpack[EnqueueArguments],
    ) -> BlockingJob[R]:
        """Add one job; see `Producer.enqueue`."""
        if surplus:
            raise not_one_call(call, surplus)
        background, producer = self._open()
        job = background.run(producer.enqueue(call, job_id=job_id, durable=durable, **arguments))
        return BlockingJob(self, job)

    def enqueue_many(
        self,
        calls: Iterable[Call[R]],
        *,
        durable: bool | None = None,
        **arguments: Unpack[EnqueueArguments],
    ) -> list[BlockingJob[R]]:
        """Add many jobs, thousands in one round trip; see `Producer.enqueue_many`."""
        background, producer = self._open()
        jobs = background.run(producer.enqueue_many(list(calls), durable=durable, **arguments))
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
        background, producer = self._open()
        if return_exceptions:
            return background.run(producer.gather(*calls, return_exceptions=True, timeout=timeout))
        return background.run(producer.gather(*calls, timeout=timeout))

    def as_completed(self, calls: Iterable[Call[R]], *, timeout: float | None = None) -> Iterator[BlockingJob[R]]:
        """Enqueue the calls and yield their jobs as they end; see `Producer.as_completed`."""
        background, producer = self._open()
        for job in _iterate(background, producer.as_completed(list(calls), timeout=timeout)):
            yield BlockingJob(self, job)

    def map(
        self, task: Callable[[T], Call[R]], items: Iterable[T], *, window: int = 1000, ordered: bool = True
    ) -> Iterator[R]:
        """Run a task on each item and yield the results; see `Producer.map`.

        The items are taken in the background thread.
        """
        background, producer = self._open()
        return _iterate(background, producer.map(task, items, window=window, ordered=ordered))

    def job(self, job_id: str, *, queue: str | None = None, task: Task[..., R] | None = None) -> BlockingJob[R]:
        """Return the handle of a job enqueued elsewhere; see `Producer.job`."""
        return BlockingJob(self, self._open().producer.job(job_id, queue=queue, task=task))

    @property
    def schedules(self) -> BlockingSchedules:
        """The fleet's schedules: add, change, pause, remove and list them; see `Producer.schedules`."""
        from producer.schedules import BlockingSchedules  # noqa: PLC0415 - see Producer.schedules

        return BlockingSchedules(self, self._open().producer.schedules)

    @property
    def dead(self) -> BlockingDeadLetters:
        """The jobs that failed for good: list, replay and delete them; see `Producer.dead`."""
        from producer.dead import BlockingDeadLetters  # noqa: PLC0415 - see Producer.schedules

        return BlockingDeadLetters(self, self._open().producer.dead)

    @property
    def limits(self) -> BlockingLimits:
        """How limits stand on the fleet; see `Producer.limits`."""
        from producer.limits import BlockingLimits  # noqa: PLC0415 - see Producer.schedules

        return BlockingLimits(self, self._open().producer.limits)

    def close(self) -> None:
        """Close the connection and end the thread. Jobs are not affected; calls that still wait raise an error."""
        self._part_from_parent()
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.background.close(opened.producer.aclose())

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine of the producer's in the background thread and wait for it.

        An interrupt (Ctrl-C) while waiting cancels it.

        Raises:
            RedisUnavailable: the producer is closed, or it is a forked child's copy whose thread stayed behind.
        """
        try:
            background = self._background()
        except RedisUnavailable:
            coroutine.close()
            raise
        return background.run(coroutine)

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """Run an iterator of the producer's in the background thread, item by item, as they are asked for.

        Raises:
            RedisUnavailable: see `run`.
        """
        return _iterate(self._background(), source)

    def _handle(self, job: Job[R]) -> BlockingJob[R]:
        return BlockingJob(self, job)

    def _background(self) -> BackgroundLoop:
        self._part_from_parent()
        opened = self._opened
        if opened is None:
            raise RedisUnavailable(
                "this BlockingProducer is not open in this process: a job's handle belongs to the producer that "
                "made it. In a forked child, ask for it again: producer.job(job_id)"
            )
        return opened.background

    def _open(self) -> _Opened:
        self._part_from_parent()
        with self._lock:
            if self._opened is None:
                background = BackgroundLoop("barque-producer")
                producer = self._make()
                try:
                    background.run(producer.connect())
                except BaseException:
                    background.close(producer.aclose())
                    raise
                self._opened = _Opened(background, producer)
            return self._opened

    def _part_from_parent(self) -> None:
        """Forget, in a forked child, what belongs to the parent; threads do not survive a fork, nor do their locks."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._lock = threading.Lock()
        opened, self._opened = self._opened, None
        if opened is not None:
            keep_inherited(opened)
            opened.background.detach()


def _iterate(background: BackgroundLoop, source: AsyncIterator[T]) -> Iterator[T]:
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
        while (item := background.run(step())) is not None:
            yield item[0]
    finally:
        with contextlib.suppress(RedisUnavailable):  # closed in between: nothing of it is left
            background.run(end())


_all: weakref.WeakSet[BlockingProducer] = weakref.WeakSet()


def _part_all_from_parent() -> None:
    for producer in list(_all):
        producer._part_from_parent()  # noqa: SLF001 - this is the class's own


if hasattr(os, "register_at_fork"):
    # Before anything else runs in the child. Servers that fork by other means come here at the first use.
    os.register_at_fork(after_in_child=_part_all_from_parent)
