"""Tasks that are a plain `def`: each attempt runs in a thread, so that the event loop goes on.

Owns the threads, what an attempt in one is told when it is to stop, and what becomes of a thread whose attempt ended
without it: no thread can be killed. Such a thread is named in the log and its place made up for by another thread, as
often as there are places; after that each takes a place with it. How many run at once is places.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog

from common.context import Context
from common.resources import Resource
from workers.io_threads import IoThreads
from workers.places import Places

__all__ = ["TaskThreads", "ThreadContext"]

log = structlog.get_logger("barque.threads")

_SECONDS_TO_STOP = 0.9
"""For a thread that is told to stop; shorter than what the executor waits before it cancels once more."""

_MOST_FRAMES = 30

_NONE_LEFT = (
    "every thread of this worker (BARQUE_THREADS, and as many again) is held by a plain `def` task that was told to "
    "stop and runs on. Give what it calls a timeout, call ctx.check() in its loops, or declare it @task(cpu=True), "
    "whose process can be killed; and restart this worker"
)


class ThreadContext(Context):
    """The Context of an attempt in a thread: the event loop tells it to stop, the thread sees it."""

    __slots__ = ("_loop", "_told")

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._told = False
        self._loop = asyncio.get_running_loop()

    @property
    def cancelled(self) -> bool:
        """Whether the function is to stop."""
        return self._told

    def tell_to_stop(self) -> None:
        """Have `cancelled` be true from now on."""
        self._told = True

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far this job is, from the thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know
            self._loop.call_soon_threadsafe(super().progress, done, total, message)

    def emit_now(self, item: Any) -> None:
        """Add an item to this job's stream, from the thread."""
        asyncio.run_coroutine_threadsafe(self.emit(item), self._loop).result()


class TaskThreads:
    """Threads for so many attempts at once; none is started before there is one.

    Attributes:
        places: what an attempt takes before `run`, and gives back after it.
    """

    def __init__(self, size: int) -> None:
        self.places = Places(size, _NONE_LEFT)
        self._size = size
        self._threads: IoThreads | None = None
        self._busy: set[_Call] = set()
        self._while_worker_runs: Resource[IoThreads] = Resource(self._open, lazy=True, opens_within=60, closes_within=5)

    async def run(self, function: Callable[..., Any], context: ThreadContext, /, *args: Any, **kwargs: Any) -> Any:
        """Run a function in a thread; return what it returns or raise what it raises.

        Cancelling tells the function so (`ctx.cancelled`, `ctx.check()`) and waits for it a little. What it returns
        or raises in that time counts; after that this ends and the thread goes on by itself.
        """
        threads = self._threads
        if threads is None:
            threads = await context.open(self._while_worker_runs)
        call = _Call(function, context, args, kwargs)
        threads.submit(call.run)
        try:
            await asyncio.wait({call.ended})
        except asyncio.CancelledError:
            context.tell_to_stop()
            try:
                await asyncio.wait({call.ended}, timeout=_SECONDS_TO_STOP)
            finally:
                if not call.ended.done():
                    self._leave_behind(call)
            if not call.ended.done():
                raise
        return call.outcome()

    async def _open(self) -> AsyncIterator[IoThreads]:
        """Have threads until the worker ends; nobody waits for those that are busy then."""
        # Twice as many as there are places: as many may be lost to functions that never end.
        self._threads = IoThreads(2 * self._size, "barque-task")
        try:
            yield self._threads
        finally:
            self._threads.shutdown(wait=False)
            self._threads = None

    def _leave_behind(self, call: _Call) -> None:
        """Count the thread as busy until its function ends, and find a place for others meanwhile."""
        self._busy.add(call)
        lost = len(self._busy) > self._size
        if lost:
            self.places.close_one()
        call.ended.add_done_callback(lambda _: self._came_back(call, lost=lost))
        context = call.context
        say = log.warning if self.places.size > 0 else log.error
        say(
            "thread_still_busy",
            job_id=context.job_id,
            task=context.task,
            attempt=context.attempt,
            thread=call.thread_name,
            busy=len(self._busy),
            places=self.places.size,
            stack=call.stack(),
        )

    def _came_back(self, call: _Call, *, lost: bool) -> None:
        self._busy.discard(call)
        if lost:
            self.places.open_one()
        context = call.context
        log.info(
            "thread_came_back",
            job_id=context.job_id,
            task=context.task,
            attempt=context.attempt,
            thread=call.thread_name,
            busy=len(self._busy),
            seconds=round(time.monotonic() - call.begun, 1),
        )


class _Call:
    """One function in one thread, and how it ended.

    Attributes:
        ended: done when the function has ended, with nothing in it: a Future takes no StopIteration.
        begun: when, in `time.monotonic()`.
    """

    def __init__(
        self, function: Callable[..., Any], context: ThreadContext, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.context = context
        self.thread_name = ""
        self.begun = time.monotonic()
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._variables = contextvars.copy_context()
        self._thread: int | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def run(self) -> None:
        """Run it, in the thread."""
        self._thread, self.thread_name = threading.get_ident(), threading.current_thread().name
        try:
            self._value = self._variables.run(self._function, self.context, *self._args, **self._kwargs)
        except BaseException as error:  # SystemExit too: it is the job's, and ends neither the thread nor the worker
            self._error = error
        self._thread = None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know
            self._loop.call_soon_threadsafe(self._end)

    def outcome(self) -> Any:
        """Return what the function returned or raise what it raised.

        Raises:
            TypeError: it returned a coroutine.
        """
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # with its traceback it would hold this frame, and so itself
        if inspect.iscoroutine(self._value):
            self._value.close()
            raise TypeError(
                f"{self.context.task} is a plain `def` and returned a coroutine, which nothing would run: write "
                "`async def`, or return a value"
            )
        return self._value

    def stack(self) -> str:
        """Return where the function stands: places in the code alone, no values."""
        # A thread that has ended meanwhile may have given its number to another; then nothing is shown.
        frame = sys._current_frames().get(self._thread or 0)  # noqa: SLF001 - documented, for exactly this
        return "".join(traceback.format_stack(frame)[-_MOST_FRAMES:]) if frame is not None else ""

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
