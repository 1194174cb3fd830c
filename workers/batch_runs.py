"""Jobs of one task that run together: gather them, hand them to one run, and give each its outcome.

Owns which jobs come together and when a run begins. Each job stays an attempt like any other, with its own slot, lease,
timeout, abort, middleware and log line; what it awaits is its place in a run. A batch begins

- when it is full,
- `within` seconds after its first job came, on one timer,
- at once, when all of the worker's slots are taken by jobs that wait in batches: nothing else could come,
- at once, when the worker claims no more.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import structlog

from common.batches import BatchContext, BatchTask
from common.context import Context
from common.errors import BatchMismatch, ConfigurationError
from common.middleware import Middleware
from common.retry import RetryPolicy, RetryRule
from common.stopping import Lifetime
from workers.attempt import Attempt
from workers.runnables import Defaults, Runnable, TaskRunnable
from workers.stepping import steppable, stepped

__all__ = ["BatchRunnable", "Batches", "batches_of"]

log = structlog.get_logger("barque.batches")

_CANCEL_AGAIN = 1.0
"""Seconds after which a run that nobody waits for, and that was cancelled, is cancelled once more."""

_CANCELLATIONS = 3
"""How often it is cancelled before it is left to itself."""


class Batches:
    """All batches of one worker.

    Args:
        runnables: those of its tasks that have any.
        state: the worker's own dict.
        nothing_else_runs: tells whether all of the worker's slots are taken, by so many jobs or fewer.
    """

    def __init__(
        self, runnables: Iterable[BatchRunnable], state: dict[Any, Any], nothing_else_runs: Callable[[int], bool]
    ) -> None:
        self._gatherers = [runnable.gatherer for runnable in runnables]
        self._nothing_else_runs = nothing_else_runs
        self._runs: dict[asyncio.Task[None], dict[str, Any]] = {}  # the loop itself holds tasks weakly
        self._variables = contextvars.copy_context()
        self._no_more = False
        self.state = state
        self.waiting = 0
        for gatherer in self._gatherers:
            gatherer.batches = self

    def no_more(self) -> None:
        """Wait for no more jobs: this worker claims none."""
        self._no_more = True
        self._begin_all()

    def joined(self) -> None:
        """Take note of a job that waits in a batch now."""
        if self._no_more or self._nothing_else_runs(self.waiting):
            self._begin_all()

    def begin(self, run: Coroutine[Any, Any, None], task: str, jobs: int) -> asyncio.Task[None]:
        """Begin a run."""
        # Not in the context variables of whichever job came last: what those say, a log line too, is of one job.
        variables = self._variables.copy()
        running = asyncio.create_task(run, name=f"barque-batch-{task}", context=variables)
        self._runs[running] = {"task": task, "batch": jobs}
        running.add_done_callback(self._runs.pop)
        return running

    def about(self, task: asyncio.Task[Any] | None) -> dict[str, Any]:
        """Return what is to be said of an asyncio task that may be one of the runs. Called from another thread."""
        return {} if task is None else self._runs.get(task, {})

    def _begin_all(self) -> None:
        for gatherer in self._gatherers:
            gatherer.begin()


def batches_of(
    runnables: Iterable[Runnable], state: dict[Any, Any], nothing_else_runs: Callable[[int], bool]
) -> Batches | None:
    """Return the batches of a worker that runs these; None where no task has any."""
    found = [runnable for runnable in runnables if isinstance(runnable, BatchRunnable)]
    return Batches(found, state, nothing_else_runs) if found else None


class BatchRunnable(TaskRunnable):
    """A `@task(batch=…)`."""

    __slots__ = ("gatherer",)

    gathers = True

    def __init__(self, task: BatchTask[Any, Any], defaults: Defaults, worker: str) -> None:
        super().__init__(task, defaults, worker)
        assert self.policy is not None
        self.policy = _not_again(self.policy)
        if self.timeout is not None and self.timeout <= task.within:
            raise ConfigurationError(
                f"task {task.name!r}: its jobs wait for others for up to {task.within:g} s (within=), and time "
                f"out after {self.timeout:g} s, which that is a part of. Give a longer timeout, or a shorter within"
            )
        self.gatherer = Gatherer(task, worker)
        self._function = self.gatherer.run

    def surrounded(self, outer: Sequence[Middleware], worker: str) -> Runnable:
        """Put middleware around each job, and around the runs what has something for those (`around_batch`)."""
        for one in reversed(outer):
            around_batch = getattr(one, "around_batch", None)
            if around_batch is not None:
                self.gatherer.function = around_batch(self.gatherer.function)
        return super().surrounded(outer, worker)


def _not_again(policy: RetryPolicy) -> RetryPolicy:
    """Return a policy that does not run a batch again for the number of its results: what it did is done."""
    if BatchMismatch in policy.fail_on or BatchMismatch in policy.rules:
        return policy
    return dataclasses.replace(policy, rules={**policy.rules, BatchMismatch: RetryRule("fail")})


class _Place:
    """One job's place in a batch.

    Attributes:
        done: set when its outcome is known, or cancelled when the job is gone.
        run: the run it is in, once that has begun.
    """

    __slots__ = ("context", "done", "error", "item", "run", "value")

    def __init__(self, context: Context, item: Any) -> None:
        self.context = context
        self.item = item
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.run: _Run | None = None
        self.value: Any = None
        self.error: BaseException | None = None


class Gatherer:
    """Brings the jobs of one task together.

    Attributes:
        batches: those of the worker, once it runs.
        function: the task's, whose calls are coroutines.
        function: what a run calls: the task's function, and what observes its runs around it.
    """

    batches: Batches

    def __init__(self, task: BatchTask[Any, Any], worker: str) -> None:
        assert task.options.batch is not None
        self.task = task
        self.worker = worker
        self.function: Callable[..., Coroutine[Any, Any, Any]] = task.function
        self.function = steppable(task.function)
        self._most = task.options.batch
        self._within = task.within
        self._waiting: list[_Place] = []
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, context: Context, item: Any, /) -> Any:
        """Take an item to the next run, and return or raise its outcome."""
        place = _Place(context, item)
        self._join(place)
        try:
            await place.done
        except asyncio.CancelledError:
            self._leave(place)
            raise
        if place.error is not None:
            # Many jobs may have one error: each raising would add to its traceback.
            raise place.error.with_traceback(None if place.run is None else place.run.traceback_of(place.error))
        return place.value

    def begin(self) -> None:
        """Begin a run with the jobs that wait, if there are any."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        places, self._waiting = self._waiting, []
        if not places:
            return
        self.batches.waiting -= len(places)
        run = _Run(self, places)
        run.task = self.batches.begin(run.to_its_end(), self.task.name, len(places))

    def _join(self, place: _Place) -> None:
        self._waiting.append(place)
        self.batches.waiting += 1
        if len(self._waiting) >= self._most:
            self.begin()
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._within, self._due)
        self.batches.joined()

    def _due(self) -> None:
        self._timer = None
        self.begin()

    def _leave(self, place: _Place) -> None:
        """Let a job go: out of the batch, if that has not begun; else its outcome is dropped."""
        if place.run is not None:
            place.run.left()
            return
        self._waiting.remove(place)
        self.batches.waiting -= 1
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None


