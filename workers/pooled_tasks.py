"""Tasks that run outside the event loop, as the executor sees them: in a thread, or with `cpu=True` in a process.

Owns the way from a job to the pool that runs it, and that a worker without such tasks has none. What runs under which
name is runnables.py's, the pools are task_threads.py's and those of processes/.
"""

from __future__ import annotations

import asyncio
import functools
import pickle
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from common.codec import Payload
from common.context import Context
from common.errors import PayloadError
from common.middleware import Middleware
from common.open_resources import keeper_of
from common.settings import Settings
from common.tasks import PlainTask, Task
from common.values import to_plain
from workers.attempt import Attempt
from workers.error_words import raised_elsewhere
from workers.processes.frames import RunTask
from workers.processes.pool import POOL, ProcessPool, prepare_for, processes
from workers.processes.process import Process, RaisedInside
from workers.runnables import Defaults, Runnable, TaskRunnable, context_of
from workers.task_threads import TaskThreads, ThreadContext
from workers.verdicts import CannotRunError

__all__ = ["CpuRunnable", "ThreadRunnable", "task_runnables"]

_THREADS = "barque:threads"
"""Where a worker's threads stand in its dict, if its tasks need some."""


class ThreadRunnable(TaskRunnable):
    """A `@task` on a plain `def`."""

    __slots__ = ("_places",)

    def __init__(self, task: Task[..., Any], defaults: Defaults, worker: str, threads: TaskThreads) -> None:
        super().__init__(task, defaults, worker)
        self.places = self._places = threads.places
        self._context = ThreadContext
        self._function = functools.partial(threads.run, task.function)

    async def enter(self, attempt: Attempt) -> None:  # noqa: ARG002 - see Runnable
        """Take a place; the thread comes with it."""
        await self._places.enter()

    def leave(self, attempt: Attempt, seconds: float) -> None:  # noqa: ARG002 - see Runnable
        """Give the place back."""
        self._places.leave(seconds)


class CpuContext(Context):
    """The Context of an attempt in a process, on the worker's side: its progress and its stream go out here."""

    __slots__ = ("process", "turn")

    process: Process
    turn: asyncio.Lock


