"""`Sandbox`: enqueue in a test, run what is due, and let hours pass in no time.

Owns one server in memory, the worker on it, and the clock of both. The worker is `workers.worker.Worker`, with its
scripts, leases, retries and limits; it runs only while it is asked to, so that a test says when what happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self, TypeVar, Unpack

from common.errors import ConfigurationError
from common.jobs import JobInfo
from common.middleware import Middleware
from common.redis.control import ControlStore
from common.redis.memory import forget
from common.redis.schedules import ScheduleStore
from common.resources import Resource
from common.settings import Settings, load_settings
from common.tasks import Call, Task, registered_tasks
from producer import Producer
from producer.job import Job
from producer.options import EnqueueArguments
from workers.arq_pool import unopened
from workers.clock import ServerClock
from workers.scheduler import Scheduler
from workers.testing.virtual_time import VirtualTime
from workers.worker import Worker

__all__ = ["Ran", "Sandbox"]

R = TypeVar("R")

_KEEP_RESULT = 365 * 24 * 3600.0
"""Seconds: a result is there at the end of a test, however much time has passed in it."""

_DRAINED_AFTER = timedelta(days=366)
"""How far ahead `drain` goes: a job that is due later is one that nobody would wait for."""


class Ran(NamedTuple):
    """What became of attempts.

    Attributes:
        succeeded: jobs that did.
        retried: attempts that another one follows, those that were snoozed among them.
        failed: jobs that failed for good, or were cancelled.
    """

    succeeded: int
    retried: int
    failed: int

    @property
    def attempts(self) -> int:
        """How many there were in all."""
        return sum(self)

    def since(self, earlier: Ran) -> Ran:
        """Return what has become of attempts after `earlier` was counted."""
        return Ran(*(now - then for now, then in zip(self, earlier, strict=True)))


class Sandbox:
    """Everything a test of tasks needs, in this process, with nothing to install or start.

        async with Sandbox() as sandbox:
            job = await sandbox.enqueue(remind("ann@example.org"), delay=3600)
            assert (await sandbox.run()).attempts == 0        # what is due: nothing yet
            assert (await sandbox.advance(hours=1)).succeeded == 1
            assert await job.result() == "sent"

    A job runs when the test says so: in `run`, `advance` or `drain`. Within `working()` it runs at once, as with a
    worker beside the program. Time passes as it does, and `advance` moves it ahead: delays, retries, schedules, rate
    limits and deadlines come due in their order. `time.time()` tells the sandbox's time; `datetime.now()` does not:
    ask `sandbox.now`.

    `BARQUE_REDIS_URL` leads to the sandbox's server while it is open, for producers that the code under test opens
    itself. There is one sandbox at a time in a process.

    Args:
        tasks: what the worker can run; by default every `@task` of the modules imported so far.
        resources: what stands in for resources: `{http_client: fake}`. These are neither opened nor closed.
        lifespans: resources that are opened for real, when the worker first runs, and closed at the end. A worker
            opens all there are; here one that no test names is not opened.
        middleware: what goes around each attempt, the outermost first.
        state: the worker's own dict, what arq calls `ctx`.
        queues: served besides the default one and those that tasks name.
        patience: seconds, of real time, that what is due may run; a job that hangs would have a test hang.
        settings: fields of `Settings`: `max_attempts=1`.

    Attributes:
        url: the server's URL.
    """

    _open: Sandbox | None = None

    def __init__(
        self,
        tasks: Iterable[Task[..., Any]] | None = None,
        *,
        resources: Mapping[Resource[Any], Any] | None = None,
        lifespans: Sequence[Resource[Any]] = (),
        middleware: Sequence[Middleware] = (),
        state: Mapping[Any, Any] | None = None,
        queues: Sequence[str] = (),
        patience: float = 60.0,
        **settings: Any,
    ) -> None:
        self.url = f"memory://{os.urandom(6).hex()}"
        self._settings = load_settings(**{"keep_result": _KEEP_RESULT} | settings, redis_url=self.url)
        self._tasks = list(registered_tasks().values() if tasks is None else tasks)
        if any(not isinstance(task, Task) for task in self._tasks):
            raise ConfigurationError("Sandbox(tasks=…) takes tasks: decorate a function with @task")
        self._lifespans = list(lifespans)
        self._middleware = list(middleware)
        self._state: dict[Any, Any] = {**(state or {}), **(resources or {})}
        named = [task.options.queue for task in self._tasks] + [s.queue for t in self._tasks for s in t.schedules]
        self.queues = tuple(dict.fromkeys([*self._settings.queues, *queues, *filter(None, named)]))
        self._patience = patience
        self._clock = VirtualTime()
        self._opened = contextlib.AsyncExitStack()
        self._producer: Producer | None = None
        self._worker: _Runner | None = None
        self._scheduler: Scheduler | None = None

    async def __aenter__(self) -> Self:
        if Sandbox._open is not None:
            raise ConfigurationError("there is a Sandbox already: the clock and the environment are the process's")
        async with contextlib.AsyncExitStack() as stack:
            Sandbox._open = self
            stack.callback(setattr, Sandbox, "_open", None)
            stack.callback(forget, self.url)
            stack.enter_context(self._clock)
            stack.enter_context(_environment("BARQUE_REDIS_URL", self.url))
            self._producer = await stack.enter_async_context(Producer(settings=self._settings))
            self._worker = _Runner(self, burst=True)
            stack.push_async_callback(self._worker.close)
            self._scheduler = self._make_scheduler(self._producer)
            await self._scheduler.tick_once()
            self._opened = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()
        self._producer = self._worker = self._scheduler = None

    @property
    def producer(self) -> Producer:
        """A producer whose jobs the sandbox's worker runs."""
        if self._producer is None:
            raise ConfigurationError("the Sandbox is not open: `async with Sandbox() as sandbox:`")
        return self._producer

    @property
    def now(self) -> datetime:
        """The time of day here, in UTC."""
        return self._clock.moment()

    async def enqueue(self, call: Call[R], **options: Unpack[EnqueueArguments]) -> Job[R]:
        """Enqueue a call; as `Producer.enqueue`."""
        return await self.producer.enqueue(call, **options)

    async def call(self, call: Call[R], **options: Unpack[EnqueueArguments]) -> R:
        """Enqueue a call, run it to its end, through all its retries, and return its result.

        Other jobs that are due meanwhile run too.

        Raises:
            TaskFailed, JobCancelled and the like: as `Job.result`.
        """
        job = await self.producer.enqueue(call, **options)
        until = self.now + _DRAINED_AFTER
        await self.run()
        while not (await job.status()).ended:
            if not await self._run_next(until):
                raise ConfigurationError(
                    f"{call.name} has not ended, and no job is due any more within {_DRAINED_AFTER.days} days: is its "
                    "queue, or the task, paused? Does it go to a queue that Sandbox(queues=…) does not name?"
                )
        return await job.result(timeout=10)

    async def run(self) -> Ran:
        """Run what is due now, and what that enqueues, until nothing is. Time is not moved.

        Raises:
            TimeoutError: something ran for longer than `patience`; it says what.
        """
        worker = self._runner()
        before = worker.ran
        while True:
            assert self._scheduler is not None
            await self._scheduler.tick_once()
            seen = worker.ran
            if not await self._is_due():
                break
            await self._run_due(worker)
            if worker.ran == seen:  # what is due is paused, or waits for what only time brings
                break
        return worker.ran.since(before)

    async def advance(
        self, by: timedelta | float = 0.0, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> Ran:
        """Let time pass, and run what comes due meanwhile, each at its time and in its order.

        Args:
            by: how much; as a number, seconds. It and the others are added up.
        """
        passes = by if isinstance(by, timedelta) else timedelta(seconds=by)
        passes += timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if passes < timedelta(0):
            raise ConfigurationError("advance: time does not go back")
        until_ms = (self.now + passes).timestamp() * 1000
        before = self._runner().ran
        await self.run()
        while (due := await self._next_event()) is not None and due <= until_ms:
            self._clock.move_to(due + 1)
            await self.run()
        self._clock.move_to(until_ms)
        await self.run()
        return self._runner().ran.since(before)

    async def drain(self) -> Ran:
        """Run everything that is enqueued, letting time pass until no job is left, retries included.

        Schedules tick only as far as that takes. What is due in more than a year stays.
        """
        before, until = self._runner().ran, self.now + _DRAINED_AFTER
        await self.run()
        while await self._run_next(until):
            pass
        return self._runner().ran.since(before)

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Have a worker run beside the test: jobs run as they are enqueued, for code that waits for their results.

        At the end what runs is awaited; what is due later stays.
        """
        self._runner()
        worker = _Runner(self, burst=False)
        running = asyncio.create_task(worker.async_run(), name="barque-sandbox-worker")
        try:
            yield
        finally:
            worker.leave()
            await asyncio.wait({running})
            await worker.close()
        running.result()

    async def waiting(self, task: Task[..., Any] | str | None = None) -> list[JobInfo]:
        """Return the jobs that wait, of one task or of all, in the order in which they are due.

        `[job.arguments for job in await sandbox.waiting(send_mail)]` says what was enqueued.
        """
        name = task.name if isinstance(task, Task) else task
        store, found = ControlStore(self.producer.store.client), {}
        for queue in self.queues:
            cursor = 0
            while True:
                page = await store.page(queue, cursor)
                for job in page.jobs:
                    found[job.job_id] = await self.producer.inspector.job(job.job_id, queue)
                cursor = page.cursor
                if cursor == 0:
                    break
        mine = [info for info in found.values() if not info.state.ended and name in {None, info.task}]
        return sorted(mine, key=lambda info: (info.due_at or self.now, info.job_id))

    def _runner(self) -> _Runner:
        if self._worker is None:
            raise ConfigurationError("the Sandbox is not open: `async with Sandbox() as sandbox:`")
        return self._worker

    def _make_scheduler(self, producer: Producer) -> Scheduler:
        return Scheduler(
            ScheduleStore(producer.store.client),
            [schedule for task in self._tasks for schedule in task.schedules],
            queue=self.queues[0],
            form="msgpack",
            reading=producer.reading,
            clock=ServerClock(),
        )

    async def _run_due(self, worker: _Runner) -> None:
        running: list[str] = []
        try:
            async with asyncio.timeout(self._patience):
                run = asyncio.create_task(worker.async_run(), name="barque-sandbox-worker")
                try:
                    await asyncio.shield(run)
                except asyncio.CancelledError:
                    running = worker.running
                    worker.cut_short()
                    await asyncio.wait({run})
                    raise
        except TimeoutError:
            raise TimeoutError(
                f"after {self._patience:g} s (Sandbox(patience=…)) this still runs: {', '.join(running) or 'nothing'}; "
                "see what the worker logged"
            ) from None

    async def _run_next(self, until: datetime) -> bool:
        """Move to the next event and run it; return whether a job was due by then."""
        due, event = await self._next_due(), await self._next_event()
        if due is None or event is None or due > until.timestamp() * 1000:
            return False
        self._clock.move_to(event + 1)
        await self.run()
        return True

    async def _is_due(self) -> bool:
        for queue in self.queues:
            if (await self.producer.inspector.queue(queue)).queued:
                return True
        return False

    async def _next_due(self) -> float | None:
        """Return when the next job is due, Unix ms."""
        due = [await self.producer.inspector.next_due(queue) for queue in self.queues]
        return min((moment for moment in due if moment is not None), default=None)

    async def _next_event(self) -> float | None:
        """Return when the next job, or tick of a schedule, is due, Unix ms."""
        assert self._scheduler is not None
        moments = [await self._next_due(), self._scheduler.next_tick_ms]
        return min((moment for moment in moments if moment is not None), default=None)


class _Runner(Worker):
    """The worker of a sandbox; in burst it runs what is due, and waits for nothing that is due later."""

    def __init__(self, sandbox: Sandbox, *, burst: bool) -> None:
        settings = sandbox._settings  # noqa: SLF001 - one room
        super().__init__(
            sandbox._tasks,  # noqa: SLF001
            queues=sandbox.queues,
            redis_pool=unopened(settings),
            burst=burst,
            handle_signals=False,
            max_jobs=settings.concurrency,
            job_timeout=settings.job_timeout,
            max_tries=settings.max_attempts,
            keep_result=settings.keep_result,
            poll_delay=0.05,
            lease=settings.lease,
            allow_abort_jobs=True,
            lifespans=sandbox._lifespans,  # noqa: SLF001
            middleware=sandbox._middleware,  # noqa: SLF001
            ctx=sandbox._state,  # noqa: SLF001
        )
        self._limits: Settings = settings.replace(burst_waits=False)

    @property
    def ran(self) -> Ran:
        """What became of attempts so far."""
        return Ran(self.jobs_complete, self.jobs_retried, self.jobs_failed)

    @property
    def running(self) -> list[str]:
        """The tasks of the attempts that run now."""
        return [] if self._engine is None else [attempt.task_name for attempt in self._engine.held.values()]

    def cut_short(self) -> None:
        """Give back what runs; its run ends when that is recorded."""
        if self._engine is not None:
            self._engine.release()

    def leave(self) -> None:
        """Claim no more; its run ends when what runs has ended."""
        self._claim_no_more()


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