class RunLifetime(Lifetime):
    """The time of a run: that of the job that has the least, and told to stop with the first job that is.

    Attributes:
        size: how many jobs run together.
    """

    __slots__ = ("_jobs", "size")

    def __init__(self, jobs: Sequence[Lifetime]) -> None:
        super().__init__()
        self._jobs = jobs
        self.size = len(jobs)
        for job in jobs:
            if job.told:
                self.tell(job.told)
            if isinstance(job, Attempt):
                job.batch = self

    @property
    def time_left(self) -> float | None:
        """Seconds until the first of its jobs is stopped; None is no limit."""
        return min((left for job in self._jobs if (left := job.time_left) is not None), default=None)


class _Run:
    """One call of a batch task's function."""

    def __init__(self, gatherer: Gatherer, places: list[_Place]) -> None:
        self._gatherer = gatherer
        self._places = places
        self._staying = len(places)
        self._loop = asyncio.get_running_loop()
        self._error: BaseException | None = None
        self._traceback: Any = None
        self._lifetime = RunLifetime([place.context.lifetime for place in places])
        self.task: asyncio.Task[None] | None = None
        for place in places:
            place.run = self

    async def to_its_end(self) -> None:
        """Call the function, and give each job its outcome, whatever happens."""
        steps = _Steps()
        try:
            outcomes = self._outcomes(await self._called(steps))
        except BaseException as error:
            if isinstance(error, GeneratorExit) and not self._loop.is_running():
                raise  # the event loop is gone, and with it all that waits
            self._error, self._traceback = error, error.__traceback__
            outcomes = [error] * len(self._places)
            if isinstance(error, KeyboardInterrupt | SystemExit):  # the jobs', not the event loop's
                log.exception("exit_in_a_batch", task=self._gatherer.task.name, error=type(error).__name__)
        for place, outcome in zip(self._places, outcomes, strict=True):
            steps.share_with(place.context.lifetime, len(self._places))
            if place.done.done():
                continue
            if isinstance(outcome, BaseException):
                place.error = outcome
            else:
                place.value = outcome
            place.done.set_result(None)

    def traceback_of(self, error: BaseException) -> Any:
        """Return where the whole run failed, if this is its error."""
        return self._traceback if error is self._error else error.__traceback__

    def left(self) -> None:
        """Take note that one of its jobs is gone; without any the run is ended."""
        self._staying -= 1
        if self._staying == 0:
            self._cancel(1)

    def _cancel(self, times: int) -> None:
        task = self.task
        if task is None or task.done():
            return
        if times > _CANCELLATIONS:
            name, jobs = self._gatherer.task.name, len(self._places)
            log.error("batch_did_not_stop", task=name, batch=jobs, cancelled=_CANCELLATIONS)
            return
        task.cancel()
        asyncio.get_running_loop().call_later(_CANCEL_AGAIN, self._cancel, times + 1)

    async def _called(self, steps: _Steps) -> Any:
        gatherer, places = self._gatherer, self._places
        context = BatchContext(
            jobs=[place.context for place in places],
            task=gatherer.task.name,
            worker=gatherer.worker,
            lifetime=self._lifetime,
            state=gatherer.batches.state,
        )
        coroutine = gatherer.function(context, [place.item for place in places])
        began = time.perf_counter()
        try:
            yielded = coroutine.send(None)
        except BaseException as ended:
            steps.note_step(time.perf_counter() - began)
            if isinstance(ended, StopIteration):
                return ended.value
            raise
        return await stepped(coroutine, steps, yielded, began)

    def _outcomes(self, returned: object) -> Sequence[Any]:
        expected = len(self._places)
        if returned is None:
            return [None] * expected
        asked = f"return a list with one outcome for each of its {expected} item(s), in their order, or None"
        if not isinstance(returned, Sequence) or isinstance(returned, str | bytes):
            raise BatchMismatch(f"{self._gatherer.task.name} returned a {type(returned).__name__}: {asked}")
        outcomes = list(returned)  # a lazy one of the user's own may raise, or give more or less than its length
        if len(outcomes) != expected:
            raise BatchMismatch(f"{self._gatherer.task.name} returned {len(outcomes)} outcome(s): {asked}")
        return outcomes


class _Steps:
    """How a run held the event loop, which its jobs share."""

    def __init__(self) -> None:
        self._seconds = self._longest = 0.0
        self._count = 0

    def note_step(self, seconds: float) -> None:
        """Count a step that held the event loop for so long."""
        self._count += 1
        self._seconds += seconds
        self._longest = max(self._longest, seconds)

    def share_with(self, attempt: Lifetime, jobs: int) -> None:
        """Give a job its part of the time; the longest step is each one's, as it kept them all."""
        assert isinstance(attempt, Attempt)
        attempt.steps += self._count
        attempt.busy += self._seconds / jobs
        attempt.longest_block = max(attempt.longest_block, self._longest)
