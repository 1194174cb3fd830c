"""The processes of one worker, for what computes: tasks that are `@task(cpu=True)`, and `run_in_process`.

Owns which process gets which work, how many there are, and when one is replaced. A process does one thing at a time,
so that it can be killed without harm to any other: when its attempt times out, is aborted or given back. Processes
are started as they are needed, stay for the next job, and end with the worker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, ParamSpec, TypeVar

import structlog

from common.context import Context
from common.errors import ConfigurationError
from common.open_resources import Resources
from common.resources import lifespan
from common.settings import Settings, settings_for_process
from workers.places import Places
from workers.processes.frames import Prepare, RunCall, RunTask
from workers.processes.process import Process, ProcessLost, RaisedInside

__all__ = ["POOL", "ProcessLost", "ProcessPool", "prepare_for", "processes", "run_in_process"]

log = structlog.get_logger("barque.process")

P = ParamSpec("P")
R = TypeVar("R")

POOL = "barque:processes"
"""Where the pool of a worker whose tasks need one stands in its dict, before there is any process in it."""

_SECONDS_TO_PREPARE = 120.0
"""For a process to start and import a task's module; some libraries take their time."""

_SECONDS_TO_END = 2.0
"""For idle processes to end in order, when the worker does."""


class ProcessPool:
    """Processes that run functions, one at a time each.

    Args:
        size: processes at most; 0 means one for each core.
        max_jobs: after how many pieces of work a process is replaced; 0 is never.
        max_memory: bytes past which it is replaced when it has done its work; 0 is none.
        level: of the log lines that processes send.

    Attributes:
        places: what whoever uses `take` holds until `give_back`; there are as many as processes.
    """

    def __init__(self, size: int = 0, *, max_jobs: int = 0, max_memory: int = 0, level: int = logging.INFO) -> None:
        self.places = Places(size or _cores())
        self._max_jobs = max_jobs
        self._max_memory = max_memory
        self._level = level
        self._idle: list[Process] = []
        self._all: set[Process] = set()
        self._ending: set[asyncio.Task[None]] = set()

    @classmethod
    def by_settings(cls, settings: Settings) -> ProcessPool:
        """Return a pool as the settings say."""
        return cls(
            settings.compute_processes,
            max_jobs=settings.compute_max_jobs,
            max_memory=settings.compute_max_memory,
            level=logging.getLevelNamesMapping()[settings.log_level],
        )

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a function in a process, and return what it returns or raise what it raises.

        Cancelling takes back a call that has not started, and kills the process of one that has.

        Raises:
            ConfigurationError: the function or an argument cannot be sent to a process.
            ProcessLost: the process died.
        """
        call = RunCall(_packed(function, args, kwargs))
        name = _name(function)
        await self.places.enter()
        started = time.perf_counter()
        try:
            process = await self.take(_needed(function))
            try:
                value: R = pickle.loads(await process.run(call, name))  # noqa: S301 - from a process of ours
            except RaisedInside as raised:
                raised.error.add_note(f"\nIn the process:\n{raised.traceback.rstrip()}")
                self.give_back(process)
                raise raised.error from raised.error.__cause__
            except BaseException:
                self.kill(process, name)
                raise
            self.give_back(process)
            return value
        finally:
            self.places.leave(time.perf_counter() - started)

    async def run_task(self, process: Process, frame: RunTask, context: Context) -> bytes:
        """Run a task in a process that was taken for it; return its result as msgpack.

        Raises:
            RaisedInside: it raised.
            ProcessLost: the process died.
        """
        # A soft timeout, or a worker that is asked to stop, is told to what runs; it may look.
        telling = asyncio.ensure_future(_telling(process, context))
        try:
            return await process.run(frame, f"the task {frame.task}", context)
        finally:
            telling.cancel()

    async def take(self, prepare: Prepare | None = None) -> Process:
        """Return a process that has imported what it will run; for who holds a place.

        Cancelling kills a process that is still importing.

        Raises:
            RaisedInside: importing it raised.
            ProcessLost: no process can be had, or it dies of that.
        """
        while True:
            known = self._idle_one(prepare)
            process = known or await self._start()
            try:
                if prepare is not None and (prepare.task or prepare.module) not in process.prepared:
                    async with asyncio.timeout(_SECONDS_TO_PREPARE):
                        await process.prepare(prepare)
                    process.prepared.add(prepare.task or prepare.module)
            except RaisedInside:
                self.give_back(process)
                raise
            except TimeoutError:
                self.kill(process, "not ready")
                raise ProcessLost(
                    f"a process did not get ready within {_SECONDS_TO_PREPARE:g} s: importing "
                    f"{prepare.module if prepare else ''} takes longer, or hangs"
                ) from None
            except ProcessLost:
                self._let_go(process)
                if known is None:
                    raise
            except BaseException:
                self.kill(process, "not ready")
                raise
            else:
                return process

    def has(self, process: Process) -> bool:
        """Whether a process that was taken is still there."""
        return process in self._all

    def give_back(self, process: Process) -> None:
        """Take back a process that has done its work; one that has had enough is replaced when there is need."""
        if process not in self._all:
            return
        if self._max_jobs and process.jobs >= self._max_jobs:
            self._dismiss(process, f"it has had {process.jobs} jobs (BARQUE_COMPUTE_MAX_JOBS)")
        elif self._max_memory and process.memory > self._max_memory:
            self._dismiss(process, f"it holds {process.memory:,} bytes (BARQUE_COMPUTE_MAX_MEMORY)")
        else:
            self._idle.append(process)

    def kill(self, process: Process, what: str) -> None:
        """Kill a process, and nothing of it stays; one that has died by itself is let go.

        Args:
            what: names what it did, for the log.
        """
        if process in self._all:
            log.info("process_killed", pid=process.pid, what=what, jobs=process.jobs)
        process.kill()
        self._let_go(process)

    async def close(self) -> None:
        """End the processes; work that is still going on is nobody's any more, and is killed."""
        idle, self._idle = self._idle, []
        for process in self._all.difference(idle):
            process.kill()
        for process in idle:
            process.dismiss()
        every, self._all = self._all, set()
        for process in every:
            self._see_off(process, patience=_SECONDS_TO_END)
        if self._ending:
            await asyncio.wait(self._ending, timeout=2 * _SECONDS_TO_END)

    def _idle_one(self, prepare: Prepare | None) -> Process | None:
        """Return an idle process, one that knows the module if there is one, the last one used if not."""
        for process in [process for process in self._idle if not process.is_alive]:
            self._idle.remove(process)
            process.kill()
            self._let_go(process)
        if not self._idle:
            return None
        wanted = prepare and (prepare.task or prepare.module)
        found = next((process for process in reversed(self._idle) if wanted in process.prepared), self._idle[-1])
        self._idle.remove(found)
        return found

    async def _start(self) -> Process:
        process = await Process.start(self._level)
        self._all.add(process)
        return process

    def _dismiss(self, process: Process, why: str) -> None:
        log.info("process_replaced", pid=process.pid, why=why)
        process.dismiss()
        self._all.discard(process)
        self._see_off(process, patience=_SECONDS_TO_END)

    def _let_go(self, process: Process) -> None:
        if process in self._all:
            self._all.discard(process)
            self._see_off(process, patience=0)

    def _see_off(self, process: Process, patience: float) -> None:
        """Wait for its end without holding anybody up, so that no dead process stays in the system's table."""

        async def see_off() -> None:
            ended = asyncio.ensure_future(process.ended())
            await asyncio.wait({ended}, timeout=patience)
            process.kill()
            await ended

        task = asyncio.ensure_future(see_off())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


