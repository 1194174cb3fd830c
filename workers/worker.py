"""arq's face on Barque's engine: `Worker` takes what arq.worker.Worker takes and is used as it is.

Owns the translation of arq's options, hooks, cron jobs, counters and signals. An arq user changes one import. What
differs from arq is listed in docs/arq_compatibility.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, cast

import arq.worker
import structlog
from arq.connections import ArqRedis, RedisSettings
from arq.constants import default_queue_name, expires_extra_ms
from arq.cron import CronJob
from arq.jobs import DeserializationError
from arq.worker import FailedJobs, Function

from common.codec import Reading
from common.errors import BarqueError, ResourceFailed
from common.jobs import OutcomeKind, new_worker_id
from common.middleware import Middleware, true_middleware
from common.open_resources import ResourceKeeper
from common.queue_weights import queues_and_weights
from common.redis.connection import TROUBLE, blocking_twin
from common.redis.store import BlockingStore, Order, Store
from common.resources import RESOURCES, Resource
from common.setting_handover import read_apart
from common.settings import Settings
from common.signing import keyring_of
from common.tasks import Task
from common.values import encode, to_plain
from workers import farewell, garbage
from workers.arq_pool import PoolOptions
from workers.arq_ways import Hooks, ways_of_arq
from workers.attempt import Outcome
from workers.backstop import Backstop
from workers.engine import Engine
from workers.engine_options import EngineOptions
from workers.event_loop import ensure_event_loop, run_until_ended
from workers.leaving import LAST_WORD, Leaving
from workers.own_process import set_up_process
from workers.pooled_tasks import task_runnables
from workers.reports import Counts, Reports
from workers.runnables import Defaults, FunctionRunnable, by_name, surrounded
from workers.signed_enqueues import signing_client
from workers.timekeeper import Timekeeper
from workers.watching import Watching

if TYPE_CHECKING:
    from arq.typing import SecondsTimedelta, StartupShutdown, WorkerCoroutine

__all__ = ["Worker"]

log = structlog.get_logger("barque.worker")


class Worker(arq.worker.Worker):
    """Run jobs: arq.worker.Worker's constructor and methods, Barque's engine.

    Takes every argument arq's Worker takes (see arq's documentation), and besides:

    Args:
        functions: `@task`s too, beside arq's plain coroutine functions and `arq.func`.
        queues: several queues, the first one first, or `{name: weight}`; `queue_name` is the first of them.
        lease: seconds until this worker's jobs are taken over if it dies.
        middleware: what goes around each attempt, the outermost first: see `common.middleware`.
        lifespans: what is opened at the start, for all jobs, and closed at the end: see `common.lifespan`.
        settings: the process's settings, when it is a worker process of its own: it then connects by them and
            sets up logging. Without them the worker lives in another program, and leaves logging to it.
    """

    def __init__(
        self,
        functions: Sequence[Task[..., Any] | Function | WorkerCoroutine] = (),
        *,
        queue_name: str | None = default_queue_name,
        cron_jobs: Sequence[CronJob] | None = None,
        redis_settings: RedisSettings | None = None,
        redis_pool: ArqRedis | None = None,
        burst: bool = False,
        on_startup: StartupShutdown | None = None,
        on_shutdown: StartupShutdown | None = None,
        on_job_start: StartupShutdown | None = None,
        on_job_end: StartupShutdown | None = None,
        after_job_end: StartupShutdown | None = None,
        handle_signals: bool = True,
        job_completion_wait: int = 0,
        max_jobs: int = 10,
        job_timeout: SecondsTimedelta = 300,
        keep_result: SecondsTimedelta = 3600,
        keep_result_forever: bool = False,
        poll_delay: SecondsTimedelta = 0.5,
        queue_read_limit: int | None = None,
        max_tries: int = 5,
        health_check_interval: SecondsTimedelta = 3600,
        health_check_key: str | None = None,
        ctx: dict[Any, Any] | None = None,
        retry_jobs: bool = True,
        allow_abort_jobs: bool = False,
        max_burst_jobs: int = -1,
        job_serializer: Any = None,
        job_deserializer: Any = None,
        expires_extra_ms: int = expires_extra_ms,
        timezone: tzinfo | None = None,
        log_results: bool = True,
        queues: Sequence[str] | Mapping[str, int] | None = None,
        lease: float = 10.0,
        middleware: Sequence[Middleware] = (),
        lifespans: Sequence[Resource[Any]] = (),
        settings: Settings | None = None,
    ) -> None:
        ensure_event_loop(own_process=settings is not None)
        tasks = [function for function in functions if isinstance(function, Task)]
        plain = [function for function in functions if not isinstance(function, Task)]
        # arq's constructor wants to see every function; what runs a task is made in _make_engine.
        stand_ins = [Function(task.name, cast("Any", task.function), None, None, None, None) for task in tasks]
        super().__init__(
            [*plain, *stand_ins],
            queue_name=next(iter(queues)) if queues else queue_name,
            cron_jobs=cron_jobs,
            redis_settings=redis_settings,
            redis_pool=redis_pool,
            burst=burst,
            on_startup=on_startup,
            on_shutdown=on_shutdown,
            on_job_start=on_job_start,
            on_job_end=on_job_end,
            after_job_end=after_job_end,
            handle_signals=handle_signals,
            job_completion_wait=job_completion_wait,
            max_jobs=max_jobs,
            job_timeout=job_timeout,
            keep_result=keep_result,
            keep_result_forever=keep_result_forever,
            poll_delay=poll_delay,
            queue_read_limit=queue_read_limit,
            max_tries=max_tries,
            health_check_interval=health_check_interval,
            health_check_key=health_check_key,
            ctx=ctx,
            retry_jobs=retry_jobs,
            allow_abort_jobs=allow_abort_jobs,
            max_burst_jobs=max_burst_jobs,
            job_serializer=job_serializer,
            job_deserializer=job_deserializer,
            expires_extra_ms=expires_extra_ms,
            timezone=timezone,  # type: ignore[arg-type]  # arq says timezone and takes any tzinfo
            log_results=log_results,
        )
        self.worker_id = new_worker_id()
        self.queues, self._weights = queues_and_weights(queues or (self.queue_name,))
        self.lease_s = lease
        self.settings = settings
        self._tasks = tasks
        self._middleware = true_middleware(middleware, "middleware")
        self._lifespans = lifespans
        self._resources = ResourceKeeper(self.ctx, lost=self._resource_lost)
        self._lost: ResourceFailed | None = None
        self._engine: Engine | None = None
        self._drain: asyncio.Task[None] | None = None
        self._stopping = False
        self._ended = asyncio.Event()
        self._ended.set()
        self._leaving = Leaving()
        self._reports = Reports(self.worker_id, self.queues, self.max_jobs)
        self._limits = settings or read_apart(Settings)
        self._reading = Reading(self._limits.accept_pickle, job_serializer, job_deserializer, keyring_of(self._limits))
        self.watching = Watching(self._limits, self.worker_id, self.queues, connected=lambda: self._pool is not None)
        self._timekeeper = Timekeeper(tasks, self.queues[0], self._limits, self._reading, self.watching.metrics)
        # What ctx["redis"].enqueue_job writes: msgpack, unless this fleet still speaks pickle.
        if job_serializer is None and not self._limits.accept_pickle:
            self.job_serializer = encode
            self.job_deserializer = to_plain

    @property
    def tasks(self) -> dict[str, asyncio.Task[Any]]:
        """The asyncio tasks of the jobs this worker holds, by job id."""
        if self._engine is None:
            return {}
        return {job_id: attempt.task for job_id, attempt in self._engine.held.items() if attempt.task is not None}

    @tasks.setter
    def tasks(self, _: dict[str, asyncio.Task[Any]]) -> None:
        """Ignore arq's own (empty) dict."""

    def run(self) -> None:
        """Run until stopped by a signal or done with a burst; then close all connections.

        A process of its own that was told to stop ends within the grace period and some seconds, whatever its
        tasks, hooks and threads do.
        """
        backstop = Backstop(self._job_completion_wait) if self.settings is not None and self._handle_signals else None
        try:
            if backstop is not None:
                backstop.start()
            self.main_task = self.loop.create_task(self.main())
            try:
                with contextlib.suppress(asyncio.CancelledError):  # a stop, no error
                    run_until_ended(self.loop, self.main_task, handles_signals=self._handle_signals)
            finally:
                closing = self.loop.create_task(self.close())
                run_until_ended(self.loop, closing, handles_signals=self._handle_signals)
        except BarqueError as error:
            if self.settings is None:
                raise
            # A program of its own says in one line what stopped it; a traceback would hide it.
            sys.exit(f"barque: {error}")
        if backstop is not None:
            backstop.stopped = True

    async def async_run(self) -> None:
        """Run in the current event loop. Does not close connections; see `close`."""
        self.loop = asyncio.get_running_loop()
        await super().async_run()

    async def run_check(
        self,
        retry_jobs: bool | None = None,  # noqa: FBT001 - arq's signature
        max_burst_jobs: int | None = None,
    ) -> int:
        """Run as `async_run`; return how many jobs succeeded.

        Raises:
            FailedJobs: jobs failed.
        """
        try:
            return await super().run_check(retry_jobs, max_burst_jobs)
        except DeserializationError as error:
            # A refused pickle's result is a pickle, for its sender; why it failed stands in the log.
            raise FailedJobs(self.jobs_failed, []) from error

    async def main(self) -> None:
        """Connect, start up, run jobs; what `run` and `async_run` await."""
        self._stopping, self._ended = False, asyncio.Event()
        try:
            set_up_process(self.settings)
            async with self.watching:
                await self._main()
        finally:
            self._ended.set()

    async def _main(self) -> None:
        self._pool = signing_client(await self._connect(), self._reading.signing)
        self.ctx["redis"] = self.pool
        log.info(
            "worker_started",
            worker=self.worker_id,
            queues=list(self.queues),
            functions=sorted(self.functions),
            concurrency=self.max_jobs,
            **({"modules": list(self.settings.tasks)} if self.settings is not None else {}),
        )
        await self._open_resources()
        if self.on_startup:
            await self.on_startup(self.ctx)
        if self.settings is not None:
            garbage.settle(self.max_jobs)
        store = Store(self.pool)
        self._engine = self._make_engine(store)
        if self._stopping:  # a signal, or `close`, came during the start
            self._engine.stop_claiming()
        elif not self.burst:  # one that is there to empty queues fills none
            self._timekeeper.start(store, self._engine.clock)
        try:
            self.watching.show(self._engine)
            self._reports.start(self._engine, store, self._counts, self._timekeeper.look, self.watching.address)
            await self._engine.run()
            if self._lost is not None:
                raise self._lost
        finally:
            await self._timekeeper.stop()
            self._engine = None
            await self._say_goodbye(store)

    async def _open_resources(self) -> None:
        self._lost = None
        if self._tasks or self._lifespans:  # plain functions alone find in `ctx` what arq puts there
            self.ctx[RESOURCES] = self._resources
        await self._resources.open_all(self._lifespans)

    def _resource_lost(self, error: ResourceFailed) -> None:
        """Give the jobs to other workers: without what is gone each of them would fail here."""
        self._lost = self._lost or error
        self._claim_no_more()
        if self._engine is not None:
            self._engine.release()

    async def _connect(self) -> ArqRedis:
        options = PoolOptions(self.job_serializer, self.job_deserializer, self.queue_name, self.expires_extra_ms)
        if self._pool is not None:
            return options.readable(self._pool)
        if self.settings is not None:
            return await options.by_settings(self.settings, worker=self.worker_id)
        return await options.as_arq(self.redis_settings)

    def _make_engine(self, store: Store) -> Engine:
        keep_ms, lines = round((self.keep_result_s or 0) * 1000), self._limits.keep_logs
        defaults = Defaults(self.job_timeout_s, self.max_tries, keep_ms, self.keep_result_forever, lines)
        started = self.jobs_complete + self.jobs_retried + self.jobs_failed
        names = {task.name for task in self._tasks}
        runnables = task_runnables(self._tasks, defaults, self.worker_id, self.ctx, self._limits, burst=self.burst)
        runnables += [FunctionRunnable(f, defaults) for name, f in self.functions.items() if name not in names]
        pool = self.pool
        return Engine(
            EngineOptions(
                worker=self.worker_id,
                queues=self.queues,
                order=Order(self._weights, round(self._limits.queue_aging * 1000)),
                concurrency=self.max_jobs,
                lease_ms=round(self.lease_s * 1000),
                poll_delay=max(self.poll_delay_s or 0, 0.05),
                limits=self._limits,
                burst=self.burst,
                # As arq: the limit is on all jobs of this worker, over several runs.
                most_burst_jobs=max(0, self.max_burst_jobs - started) if self.max_burst_jobs >= 0 else -1,
                honour_aborts=self.allow_abort_jobs,
            ),
            store=store,
            connect_blocking=lambda: BlockingStore(blocking_twin(pool)),
            runnables=surrounded(by_name(runnables), self.watching.around(self._middleware), self.worker_id),
            reading=self._reading,
            ways=ways_of_arq(retry_jobs=self.retry_jobs),
            hooks=Hooks(self.on_job_start, self.on_job_end, self.after_job_end),
            state=self.ctx,
            failed_keep_ms=-1 if self.keep_result_forever else keep_ms,
            heartbeat=self.heart_beat,
            recorded=self._recorded,
            schedules_changed=self._timekeeper.changed,
            looked_on=self._reports.looked_on,
            metrics=self.watching.metrics,
            attempt_log=self.watching.attempt_log,
        )

    def _recorded(self, outcomes: Sequence[Outcome]) -> None:
        garbage.look_if_grown()
        for outcome in outcomes:
            if outcome.kind is OutcomeKind.SUCCEEDED:
                self.jobs_complete += 1
            else:
                counted = self._reports.note(outcome)
                self.jobs_retried += counted.retried
                self.jobs_failed += counted.failed

    async def heart_beat(self) -> None:
        """Do what is due regularly: cron jobs, the health key, this worker's report."""
        await super().heart_beat()
        if self._reports.due:
            await self._reports.send()

    def _counts(self) -> Counts:
        return Counts(self.jobs_complete, self.jobs_retried, self.jobs_failed)

    async def _say_goodbye(self, store: Store) -> None:
        await self._leaving.step("deregistration", self._reports.withdraw(store), LAST_WORD)
        log.info("worker_stopped", worker=self.worker_id, **self._counts()._asdict())

    def handle_sig(self, signum: signal.Signals) -> None:
        """Release all running jobs at once and stop."""
        farewell.releasing(signum, running=len(self.tasks), program=self.settings is not None)
        if self._drain is not None:
            self._drain.cancel()
        self._leaving.begin(0)
        self._cancel_main(signum)

    def handle_sig_wait_for_completion(self, signum: signal.Signals) -> None:
        """Claim no more, let running jobs end within `job_completion_wait`, then release the rest.

        A second signal releases them at once.
        """
        if self._drain is not None:
            self.handle_sig(signum)
            return
        # One that waits for its server, or for what its tasks share, has nothing to wait for else.
        waits = self._pool is None or (self._engine is None and self._resources.opening)
        seconds = 0 if waits else self._job_completion_wait
        self._leaving.begin(seconds)
        farewell.draining(signum, running=len(self.tasks), seconds=seconds, program=self.settings is not None)
        self.allow_pick_jobs = False
        self._claim_no_more(seconds)
        self._drain = self.loop.create_task(self._release_after(seconds, signum))

    async def _release_after(self, seconds: float, signum: signal.Signals) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), timeout=seconds)
        self._cancel_main(signum)

    def _claim_no_more(self, within: float | None = None) -> None:
        self._stopping = True
        self._timekeeper.cease()
        if self._engine is not None:
            self._engine.stop_claiming(within)

    def _cancel_main(self, signum: signal.Signals) -> None:
        self._stopping = True
        if self.main_task is not None:
            self.main_task.cancel()
        elif self._engine is not None:  # `main` was awaited directly, in a task that is not ours to cancel
            self._engine.release()
        if self.on_stop is not None:
            self.on_stop(signal.Signals(signum))

    async def close(self) -> None:
        """Stop, run `on_shutdown`, close what tasks opened, and close the connections.

        Running jobs are released, or, where the worker handles signals, awaited, as arq does.
        """
        if not self._ended.is_set():
            if not self._handle_signals or self._engine is None:
                self.handle_sig(signal.SIGUSR1)
            else:
                self._claim_no_more()
            await self._ended.wait()
        if self._drain is not None:
            self._drain.cancel()
        if self._pool is None:
            return
        await self._leaving.step("health_key", self._delete_health_key(), LAST_WORD)
        # A worker that is started again takes jobs, and says at once that it lives.
        self._last_health_check, self.allow_pick_jobs = 0, True
        if self.on_shutdown:
            await self._leaving.step("on_shutdown", self.on_shutdown(self.ctx), self._leaving.left())
        left = self._leaving.left()
        await self._leaving.step("resources", self._resources.close(left), left)
        self._leaving.reset()
        self._drain = None
        await self._leaving.step("connections", self.pool.aclose(close_connection_pool=True), LAST_WORD)
        self._pool = None

    async def _delete_health_key(self) -> None:
        try:
            await self.pool.delete(self.health_check_key)
        except TROUBLE as error:
            log.warning("health_key_not_deleted", error=f"{type(error).__name__}: {error}")
