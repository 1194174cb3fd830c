"""Threads for what has no asynchronous way: files, name look-ups, `asyncio.to_thread`, tasks that are a plain `def`.

Owns the pool a worker process gives its event loop, and that under workers/task_threads.py. Differs from the standard
one in one thing: a process that ends does not wait for a thread that is still busy, for a worker told to stop has
already given that thread's job back.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

__all__ = ["IoThreads"]

P = ParamSpec("P")
T = TypeVar("T")

_MOST = 32
"""The event loop's own default is a handful: file work of a hundred jobs would queue behind it."""


class IoThreads(ThreadPoolExecutor):
    """At most so many threads, started as they are needed; daemons all, called by `name` and a number.

    It is a ThreadPoolExecutor since an event loop takes no other; what that does is replaced whole.
    """

    def __init__(self, most: int = _MOST, name: str = "barque-io") -> None:
        super().__init__(most)
        self._most = most
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], None]] | None] = queue.SimpleQueue()
        self._free = threading.Semaphore(0)
        self._started = 0
        self._closed = False
        self._gate = threading.Lock()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in one of the threads.

        Raises:
            RuntimeError: the pool was shut down.
        """
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._gate:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._calls.put((future, call))
            if not self._free.acquire(blocking=False) and self._started < self._most:
                self._started += 1
                name = f"{self._name}-{self._started}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Take no more calls and end each thread after its own; never waits, whatever `wait` says."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            started = self._started
        while cancel_futures:
            try:
                waiting = self._calls.get_nowait()
            except queue.Empty:
                break
            if waiting is not None:
                waiting[0].cancel()
        for _ in range(started):
            self._calls.put(None)

    def _run(self) -> None:
        while True:
            waiting = self._calls.get()
            if waiting is None:
                return
            waiting[1]()
            del waiting  # what it returned is not to live until the next call
            self._free.release()