async def _telling(process: Process, context: Context) -> None:
    await context.stopping
    process.tell(context)


@lifespan(lazy=True)
async def processes(resources: Resources) -> AsyncIterator[ProcessPool]:
    """Make the worker's pool of processes, on its first use; one its tasks declare is there, and closed here."""
    pool = resources.state.get(POOL) or ProcessPool.by_settings(settings_for_process())
    try:
        yield pool
    finally:
        await pool.close()


async def run_in_process(ctx: Context, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a CPU-bound function in another process, while the event loop goes on.

        @task
        async def render(ctx: Context, report: str) -> bytes:
            return await run_in_process(ctx, draw_pages, report)

    Worth it from some milliseconds of work; below that, sending costs more. How many run at once:
    `BARQUE_COMPUTE_PROCESSES`. A task that does nothing else is simpler as a `def` with `@task(cpu=True)`.

    Cancelling it (a timeout, an abort, a worker that leaves) takes back a call that waits for a process, and kills
    the process of one that runs, with all it has started; the others go on.

    Args:
        ctx: the task's own context; the processes are the worker's, shared by its tasks.
        function: a function at the top level of a module; the process imports that module.
        *args: pickled on the way, as is what the function returns.
        **kwargs: likewise.

    Raises:
        ConfigurationError: the function or an argument cannot be sent to a process.
        ProcessLost: the process died; let it rise, and the job is tried again.
    """
    pool = await ctx.open(processes)
    return await pool.run(function, *args, **kwargs)


def prepare_for(module: str, task: str | None = None) -> Prepare:
    """Return what has a process import a module, be it the program's own main one."""
    main: dict[str, str] = {}
    if module == "__main__":
        from multiprocessing import spawn  # noqa: PLC0415 - rarely needed

        data = spawn.get_preparation_data("")
        main = {name: value for name, value in data.items() if name.startswith("init_main")}
    return Prepare(module, main, task)


def _needed(function: Callable[..., Any]) -> Prepare | None:
    """Return what a process must import before it can unpack a function; most it finds by itself."""
    return prepare_for("__main__") if getattr(function, "__module__", "") == "__main__" else None


def _packed(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return the call as bytes, or say what of it cannot be sent."""
    try:
        pickle.dumps(function)
    except Exception:
        raise ConfigurationError(
            f"{_name(function)} cannot be sent to a process: give a function at the top level of a module"
        ) from None
    try:
        return pickle.dumps((function, args, kwargs))
    except Exception as error:
        raise ConfigurationError(
            f"an argument of {_name(function)} cannot be sent to a process ({type(error).__name__})"
        ) from None


def _cores() -> int:
    # What this process may use, which in a container is less than the machine has; macOS cannot say.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)
