"""What a task receives as its first argument.

Owns the `Context` a `@task` function sees. Plain arq coroutines get arq's dict instead; the
executor builds that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, overload

import structlog

from common.errors import ConfigurationError
from common.resources import Resource
from common.stopping import Lifetime, Stopping

if TYPE_CHECKING:
    from common.progress import Outlet, Progress

__all__ = ["Context"]

T = TypeVar("T")


class Context:
    """One attempt, seen from inside the task.

    `ctx[resource]` is what a `@lifespan` function opened; any other key is looked up in `state`.

    Args:
        resources: what stands in for resources, in a test: `Context(resources={http: fake})`.
        lifetime: the time of the attempt, as its worker knows it.

    Attributes:
        job_id: the job's id.
        task: the task's name.
        queue: the queue it was taken from.
        attempt: the number of this attempt, from 1.
        max_attempts: the cap; `ctx.attempt == ctx.max_attempts` is the last chance.
        worker: the id of the worker that runs it ("" outside a worker).
        metadata: what the producer attached with `metadata=`.
        state: the worker's own dict, shared by all its tasks: what `on_startup` put there, and
            what arq calls `ctx` (so `ctx["redis"]` works too).
        enqueued_ms: Unix milliseconds at which the job was enqueued.
    """

    __slots__ = (
        "_log",
        "_outlet",
        "_outlets",
        "attempt",
        "enqueued_ms",
        "job_id",
        "lifetime",
        "max_attempts",
        "metadata",
        "queue",
        "state",
        "task",
        "worker",
    )

    def __init__(
        self,
        *,
        job_id: str = "",
        task: str = "",
        queue: str = "",
        attempt: int = 1,
        max_attempts: int = 1,
        worker: str = "",
        enqueued_ms: int = 0,
        metadata: Mapping[str, Any] | None = None,
        state: dict[Any, Any] | None = None,
        resources: Mapping[Resource[Any], Any] | None = None,
        outlets: Callable[[Context], Outlet] | None = None,
        lifetime: Lifetime | None = None,
    ) -> None:
        if lifetime is None:
            lifetime = Lifetime()
        if state is None:
            state = {}
        if resources is not None:
            state = {**state, **resources}
        self._fill(job_id, task, queue, attempt, max_attempts, worker, enqueued_ms, metadata, state, outlets, lifetime)

    def _fill(
        self,
        job_id: str,
        task: str,
        queue: str,
        attempt: int,
        max_attempts: int,
        worker: str,
        enqueued_ms: int,
        metadata: Mapping[str, Any] | None,
        state: dict[Any, Any],
        outlets: Callable[[Context], Outlet] | None,
        lifetime: Lifetime,
    ) -> None:
        """Be what these say: the whole of `__init__` for a worker, for whom keywords would cost four times as much."""
        self.job_id = job_id
        self.task = task
        self.queue = queue
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.worker = worker
        self.enqueued_ms = enqueued_ms
        self.metadata: Mapping[str, Any] = {} if metadata is None else metadata
        self.state = state
        self.lifetime = lifetime
        self._log: Any = None
        self._outlets = outlets
        self._outlet: Outlet | None = None

    @overload
    def __getitem__(self, key: Resource[T]) -> T: ...

    @overload
    def __getitem__(self, key: Any) -> Any: ...

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.state[key]
        except KeyError:
            if not isinstance(key, Resource):
                raise
            raise ConfigurationError(_not_open(key)) from None

    async def open(self, resource: Resource[T]) -> T:
        """Return what a resource's function yielded; one that is lazy is opened now, once for the whole worker.

        Raises:
            ResourceFailed: it could not be opened; the next attempt tries again.
        """
        try:
            opened: T = self.state[resource]
        except KeyError:
            # Imported here: most programs that import a Context open nothing.
            from common.open_resources import keeper_of  # noqa: PLC0415

            opened = await keeper_of(self.state).opened(resource)
        return opened

    def __repr__(self) -> str:
        return f"<Context {self.task} {self.job_id} attempt {self.attempt}/{self.max_attempts}>"

    @property
    def enqueued_at(self) -> datetime:
        """When the job was enqueued, by the producer's clock, in UTC."""
        return datetime.fromtimestamp(self.enqueued_ms / 1000, tz=UTC)

    @property
    def cancelled(self) -> bool:
        """Whether a plain `def` is to stop: it timed out, was aborted, lost its lease, or its worker leaves.

        Always False in an `async def`, which is told by a `CancelledError`, and in a process, which is killed.
        """
        return False

    def check(self) -> None:
        """End a plain `def` that is to stop; call it wherever that is a good place to stop at.

        Raises:
            asyncio.CancelledError: it is to stop. No `Exception`, so that no `except Exception` keeps it.
        """
        if self.cancelled:
            raise asyncio.CancelledError(f"{self.task}: attempt {self.attempt} is to stop")

    @property
    def time_left(self) -> float | None:
        """Seconds until this attempt is stopped: by its timeout, its job's deadline or its worker's end; None is never.

        `async with asyncio.timeout(ctx.time_left - 5):` leaves five seconds to tidy up in.
        """
        return self.lifetime.time_left

    @property
    def stopping(self) -> Stopping:
        """Whether the task is to come to an end by itself: its soft timeout has passed, or its worker stops.

        A flag (`if ctx.stopping:`), an awaitable, and a limit for a block (`async with ctx.stopping.limit():`).
        """
        return self.lifetime.stopping

    @property
    def log(self) -> structlog.typing.FilteringBoundLogger:
        """A structlog logger bound to this job: every line carries its id, task and attempt."""
        # Bound on first use: most attempts log nothing of their own, and binding costs microseconds.
        if self._log is None:
            self._log = structlog.get_logger("barque.task").bind(
                job_id=self.job_id, task=self.task, attempt=self.attempt, worker=self.worker
            )
        logger: structlog.typing.FilteringBoundLogger = self._log
        return logger

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far this job is; `await job.progress()`, `job.watch()` and `barque status` show it.

        Costs a fraction of a microsecond: call it as often as there is something to say. The first one and the last
        go out for certain, of those in between the latest, some times a second. It never fails a task: what cannot
        be sent is logged, and while the server is away the latest value waits.

        Args:
            done: how much is done, in whatever unit.
            total: how much there is to do, if that is known.
            message: a line for people, cut at 1,000 characters. It is stored: no secrets.
        """
        outlet = self._outlet
        if outlet is None:
            outlet = self._open_outlet()
        outlet.progress(done, total, message)

    async def emit(self, item: Any) -> None:
        """Add an item to this job's stream, which `async for item in job.stream()` reads, live and from the start.

        Returns at once while few items wait to be sent, else when there is room again: as fast as the server takes
        them. What was emitted is on the server before the job's outcome is. If this attempt is tried again, the next
        one's first item begins the stream anew.

        Raises:
            NotSerializable: it has no form on the wire.
            PayloadTooLarge: it is over `BARQUE_STREAM_MAX_ITEM_BYTES`.
            StreamFull: the stream has all it may have.
            RedisUnavailable: the server refuses items of this job.
        """
        outlet = self._outlet
        if outlet is None:
            outlet = self._open_outlet()
        await outlet.emit(item)

    def emit_now(self, item: Any) -> None:
        """Do what `emit` does from a plain `def`, where nothing can be awaited: return when there was room.

        Raises:
            RuntimeError: an `async def` would have to wait, and would hold up its event loop: `await ctx.emit(item)`.
        """
        emitting = self.emit(item)
        try:
            emitting.send(None)
        except StopIteration:
            return
        emitting.close()
        raise RuntimeError(f"{self.task}: emit_now is for a plain `def`; write `await ctx.emit(item)`")

    @property
    def progress_made(self) -> list[Progress]:
        """Every progress so far, for a test that awaits the task's function with a `Context()`; empty in a worker."""
        return getattr(self._outlet, "progress_made", [])

    @property
    def emitted(self) -> list[Any]:
        """Every item so far, for a test that awaits the task's function with a `Context()`; empty in a worker."""
        return getattr(self._outlet, "items", [])

    def _open_outlet(self) -> Outlet:
        from common.progress import Collected  # noqa: PLC0415 - most programs and tasks use none of it

        self._outlet = outlet = Collected(self.attempt) if self._outlets is None else self._outlets(self)
        return outlet


def _not_open(resource: Resource[Any]) -> str:
    if resource.lazy:
        return f"{resource!r} is lazy: write `await ctx.open({resource.name})`"
    return (
        f"{resource!r} is not open here. In a worker: Worker(…, lifespans=[{resource.name}]), or define it in a module "
        f"of BARQUE_TASKS. In a test: Context(resources={{{resource.name}: fake}}), or the same to a Sandbox"
    )
