"""The worker's core, put together: claim, execute, complete, renew.

Owns the life of the components and what is passed between them; each does its own work in its own file:

    claimer ──Claim──► engine ──Attempt──► executor ──Outcome──► completer ──► Redis
                         │ held: every attempt until its outcome is recorded
                         └── leases (thread): renews what is held, reports what is lost or aborted

Does not import arq: workers/worker.py puts arq's face on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from common.codec import Reading
from common.jobs import OutcomeKind
from common.redis.control import ControlStore
from common.redis.limits import LimitStore
from common.redis.progress import ProgressStore
from common.redis.store import BlockingStore, Claim, Renewal, Store
from workers.aborts import Aborts
from workers.admission import Admission
from workers.ahead import Ahead
from workers.arq_ways import ArqWays, Hooks
from workers.attempt import Attempt, Outcome, StopReason
from workers.attempt_log import AttemptLog
from workers.claimer import Claimer
from workers.clock import ServerClock
from workers.completer import Completer
from workers.control import listen_for_orders
from workers.dead_letters import Burials
from workers.engine_options import EngineOptions
from workers.executor import Executor
from workers.heartbeat import Heartbeat
from workers.held_attempts import HeldAttempts
from workers.last_hooks import LastHooks
from workers.leases import LeaseKeeper
from workers.leaving import whatever_happens
from workers.loop_watch import LoopWatch
from workers.metrics import Metrics, Recorded
from workers.pauses import Pauses
from workers.reporter import Reporter
from workers.runnables import Runnable
from workers.unknown_tasks import UnknownTasks
from workers.verdicts import Verdicts
from workers.wellbeing import Condition

if TYPE_CHECKING:
    from workers.batch_runs import Batches

__all__ = ["Engine"]

log = structlog.get_logger("barque.engine")

_LAST_CHANCE = 5.0
"""Seconds that cancelled attempts have to end, and their outcomes to be recorded, at a stop."""

_RECORDING = 1.0
"""Seconds of these that are left to the recording alone: hooks that still run then are cancelled."""

_LAST_STEPS = 0.5
"""Seconds that the parts have to end once they are cancelled."""

_LEAST_PATIENCE = 5.0
"""Seconds to wait for a reply of the server's, at least; a long lease allows for more."""


