"""Processes for work that would hold the event loop: CPU-bound Python.

Owns the one pool of a worker and `run_in_process`, the way into it. The pool starts with the first call,
starts processes as they are needed, and is rebuilt when a process dies.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ParamSpec, TypeVar

from common import Context
from common.errors import BarqueError, ConfigurationError
from common.resources import lifespan
from common.settings import settings_for_process

__all__ = ["ProcessLost", "ProcessPool", "processes", "run_in_process"]

P = ParamSpec("P")
R = TypeVar("R")

_SECONDS_TO_END = 2.0


class ProcessLost(BarqueError):
    """A process died at work (out of memory, most often). Retried, in a new process."""


class ProcessPool:
    """Processes that run functions, one at a time each.

    Args:
        size: processes at most; 0 means one for each core.
    """

    def __init__(self, size: int = 0) -> None:
        self._size = size or _cores()
        self._executor: concurrent.futures.ProcessPoolExecutor | None = None

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a function in a process, and return what it returns or raise what it raises.

        Cancelling takes back a call that has not started. One that has goes on to its end in its process,
        and nobody gets its result: Python has no way to stop it that would not take its neighbours along.

        Raises:
            ConfigurationError: the function or an argument cannot be sent to a process.
            ProcessLost: the process died.
        """
        call = _packed(function, args, kwargs)
        executor = self._running()
        try:
            result: R = await asyncio.wrap_future(executor.submit(_run_packed, call))
        except BrokenProcessPool:
            # All calls of a pool fail with the one whose process died. The first to get here makes
            # room for a new pool; the others find it made.
            if self._executor is executor:
                self._executor = None
                await _end(executor)
            raise ProcessLost(
                f"a process died while {_name(function)} or a neighbour ran; out of memory is the usual cause"
            ) from None
        return result

    async def close(self) -> None:
        """End the processes; work that is still going on is nobody's any more, and is killed."""
        executor, self._executor = self._executor, None
        if executor is not None:
            await _end(executor)

    def _running(self) -> concurrent.futures.ProcessPoolExecutor:
        if self._executor is None:
            self._executor = concurrent.futures.ProcessPoolExecutor(
                self._size,
                # A fork would copy a process with threads and an event loop in it, locks in any state.
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_process,
            )
        return self._executor


@lifespan(lazy=True)
async def processes() -> AsyncIterator[ProcessPool]:
    """Make the worker's pool of processes, on its first use."""
    pool = ProcessPool(settings_for_process().compute_processes)
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
    `BARQUE_COMPUTE_PROCESSES`.

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


async def _end(executor: concurrent.futures.ProcessPoolExecutor) -> None:
    # The executor has no way to kill its processes before Python 3.14, and shutdown forgets them.
    processes = list((executor._processes or {}).values())  # noqa: SLF001
    await asyncio.to_thread(_end_processes, executor, processes)


def _end_processes(executor: concurrent.futures.ProcessPoolExecutor, processes: list[Any]) -> None:
    patience = threading.Timer(_SECONDS_TO_END, _kill, (processes,))
    patience.daemon = True
    patience.start()
    try:
        executor.shutdown(wait=True, cancel_futures=True)
    finally:
        patience.cancel()
        patience.join()


def _kill(processes: list[Any]) -> None:
    for process in processes:
        try:
            process.kill()
        except ValueError:  # closed: it has ended by itself
            continue


def _packed(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return the call as bytes; the pool itself would not say what of it cannot be sent."""
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


def _run_packed(call: bytes) -> Any:
    """Run a call, inside a process of the pool.

    What cannot be unpacked on either side would break the pool, and fail the calls of all neighbours.
    """
    function, args, kwargs = pickle.loads(call)  # noqa: S301 - made by this worker, a moment ago
    try:
        return function(*args, **kwargs)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - likewise
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        raise


def _cores() -> int:
    # What this process may use, which in a container is less than the machine has; macOS cannot say.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


def _start_process() -> None:
    """Prepare a process of the pool, inside it."""
    # Ctrl-C reaches the whole group; the worker decides what ends, and its processes end with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_worker, name="barque-parent-watch", daemon=True).start()


def _end_with_the_worker() -> None:
    # A worker that is killed closes no pool, and its processes would wait for calls for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