class CpuRunnable(TaskRunnable):
    """A `@task(cpu=True)`.

    Its arguments go to the process as they came off the wire, and are checked there; its result comes back as it goes
    onto it. Middleware wants to see both, and has them read here.
    """

    __slots__ = ("_pool", "_prepare", "_result", "_state", "_surrounded")

    def __init__(
        self, task: Task[..., Any], defaults: Defaults, worker: str, pool: ProcessPool, state: dict[Any, Any]
    ) -> None:
        super().__init__(task, defaults, worker)
        self.places = pool.places
        self._pool = pool
        self._state = state
        self._prepare = prepare_for(task.function.__module__, task.name)
        self._function = self._run_objects
        self._result = task.result
        self._surrounded = False

    async def enter(self, attempt: Attempt) -> None:
        """Take a place and a process that has imported the task: neither is of the time the attempt has."""
        await self._pool.places.enter()
        try:
            await keeper_of(self._state).opened(processes)  # which ends them when the worker ends
            attempt.place = await self._pool.take(self._prepare)
        except RaisedInside as raised:
            self._pool.places.leave()
            raise _as_here(raised) from raised.error.__cause__
        except BaseException:
            self._pool.places.leave()
            raise

    def leave(self, attempt: Attempt, seconds: float) -> None:
        """Give the process back, unless it was killed, and the place."""
        self._pool.give_back(attempt.place)
        self._pool.places.leave(seconds)

    def start(self, attempt: Attempt, payload: Payload, state: dict[Any, Any]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that has the process run it."""
        context = context_of(self, attempt, payload, state, self._worker, CpuContext)
        context.process = attempt.place
        parts = payload.as_msgpack()
        if parts is None or self._surrounded:
            context.turn = asyncio.Lock()
            args, kwargs = self._read(*parts) if parts is not None else payload.as_objects()
            return self._function(context, *args, **kwargs)
        return self._run_raw(context, *map(bytes, parts), as_raw=payload.form == "msgpack")

    def surrounded(self, outer: Sequence[Middleware], worker: str) -> Runnable:
        """Put middleware around the function."""
        self._surrounded = bool(outer or self._middleware)
        return super().surrounded(outer, worker)

    async def _run_raw(self, context: CpuContext, args: bytes, kwargs: bytes, *, as_raw: bool) -> Any:
        raw = await self._run(context, RunTask(self.name, _fields(context), args, kwargs, None, context.time_left))
        return msgspec.Raw(raw) if as_raw else to_plain(raw)

    async def _run_objects(self, context: CpuContext, *args: Any, **kwargs: Any) -> Any:
        objects = pickle.dumps((args, kwargs))
        # Middleware may go on more than once, even at the same time; a process does one thing after the other.
        async with context.turn:
            if not self._pool.has(context.process):  # killed when middleware gave up waiting, or it died
                context.process = await self._pool.take(self._prepare)
                assert isinstance(context.lifetime, Attempt)
                context.lifetime.place = context.process
            raw = await self._run(context, RunTask(self.name, _fields(context), b"", b"", objects, context.time_left))
        try:
            return self._result.read(raw, f"{self.name}: result")
        except PayloadError:  # it is not what its annotation says, which is between it and its caller
            return to_plain(raw)

    async def _run(self, context: CpuContext, frame: RunTask) -> bytes:
        try:
            return await self._pool.run_task(context.process, frame, context)
        except RaisedInside as raised:
            error = _as_here(raised)
            raise (CannotRunError(error) if raised.final else error) from error.__cause__
        except BaseException:
            self._pool.kill(context.process, self.name)
            raise


def _as_here(raised: RaisedInside) -> BaseException:
    raised_elsewhere(raised.error, raised.traceback)
    return raised.error


def _fields(context: Context) -> bytes:
    names = ("job_id", "task", "queue", "attempt", "max_attempts", "worker", "enqueued_ms", "metadata")
    return pickle.dumps({name: getattr(context, name) for name in names})


def task_runnables(
    tasks: Sequence[Task[..., Any]],
    defaults: Defaults,
    worker: str,
    state: dict[Any, Any],
    settings: Settings,
    *,
    burst: bool,
) -> list[Runnable]:
    """Return what runs these tasks, each by its kind.

    Args:
        state: the worker's own dict.
        burst: the worker is to end, and gives no job back for want of a place.
    """
    # A worker may run more than once before it is closed: what it closes then is what it had from its first run on.
    threads = state.get(_THREADS) or TaskThreads(settings.threads)
    pool = state.get(POOL) or ProcessPool.by_settings(settings)
    threads.places.gives_back = pool.places.gives_back = not burst
    if any(task.options.cpu for task in tasks):
        state[POOL] = pool
    if any(isinstance(task, PlainTask) and not task.options.cpu for task in tasks):
        state[_THREADS] = threads

    def runnable(task: Task[..., Any]) -> Runnable:
        if task.options.cpu:
            return CpuRunnable(task, defaults, worker, pool, state)
        if isinstance(task, PlainTask):
            return ThreadRunnable(task, defaults, worker, threads)
        return _on_the_loop(task, defaults, worker)

    return [runnable(task) for task in tasks]


def _on_the_loop(task: Task[..., Any], defaults: Defaults, worker: str) -> Runnable:
    if task.options.batch is None:
        return TaskRunnable(task, defaults, worker)
    # Imported here: most workers have no such task.
    from common.batches import BatchTask  # noqa: PLC0415
    from workers.batch_runs import BatchRunnable  # noqa: PLC0415

    assert isinstance(task, BatchTask)
    return BatchRunnable(task, defaults, worker)