class Engine:
    """Runs jobs until it is told to stop, or, in burst, until there are none.

    Args:
        store: for this event loop.
        connect_blocking: makes the store of the renewing thread.
        heartbeat: called about every `poll_delay`: cron, health key, reports.
        recorded: called with the outcomes of each recorded batch, for counting, and with each that is lost.
        schedules_changed: called when the fleet's schedules have.
        looked_on: called with what somebody says who looks on.
        metrics: counts what is done, where somebody watches.
        attempt_log: makes what writes the line of each attempt.
    """

    def __init__(
        self,
        options: EngineOptions,
        *,
        store: Store,
        connect_blocking: Callable[[], BlockingStore],
        runnables: Mapping[str, Runnable],
        reading: Reading,
        ways: ArqWays,
        hooks: Hooks,
        state: dict[Any, Any],
        failed_keep_ms: int,
        heartbeat: Callable[[], Awaitable[None]],
        recorded: Callable[[Sequence[Outcome]], None],
        schedules_changed: Callable[[], None],
        looked_on: Callable[[bytes], None] = lambda _: None,
        metrics: Metrics | None = None,
        attempt_log: Callable[[str], AttemptLog] = AttemptLog,
    ) -> None:
        self.options = options
        self.clock = ServerClock()
        self.held = HeldAttempts()
        self._store = store
        self._hooks = hooks
        self._work_at_each_beat = heartbeat
        self._count = recorded
        self._schedules_changed = schedules_changed
        self._looked_on = looked_on
        self.metrics: Recorded | None = metrics
        self._log = attempt_log(options.worker)
        self._patience = max(_LEAST_PATIENCE, options.lease_ms / 1000)
        dead_keep_ms, most_dead = options.limits.dead_caps
        self._verdicts = Verdicts(
            worker=options.worker,
            clock=self.clock,
            reading=reading,
            ways=ways,
            failed_keep_ms=failed_keep_ms,
            max_result_bytes=options.limits.max_result_bytes,
            burials=Burials(worker=options.worker, clock=self.clock, keep_ms=dead_keep_ms, most=most_dead),
        )
        self._admission = Admission(
            LimitStore(store.client),
            options.queues,
            lease_ms=options.lease_ms,
            patience=self._patience,
            clock=self.clock,
            metrics=metrics,
        )
        limited = any(runnable.limits is not None for runnable in runnables.values())
        self.executor = Executor(
            runnables=runnables,
            unknown=UnknownTasks(
                runnables.keys(),
                # A burst, which is to end, waits for nobody.
                wait=0.0 if options.burst else options.limits.unknown_task_wait,
                clock=self.clock,
            ),
            admission=self._admission,
            verdicts=self._verdicts,
            clock=self.clock,
            reading=reading,
            ways=ways,
            hooks=hooks,
            state=state,
            on_outcome=self._verdicts.histories.before(self._left if limited else self._ended, runnables),
        )
        self._reporter = Reporter(
            ProgressStore(store.client),
            self.held,
            clock=self.clock,
            reading=reading,
            limits=options.limits.stream_limits,
            patience=self._patience,
        )
        self._batches: Batches | None = None
        if any(runnable.gathers for runnable in runnables.values()):
            from workers.batch_runs import batches_of  # noqa: PLC0415 - most workers have no such task

            self._batches = batches_of(runnables.values(), state, self._runs_nothing_else)
        for runnable in runnables.values():
            runnable.outlets = self._reporter.outlet
        self._completer = Completer(
            store,
            options.queues,
            recorded=self._recorded,
            refused=self._refused,
            in_words=self._verdicts.unrecordable,
            patience=self._patience,
            most_waiting=max(1000, 2 * options.concurrency),
            metrics=metrics,
        )
        self._ahead = Ahead(
            asyncio.get_running_loop(),
            options.concurrency,
            # A job with a limit takes its turn when it is claimed; batches and arq's last hooks hold slots unseen; a
            # burst ends, or has had its number of jobs, by what it has claimed.
            may=not (limited or options.burst or self._batches or hooks.on_job_end or hooks.after_job_end),
            may_begin=self._may_begin,
            start=self.executor.start,
            give_back=self.executor.give_back,
            release=self.executor.release,
        )
        self._claimer = Claimer(
            store,
            options.queues,
            order=options.order,
            metrics=metrics,
            worker=options.worker,
            lease_ms=options.lease_ms,
            poll_delay=options.poll_delay,
            patience=self._patience,
            clock=self.clock,
            room=self._room,
            start=self._start,
            most_at_once=self._ahead.most_at_once,
            burst=options.burst,
            burst_waits=options.limits.burst_waits,
            most_jobs=options.most_burst_jobs,
            undecided=(lambda: bool(self.held)) if limited else None,
        )
        self._last_hooks = LastHooks(self.executor.after_job_end, ended=self._claimer.slot_freed)
        self.loop_watch = LoopWatch(self._about)
        self._leases = LeaseKeeper(
            connect=connect_blocking,
            queues=options.queues,
            lease_ms=options.lease_ms,
            held=self.held.leases,
            changed=self._leases_changed,
            watch=self.loop_watch,
            block_limit=options.limits.block_limit,
        )
        self._aborts = Aborts(
            options.worker, self.held, lambda attempt: self.executor.stop(attempt, StopReason.ABORTED)
        )
        self._heartbeat = Heartbeat(self._at_each_beat, every=options.poll_delay, patience=self._patience)
        self.pauses = Pauses(ControlStore(store.client), options.queues, runnables)
        self.condition = Condition(
            queues=options.queues,
            claimer=self._claimer,
            executor=self.executor,
            heartbeat=self._heartbeat,
            leases=self._leases,
            pauses=self.pauses,
        )
        self._claiming: asyncio.Task[None] | None = None
        self._releasing = asyncio.Event()

    async def run(self) -> None:
        """Run jobs until a burst is done or `stop_claiming` was called and all running jobs have ended.

        Cancelling it releases what still runs: those jobs go back to their queues at once, the attempt not
        counted.
        """
        await self._heartbeat.beat()  # cron jobs due at start-up are in the queue before the first claim
        self._leases.start()
        background = [asyncio.create_task(part, name=name) for name, part in self._background()]
        self._claiming = asyncio.create_task(self._claimer.run(), name="barque-claimer")
        self._claiming.add_done_callback(self._claimer.end)
        try:
            await self._watch({self._claiming}, background)
            ends = {asyncio.create_task(self._all_ended()), asyncio.create_task(self._releasing.wait())}
            try:
                await self._watch(ends, background)
            finally:
                for end in ends:
                    end.cancel()
        finally:
            self._verdicts.leaving = True
            await whatever_happens(self._wind_down(background))

    def stop_claiming(self, within: float | None = None) -> None:
        """Claim no more; `run` returns when the jobs that run now have ended.

        Args:
            within: seconds after which those that still run will be released; None is no limit.
        """
        self._ahead.release()
        for attempt in list(self.held.values()):
            self.executor.ask_to_end(attempt, within)
        if self._claiming is not None and self._claimer.accepting:
            self._claiming.cancel()  # once: it then waits for the claim that is on its way
        self._claimer.end()
        if self._batches is not None and not (self._releasing.is_set() or self._verdicts.leaving):
            self._batches.no_more()

    def release(self) -> None:
        """Claim no more and give back what runs; `run` returns when that is recorded."""
        self._releasing.set()
        self.stop_claiming()
        for attempt in list(self.held.values()):
            self.executor.stop(attempt, StopReason.RELEASED)

    @property
    def outcomes_waiting(self) -> int:
        """Outcomes not yet on the wire."""
        return self._completer.waiting

    def _background(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        listening = listen_for_orders(
            self._store,
            abort=self._aborts.order if self.options.honour_aborts else None,
            schedules_changed=self._schedules_changed,
            pauses_changed=self.pauses.changed,
            looked_on=self._looked_on,
        )
        return [
            ("barque-completer", self._completer.run()),
            ("barque-heartbeat", self._heartbeat.run()),
            ("barque-control", listening),
        ]

    async def _watch(self, awaited: Collection[asyncio.Task[Any]], background: Collection[asyncio.Task[None]]) -> None:
        """Wait for one of these to end; a component that fails takes the worker down loudly, not silently."""
        done, _ = await asyncio.wait({*awaited, *background}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                task.result()

    async def _all_ended(self) -> None:
        """Wait until every outcome is recorded and every hook has ended."""
        while self.held or self._last_hooks.tasks:
            await self.held.none.wait()
            await self._last_hooks.all_ended()

    async def _wind_down(self, background: list[asyncio.Task[None]]) -> None:
        """Release what runs, record what ended, stop the parts. Bounded, whatever the server or a task does."""
        loop = asyncio.get_running_loop()
        leave_at = loop.time() + _LAST_CHANCE
        self.stop_claiming()
        if self._claiming is not None:
            await asyncio.wait({self._claiming}, timeout=_LAST_CHANCE)
        self.release()
        if background[0].cancelling():
            # asyncio.run() cancels every task of its loop, the completer too: the outcomes want one still.
            await asyncio.wait({background[0]}, timeout=_LAST_STEPS)
            background = [*background, asyncio.create_task(self._completer.run(), name="barque-completer")]
        ending = asyncio.ensure_future(self._all_ended())
        await asyncio.wait({ending}, timeout=leave_at - _RECORDING - loop.time())
        if not ending.done():
            self.executor.cut_hooks_short(list(self.held.values()))
            self._last_hooks.cancel()
            await asyncio.wait({ending}, timeout=leave_at - loop.time())
        if not ending.done():
            self._say_what_is_left()
        await self._heartbeat.end(within=_LAST_STEPS)
        self.pauses.close()
        await self._admission.close(within=_LAST_STEPS)
        parts = {ending, *background, *self._last_hooks.tasks}
        for task in parts:
            task.cancel()
        self._reporter.close()
        self._ahead.close()
        await asyncio.gather(asyncio.wait(parts, timeout=_LAST_STEPS), self._leases.stop())
        self.executor.close()

    def _say_what_is_left(self) -> None:
        stuck = [f"{attempt.task_name}:{attempt.job_id}" for attempt in self.held.values()]
        log.error(
            "jobs_not_ended", jobs=stuck[:20], count=len(stuck), hooks=len(self._last_hooks.tasks), seconds=_LAST_CHANCE
        )

    def _room(self) -> int:
        if self._completer.backed_up:
            return 0
        if self._hooks.after_job_end is not None:
            return self.options.concurrency - len(self.held) - len(self._last_hooks.tasks)
        return self._ahead.room(self.executor.running)

    def _may_begin(self) -> bool:
        free = self.executor.running < self.options.concurrency and not self._completer.backed_up
        return free and self._claimer.accepting and not self._verdicts.leaving

    def _runs_nothing_else(self, jobs: int) -> bool:
        """Tell whether all slots are taken, by so many jobs or fewer."""
        return jobs >= self.executor.running and self._room() <= 0

    def _start(self, claim: Claim) -> None:
        self.held.none.clear()
        queues, slots = self.options.queues, self.options.concurrency
        for claimed in self._aborts.overtaken(claim.jobs) if self._aborts.early else claim.jobs:
            attempt = Attempt(claimed, queues[claimed.queue])
            if not self.options.honour_aborts:
                attempt.aborted = 0.0
            earlier = self.held.get(attempt.job_id)
            if earlier is not None:  # its lease ran out here unnoticed, or the server would not have given it
                self.executor.stop(earlier, StopReason.LOST)
            self.held[attempt.job_id] = attempt
            if not self._claimer.accepting:  # the server had given it before it heard that this worker stops
                self.executor.release(attempt)
            elif self.executor.running < slots:
                self.executor.start(attempt)
            else:
                self._ahead.put(attempt)

    def _left(self, outcome: Outcome) -> None:
        # Not only once it is recorded: whoever waits for the place need not wait for that.
        self._admission.ended(outcome)
        self._ended(outcome)

    def _ended(self, outcome: Outcome) -> None:
        if self._reporter.reports:
            self._reporter.last_words(outcome, lambda: self._completer.add(outcome))
        else:
            self._completer.add(outcome)
        if self._ahead.waiting:
            self._ahead.begin()
        if self._claimer.wants_room:
            self._claimer.slot_freed()

    def _recorded(self, outcomes: Sequence[Outcome]) -> None:
        self.held.let_go(outcomes)
        self._ahead.ended(outcomes)
        self._count(outcomes)
        if self.metrics is not None:
            self.metrics.recorded(outcomes)
        if self._hooks.after_job_end is not None:
            self._last_hooks.begin(outcomes)
        self._log.write(outcomes)
        self._ahead.begin()
        self._claimer.slot_freed()

    def _refused(self, outcome: Outcome) -> None:
        self.held.let_go((outcome,))
        if outcome.kind is OutcomeKind.HELD_BACK:  # by a limit; the server has put it back already
            self._claimer.not_started()
            return
        self._claimer.slot_freed()
        outcome.kind = OutcomeKind.LOST
        self._count([outcome])
        if self.metrics is not None:
            self.metrics.lost(outcome)
        self._log.write([outcome])

    def _about(self, task: asyncio.Task[Any] | None) -> dict[str, Any]:
        # Called from the renewing thread, of a loop that stands still.
        if task is not None and (attempt := self.held.of_task(task)) is not None:
            return {"task": attempt.task_name, "job_id": attempt.job_id, "attempt": attempt.number}
        return {} if self._batches is None else self._batches.about(task)

    def _leases_changed(self, renewal: Renewal) -> None:
        for lease in renewal.lost:
            attempt = self.held.get(lease.job_id)
            if attempt is not None and attempt.lease.token == lease.token:
                self.executor.stop(attempt, StopReason.LOST)
        if self.options.honour_aborts:
            self._aborts.renewed(renewal.aborted)

    async def _at_each_beat(self) -> None:
        await self.pauses.look()
        await self._work_at_each_beat()
        if self.options.honour_aborts and self.held:
            await self._aborts.look(self._store)
