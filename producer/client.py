"""`Producer`: enqueue jobs and wait for their results, from asyncio code.

Owns the connection and what one producer's calls share. How jobs are sent, together and confirmed, is in sending.py,
waiting for many in gather.py, the handle of one job in job.py, the same for synchronous callers in blocking.py.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Never, Self, TypeVar, Unpack, overload

from common.codec import Reading
from common.errors import BarqueError, RedisUnavailable
from common.redis.connection import describe, open_client
from common.redis.inspect import Inspector
from common.redis.store import FreshJobs, Store
from common.settings import Settings, load_settings
from common.signing import keyring_of
from common.tasks import Call, Task
from producer import gather as waiting
from producer.answers import Answers
from producer.carrying import binder_of, spans_of
from producer.controls import Controls
from producer.editing import Editing
from producer.enqueue_hooks import EnqueueHook
from producer.job import Job
from producer.listing import Listing
from producer.options import NO_OPTIONS, EnqueueArguments, EnqueueOptions, check_id_from_elsewhere, not_one_call
from producer.results import ResultListener
from producer.sending import Sending
from producer.unique import UniqueJobs, uniqueness_of

if TYPE_CHECKING:
    from producer.dead import DeadLetters
    from producer.limits import Limits
    from producer.schedules import Schedules
    from producer.tracing import EnqueueSpans
    from producer.watching import Watching

__all__ = ["Producer"]

R = TypeVar("R")
T = TypeVar("T")

_ANSWER_WITHIN = 30.0
"""Seconds the server has for an answer; a caller is never left hanging."""

_HANDLES_AT_ONCE = 1000
"""Handles made in one step of the loop, while jobs are on their way."""


class Producer(Controls, Listing, Editing):
    """Enqueue jobs and wait for their results.

        async with Producer() as producer:
            job = await producer.enqueue(fetch_url("https://…"))
            page = await job.result(timeout=30)

    One producer serves a whole program; it is safe to use from many coroutines at once, whose enqueues then share
    round trips. It belongs to the event loop it was opened in.

    Args:
        redis_url: the server; `BARQUE_REDIS_URL` by default.
        settings: all settings, instead of reading the environment.
        answer_within: seconds the server has to answer any one call before `RedisUnavailable` is raised; also how
            long a wait for a result goes on while the server is away.
        durable: enqueues return only when the server's append-only file has the job, on disk; `BARQUE_DURABLE` by
            default. Concurrent enqueues share the wait for it, which takes up to a second.
        before_enqueue: functions that see each call and what its enqueue asks for, before it is sent, and return what
            it is to ask for: `lambda call, options: options.with_metadata({"source": …})`.
        tracing: whether enqueues have OpenTelemetry spans, whose context travels; `BARQUE_TRACES` by default. An
            `EnqueueSpans` says more.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        settings: Settings | None = None,
        answer_within: float = _ANSWER_WITHIN,
        durable: bool | None = None,
        before_enqueue: Sequence[EnqueueHook] = (),
        tracing: EnqueueSpans | bool | None = None,
    ) -> None:
        self.settings = settings if settings is not None else load_settings(redis_url=redis_url)
        if settings is not None and redis_url is not None:
            self.settings = settings.replace(redis_url=redis_url)
        self.reading = Reading(accept_pickle=self.settings.accept_pickle, signing=keyring_of(self.settings))
        self._spans = spans_of(self.settings, tracing)
        self._binder = binder_of(self.settings, self.reading.signing, before_enqueue, self._spans)
        self.keep_cancelled_ms = round(self.settings.keep_result * 1000)
        self.answers = Answers(describe(self.settings), answer_within)
        self._store: Store | None = None
        self._inspector: Inspector | None = None
        self._results: ResultListener | None = None
        self._watching: Watching | None = None
        self._sending = Sending(self, durable=self.settings.durable if durable is None else durable)
        self._unique_jobs = UniqueJobs(self, self._binder, self._sending)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def connect(self) -> None:
        """Open the connection; `async with` does it too.

        Raises:
            RedisUnavailable: the server cannot be reached, or refuses us; the message says where and why.
            ConfigurationError: enqueues are to be durable, and this server cannot say when they are.
        """
        if self._store is not None:
            return
        client: Any = await open_client(self.settings, name=f"producer-{os.getpid()}")
        self.answers.closed = False
        try:
            await self._sending.check(client)
        except BaseException:
            await client.aclose(close_connection_pool=True)
            raise
        self._store = Store(client)
        self._inspector = Inspector(client, self.reading)
        self._results = ResultListener(self._store, os.urandom(8).hex(), self.answers)
        self._sending.opened(self._store, self._results)

    async def aclose(self) -> None:
        """Close the connection. Jobs are not affected; whoever still waits for a result is cancelled."""
        store, results = self._store, self._results
        if store is None or results is None:
            return
        await self._unique_jobs.aclose()
        await self._sending.aclose()
        if self._watching is not None:
            await self._watching.aclose()
        await results.aclose()
        client: Any = store.client
        if self._store is store:
            self._store = self._results = self._inspector = self._watching = None
            self.answers.closed = True
        await client.aclose(close_connection_pool=True)

    @property
    def store(self) -> Store:
        """Every write this producer makes."""
        return _open(self._store)

    @property
    def inspector(self) -> Inspector:
        """Every read for people."""
        return _open(self._inspector)

    @property
    def schedules(self) -> Schedules:
        """The fleet's schedules: add, change, pause, remove and list them."""
        from producer.schedules import Schedules  # noqa: PLC0415 - a program that schedules nothing has no use for it

        return Schedules(self)

    @property
    def dead(self) -> DeadLetters:
        """The jobs that failed for good: list, replay and delete them."""
        from producer.dead import DeadLetters  # noqa: PLC0415 - as above

        return DeadLetters(self)

    @property
    def limits(self) -> Limits:
        """How rates, concurrency limits and circuit breakers stand on the fleet; having them begin anew."""
        from producer.limits import Limits  # noqa: PLC0415 - as above

        return Limits(self)

    @property
    def results(self) -> ResultListener:
        """Where results are pushed to."""
        return self._results or _open(self._results)

    @property
    def watching(self) -> Watching:
        """Who follows running jobs."""
        if self._watching is None:
            from common.redis.progress import ProgressStore  # noqa: PLC0415 - as above
            from producer.watching import Watching  # noqa: PLC0415

            self._watching = Watching(ProgressStore(self.store.client), self.results, self.answers)
        return self._watching

    async def enqueue(
        self,
        call: Call[R],
        *surplus: Never,
        job_id: str | None = None,
        durable: bool | None = None,
        **arguments: Unpack[EnqueueArguments],
    ) -> Job[R]:
        """Add one job; when this returns, the server has it.

        Args:
            call: a task called with its arguments: `enqueue(fetch_url(url))`.
            surplus: nothing; the arguments are the call's.
            job_id: an id of your own. While a job of that id is in a queue, or its result is kept, nothing is
                added: the job that is there is returned, with `is_new` False.
            durable: return only when the job is on the server's disk, or, with False, once the server has it at all;
                instead of what the producer does otherwise.
            arguments: when it is due, where it goes, what travels with it: see `EnqueueArguments`.

        Raises:
            NotSerializable, PayloadTooLarge: the arguments cannot travel.
            DuplicateJob: a job of the same unique key is there, and others are to be rejected.
            NotConfirmed: the server has the job, but did not confirm in time that it is durable.
            RedisUnavailable: the server did not take it. Whether it did is not known when the connection broke in
                between; a job enqueued again under the same `job_id` is there once.
        """
        if surplus:
            raise not_one_call(call, surplus)
        options = EnqueueOptions.of(arguments) if arguments else NO_OPTIONS
        if self._spans is None:
            return await self._enqueue(call, options, job_id, durable)
        return await self._enqueue_seen(call, options, job_id, durable)

    async def _enqueue_seen(
        self,
        call: Call[R],
        options: EnqueueOptions,
        job_id: str | None,
        durable: bool | None,  # noqa: FBT001 - as enqueue's
    ) -> Job[R]:
        if self._spans is None:
            return await self._enqueue(call, options, job_id, durable)
        with self._spans.sending([call], options, self.settings, one=True) as span:
            job = await self._enqueue(call, options, job_id, durable)
            span.sent([job])
        return job

    async def _enqueue(
        self,
        call: Call[R],
        options: EnqueueOptions,
        job_id: str | None,
        durable: bool | None,  # noqa: FBT001 - as enqueue's
    ) -> Job[R]:
        unique = uniqueness_of(call, options)
        if unique is not None:
            return await self._unique_jobs.one(call, options, unique, job_id=job_id, durable=durable)
        item = self._binder.bind(call, options, job_id)
        is_new = await self._sending.one(item, durable=durable)
        return Job(self, item.job_id, queue=item.queue, task=call.task, is_new=is_new)

    async def enqueue_many(
        self,
        calls: Iterable[Call[R]],
        *,
        durable: bool | None = None,
        **arguments: Unpack[EnqueueArguments],
    ) -> list[Job[R]]:
        """Add many jobs, thousands in one round trip; the arguments hold for each. Order is kept.

        Nothing is sent before every call has been encoded: one that cannot travel stops them all.

        Raises:
            DuplicateJob: of some of them a job of the same unique key is there, and others are to be rejected. The
                rest of the call is enqueued.
            RedisUnavailable: the server did not take all of them; parts of up to a thousand are taken whole or not
                at all. The message says how many were not taken, or that it is not known. Otherwise as `enqueue`.
        """
        given = list(calls)
        options = EnqueueOptions.of(arguments) if arguments else NO_OPTIONS
        if self._spans is None or not given:
            return await self._enqueue_many(given, options, durable)
        with self._spans.sending(given, options, self.settings) as span:
            jobs = await self._enqueue_many(given, options, durable)
            span.sent(jobs)
        return jobs

    async def _enqueue_many(
        self,
        given: list[Call[R]],
        options: EnqueueOptions,
        durable: bool | None,  # noqa: FBT001 - as above
    ) -> list[Job[R]]:
        unconfirmed = self._sending.wanted(durable) is None
        fresh = self._binder.bind_fresh(given) if options == NO_OPTIONS and unconfirmed else None
        if fresh is not None:
            return await self._enqueue_fresh(given, fresh)
        if any(uniqueness_of(call, options) is not None for call in given):
            return await self._unique_jobs.many(given, options, durable=durable)
        items = [self._binder.bind(call, options) for call in given]
        if not items:
            return []
        await self._sending.many(items, durable=durable)
        return [
            Job(self, item.job_id, queue=item.queue, task=call.task) for call, item in zip(given, items, strict=True)
        ]

    def job(self, job_id: str, *, queue: str | None = None, task: Task[..., R] | None = None) -> Job[R]:
        """Return the handle of a job enqueued elsewhere; asks the server nothing.

        Args:
            queue: where it was enqueued; the first of `BARQUE_QUEUES` by default.
            task: to have its result as the task's return annotation says, instead of plain data.

        Raises:
            ConfigurationError: no job can have this id, or no queue this name.
        """
        check_id_from_elsewhere("job_id", job_id)
        queue = check_id_from_elsewhere("queue", queue) if queue else self.settings.queues[0]
        return Job(self, job_id, queue=queue, task=task, is_new=False)

    @overload
    async def gather(
        self, *calls: Call[R], return_exceptions: Literal[False] = False, timeout: float | None = None
    ) -> list[R]: ...

    @overload
    async def gather(
        self, *calls: Call[R], return_exceptions: Literal[True], timeout: float | None = None
    ) -> list[R | BarqueError]: ...

    async def gather(
        self,
        *calls: Call[R],
        return_exceptions: bool = False,
        timeout: float | None = None,
    ) -> list[R] | list[R | BarqueError]:
        """Enqueue the calls and return their results in order: asyncio.gather, across machines.

        Args:
            return_exceptions: put each failure in the list, instead of raising the first. Without it the other
                jobs go on all the same.
            timeout: seconds to wait for all of them.
        """
        jobs = await self.enqueue_many(calls)
        if return_exceptions:
            return await waiting.results_and_errors(jobs, timeout)
        return await waiting.results(jobs, timeout)

    async def as_completed(
        self,
        calls: Iterable[Call[R] | Job[R]],
        *,
        timeout: float | None = None,
    ) -> AsyncIterator[Job[R]]:
        """Enqueue the calls and yield their jobs as they end, first done first.

        `await job.result()` then returns, or raises, at once.

        Args:
            calls: calls to enqueue; jobs enqueued before may stand among them.
            timeout: seconds for all of them; past it, ResultTimeout is raised.
        """
        given = list(calls)
        added = iter(await self.enqueue_many([call for call in given if isinstance(call, Call)]))
        jobs = [next(added) if isinstance(call, Call) else call for call in given]
        async for job in waiting.as_completed(jobs, timeout):
            yield job

    def map(
        self,
        task: Callable[[T], Call[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        window: int = 1000,
        ordered: bool = True,
    ) -> AsyncIterator[R]:
        """Run a task on each item and yield the results, with at most `window` jobs on their way at once.

        The items may be without end, and may come from an async generator: no more are taken than the window has
        room for, so memory and queue stay bounded.

        Args:
            task: what makes a Call of an item: a task of one argument, or a lambda.
            ordered: yield in the order of the items; False yields first done first.

        Raises:
            TaskFailed and the like: the first failure, when its turn comes. The jobs under way go on.
        """
        return waiting.map_calls(self.enqueue_many, task, items, window=window, ordered=ordered)

    async def _enqueue_fresh(self, calls: Sequence[Call[R]], fresh: FreshJobs) -> list[Job[R]]:
        if not calls:
            return []
        sending = asyncio.ensure_future(self._sending.fresh(fresh))
        sending.add_done_callback(_looked_at)
        jobs: list[Job[R]] = []
        try:
            for start in range(0, len(calls), _HANDLES_AT_ONCE):
                await asyncio.sleep(0)  # the next part goes on its way; the server works on them meanwhile
                end = start + _HANDLES_AT_ONCE
                jobs += [
                    Job(self, job_id, queue=fresh.queue, task=call.task)
                    for call, job_id in zip(calls[start:end], fresh.job_ids[start:end], strict=True)
                ]
            await sending
        finally:
            sending.cancel()
        return jobs


def _looked_at(sending: asyncio.Future[Any]) -> None:
    if not sending.cancelled():
        sending.exception()  # where the caller was cancelled nobody else asks for it


def _open(part: T | None) -> T:
    if part is None:
        raise RedisUnavailable("this Producer is not open: use `async with Producer() as producer:`, or connect()")
    return part
