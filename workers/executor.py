"""Run attempts: decode, check, call, and have it judged how each ended.

Owns the asyncio task of each attempt, its timeout and its cancellation. Does no Redis I/O: what comes out goes to
the completer. An attempt reads as a pipeline: prepared -> called -> one of succeeded, raised, stopped -> handed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

import structlog

from common.codec import Extras, Reading, decode_job
from common.errors import JobLost, PayloadError
from workers.admission import Admission
from workers.arq_ways import ArqWays, Hook, Hooks
from workers.attempt import Attempt, Outcome, PassedOnError, StopReason
from workers.clock import ServerClock
from workers.runnables import Runnable
from workers.stepping import stepped
from workers.time_limits import TimeLimits
from workers.unknown_tasks import UnknownTasks
from workers.verdicts import CannotRunError, Verdicts

__all__ = ["Executor"]

log = structlog.get_logger("barque.executor")

_CANCEL_AGAIN = 1.0
"""Seconds after which an attempt that was cancelled and runs on is cancelled once more."""

_CANCELLATIONS = 3
"""How often an attempt is cancelled before its outcome is recorded without waiting for its end."""


class Executor:
    """Runs attempts as asyncio tasks and hands on their outcomes.

    Attributes:
        running: attempts that have a slot now.
    """

    def __init__(
        self,
        *,
        runnables: Mapping[str, Runnable],
        unknown: UnknownTasks,
        admission: Admission,
        verdicts: Verdicts,
        clock: ServerClock,
        reading: Reading,
        ways: ArqWays,
        hooks: Hooks,
        state: dict[Any, Any],
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        self._runnables = runnables
        self._unknown = unknown
        self._admission = admission
        self._verdicts = verdicts
        self._clock = clock
        self._reading = reading
        self._ways = ways
        self._hooks = hooks
        self._hooked = any((hooks.on_job_start, hooks.on_job_end, hooks.after_job_end))
        self._state = state
        self._on_outcome = on_outcome
        self._loop = asyncio.get_running_loop()
        # What the loop would make, without its detour; unless the host program has tasks of its own kind.
        self._plain_tasks = self._loop.get_task_factory() is None
        self._limits = TimeLimits(self._loop, clock, self.stop)
        self._end = verdicts.endings.succeeded  # bound here: each frame costs every job
        self._unstoppable: set[asyncio.Task[None]] = set()
        self.running = 0

    def start(self, attempt: Attempt) -> None:
        """Begin an attempt; its outcome comes through `on_outcome`, whatever happens."""
        self.running += 1
        if self._plain_tasks:
            attempt.task = asyncio.Task(self._run(attempt), loop=self._loop, name=attempt.job_id)
        else:
            attempt.task = self._loop.create_task(self._run(attempt), name=attempt.job_id)

    def release(self, attempt: Attempt) -> None:
        """Have an attempt that was not started given back: its worker stops."""
        self.start(attempt)
        self.stop(attempt, StopReason.RELEASED)

    def give_back(self, attempt: Attempt) -> bool:
        """Have an attempt that was not started put back into its place, as if it had not been claimed.

        Returns:
            False, and nothing was done, where its score alone did not tell its place, or how it came to be due.
        """
        if attempt.stop is None:
            if attempt.past or self._has_lane(attempt):
                return False
            attempt.stop = StopReason.NOT_BEGUN
        self.start(attempt)  # ends in its first step
        return True

    def _has_lane(self, attempt: Attempt) -> bool:
        self._decode_for_the_record(attempt)
        extras = None if attempt.payload is None else attempt.payload.extras
        return extras is not None and extras.lane is not None

    def _decode_for_the_record(self, attempt: Attempt) -> None:
        """Decode the payload of what will not run, as far as that goes: its outcome names its task."""
        if attempt.raw is not None:
            with contextlib.suppress(PayloadError):
                attempt.payload = decode_job(attempt.raw, self._reading, attempt.job_id, attempt.queue)

    def ask_to_end(self, attempt: Attempt, within: float | None) -> None:
        """Tell a running attempt that its worker stops, and after how many seconds it is given back."""
        if within is not None:
            attempt.leaves_by = self._loop.time() + within
        attempt.tell("shutdown")

    def stop(self, attempt: Attempt, reason: StopReason) -> None:
        """Cancel a running attempt from outside. The first reason given stands.

        One that swallows its cancellation is cancelled again, and then given up: its outcome is recorded and its
        slot is free while it still runs.
        """
        if attempt.finished or attempt.stop is not None:
            return
        attempt.stop = reason
        # A task cancelled before its first step would end without an outcome; `_run` looks at `stop` first.
        if attempt.begun and attempt.task is not None:
            attempt.task.cancel()
        self._loop.call_later(_CANCEL_AGAIN, self._insist, attempt, 1)

    def cut_hooks_short(self, attempts: Iterable[Attempt]) -> None:
        """Cancel the `on_job_end` hooks that keep these attempts' outcomes from being recorded."""
        for attempt in attempts:
            if attempt.finished and attempt.task is not None:
                attempt.task.cancel()

    def _insist(self, attempt: Attempt, cancelled: int) -> None:
        task = attempt.task
        if attempt.finished or task is None or task.done():
            return
        if cancelled < _CANCELLATIONS:
            task.cancel()
            self._loop.call_later(_CANCEL_AGAIN, self._insist, attempt, cancelled + 1)
            return
        self._unstoppable.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(functools.partial(self._stopped_late, attempt, time.monotonic()))
        try:
            outcome = self._verdicts.stopped(attempt, asyncio.CancelledError())
        except Exception as broken:
            outcome = self._verdicts.unjudged(attempt, broken)
        attempt.finished = True
        self._hand_on(outcome)
        log.error(
            "job_did_not_stop",
            job_id=attempt.job_id,
            task=attempt.task_name,
            attempt=attempt.number,
            reason=attempt.stop.name.lower() if attempt.stop is not None else "",
            cancelled=cancelled,
            running_on=self.given_up,
        )

    def _stopped_late(self, attempt: Attempt, given_up: float, task: asyncio.Task[None]) -> None:
        self._unstoppable.discard(task)
        log.info(
            "job_stopped_late",
            job_id=attempt.job_id,
            task=attempt.task_name,
            attempt=attempt.number,
            seconds=round(time.monotonic() - given_up, 3),
            running_on=self.given_up,
        )

    @property
    def given_up(self) -> int:
        """Attempts that would not be stopped: their outcome is recorded and their slot free, and they run on."""
        return len(self._unstoppable)

    async def after_job_end(self, attempt: Attempt) -> None:
        """Run arq's `after_job_end` hook for an attempt whose outcome is recorded."""
        if self._hooks.after_job_end is not None and attempt.context is not None:
            await self._run_hook("after_job_end", self._hooks.after_job_end, attempt.context)

    def close(self) -> None:
        """Watch no limit any more."""
        self._limits.close()

    async def _run(self, attempt: Attempt) -> None:  # noqa: C901, PLR0912 - one clause a way to end
        attempt.begun = True
        started = attempt.started = time.perf_counter()  # uvloop's own time is only good to the millisecond
        attempt.started_ms = self._clock.at(started)
        try:
            try:
                runnable = self._prepare(attempt)
                if runnable.places is not None and runnable.places.full:
                    raise PassedOnError(runnable.places.due_again(self._clock))  # noqa: TRY301 - as in _prepare
                if runnable.limits is not None:
                    await self._admitted(attempt)
                if self._hooked or runnable.policy is None:
                    attempt.context = self._job_context(attempt)
                    if self._hooks.on_job_start is not None:
                        await self._hooks.on_job_start(attempt.context)
                on_the_loop = runnable.places is None
                coroutine = self._coroutine(attempt, runnable) if on_the_loop else self._in_place(attempt, runnable)
                began = time.perf_counter()
                try:
                    yielded = coroutine.send(None)
                except StopIteration as ended:  # it waited for nothing, as most small jobs
                    attempt.busy = attempt.longest_block = time.perf_counter() - began
                    attempt.steps = 1
                    value = ended.value
                except BaseException:
                    attempt.note_step(time.perf_counter() - began)
                    raise
                else:
                    value = await stepped(coroutine, attempt, yielded, began)
            except asyncio.CancelledError as error:
                if attempt.stop is None:
                    await _next_step()
                outcome = self._verdicts.stopped(attempt, error)
            except CannotRunError as error:
                outcome = self._verdicts.cannot_run(attempt, error)
            except PassedOnError as passed:
                outcome = self._verdicts.passed_on(attempt, passed.due)
            except BaseException as error:
                outcome = self._verdicts.raised(attempt, error)
            else:
                end = self._end if attempt.stop is None else self._verdicts.succeeded
                outcome = end(attempt, value)
        except BaseException as broken:  # an attempt without an outcome would keep its slot and its lease for ever
            outcome = self._verdicts.unjudged(attempt, broken)
        if attempt.finished:  # it was given up, and what it says now comes too late
            return
        attempt.finished = True
        # As arq: a job that could not be started has no hooks.
        if self._hooks.on_job_end is not None and attempt.context is not None:
            await self._run_hook("on_job_end", self._hooks.on_job_end, attempt.context)
        self._hand_on(outcome)

    def _hand_on(self, outcome: Outcome) -> None:
        self.running -= 1
        self._on_outcome(outcome)

    def _prepare(self, attempt: Attempt) -> Runnable:
        """Decode the payload and find what runs it; nothing of the user's has run yet."""
        if attempt.stop is not None:
            self._decode_for_the_record(attempt)
            raise asyncio.CancelledError
        if attempt.raw is None:
            raise CannotRunError(self._ways.failure("job expired"))
        try:
            payload = decode_job(attempt.raw, self._reading, attempt.job_id, attempt.queue)
        except PayloadError as error:
            raise CannotRunError(error, self._ways.undecodable("unable to deserialize job")) from None
        attempt.payload = payload
        extras = payload.extras
        if extras is not None and extras.until is not None and self._clock.now_ms() > extras.until:
            raise CannotRunError(self._ways.failure("job expired"))
        if attempt.aborted and attempt.is_meant_by(attempt.aborted):
            attempt.stop = StopReason.ABORTED
            raise asyncio.CancelledError
        runnable = self._runnables.get(payload.task)
        if runnable is None:
            raise self._not_known(attempt, payload.task)
        attempt.runnable = runnable
        if payload.job_try is not None and payload.job_try > attempt.number:
            attempt.number = payload.job_try
        attempt.max_attempts = runnable.max_attempts
        if extras is not None or runnable.deadline_ms is not None:
            self._hold_to(attempt, runnable, extras)
        if attempt.number > attempt.max_attempts:
            raise self._no_attempt_left(attempt, runnable)
        return runnable

    def _hold_to(self, attempt: Attempt, runnable: Runnable, extras: Extras | None) -> None:
        """Apply what the job, or its task, says of all its attempts together."""
        if extras is not None and extras.tries is not None:
            attempt.max_attempts = extras.tries
        self._limits.set_deadline(attempt, runnable, extras)
        if self._limits.deadline_passed(attempt):
            raise self._too_late(attempt)

    def _too_late(self, attempt: Attempt) -> CannotRunError:
        attempt.number -= 1  # this one never begins
        return CannotRunError(self._verdicts.too_late(attempt), self._ways.failure("the job's deadline has passed"))

    def _not_known(self, attempt: Attempt, task: str) -> PassedOnError | CannotRunError:
        due = self._unknown.due_again(attempt, task)
        if due is not None:
            return PassedOnError(due)
        return CannotRunError(self._unknown.not_found(task), self._ways.failure(f"function {task!r} not found"))

    async def _admitted(self, attempt: Attempt) -> None:
        """Wait until its limits let the attempt begin; raises where they do not."""
        try:
            await self._admission.enter(attempt)
        except PayloadError as error:
            raise CannotRunError(error) from None

    def _no_attempt_left(self, attempt: Attempt, runnable: Runnable) -> CannotRunError:
        words = self._ways.failure(f"max {attempt.max_attempts} retries exceeded")
        if attempt.past != "lost" or runnable.policy is None:
            return CannotRunError(words)
        attempt.number -= 1  # the one that was lost: this one never begins
        return CannotRunError(
            JobLost(
                f"the worker was lost in attempt {attempt.number} of {attempt.max_attempts}: it was killed, ran out of "
                "memory, was cut off from the server, or stood still past its lease. It may be this job that does it"
            ),
            words,
        )

    def _coroutine(self, attempt: Attempt, runnable: Runnable) -> Coroutine[Any, Any, Any]:
        """Check the arguments, start the clock, and return what is to be awaited."""
        payload = attempt.payload
        assert payload is not None
        if attempt.deadline_ms is not None and self._limits.deadline_passed(attempt):  # while it waited to be admitted
            raise self._too_late(attempt)
        try:
            coroutine = runnable.start(attempt, payload, self._state if attempt.context is None else attempt.context)
        except PayloadError as error:
            raise CannotRunError(error) from None
        self._limits.begin(attempt, runnable, payload.extras)
        return coroutine

    async def _in_place(self, attempt: Attempt, runnable: Runnable) -> Any:
        """Run it once there is a place for it: the attempt starts then, and its time runs from there."""
        await runnable.enter(attempt)
        started = attempt.started = time.perf_counter()
        attempt.started_ms = self._clock.at(started)
        try:
            if self._limits.deadline_passed(attempt):
                raise self._too_late(attempt)
            return await self._coroutine(attempt, runnable)
        finally:
            runnable.leave(attempt, time.perf_counter() - started)

    def _job_context(self, attempt: Attempt) -> dict[Any, Any]:
        """Build the dict arq gives its functions and hooks."""
        assert attempt.payload is not None
        return {
            **self._state,
            "job_id": attempt.job_id,
            "job_try": attempt.number,
            "enqueue_time": self._ways.moment(attempt.payload.enqueued_ms),
            "score": attempt.due_ms,
        }

    async def _run_hook(self, name: str, hook: Hook, context: dict[Any, Any]) -> None:
        try:
            await hook(context)
        except BaseException as error:  # a hook's error is the hook's, not the job's, whose outcome is known
            self._loop.call_exception_handler({"message": f"{name} raised {error!r}", "exception": error})


async def _next_step() -> None:
    """Let the reason for a cancellation arrive, and with it any other cancellation that is on its way.

    The verdicts' `leaving` is set in the same step in which the whole loop is cancelled; and where an abort met a
    cancellation of the task's own, the abort's is raised at the next await, which is this one.
    """
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
