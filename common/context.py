"""What a task receives as its first argument.

Owns the `Context` a `@task` function sees. Plain arq coroutines get arq's dict instead; the
executor builds that.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar, overload

import structlog

from common.errors import ConfigurationError
from common.resources import Resource

__all__ = ["Context"]

T = TypeVar("T")


class Context:
    """One attempt, seen from inside the task.

    `ctx[resource]` is what a `@lifespan` function opened; any other key is looked up in `state`.

    Args:
        resources: what stands in for resources, in a test: `Context(resources={http: fake})`.

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
        "attempt",
        "enqueued_ms",
        "job_id",
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
    ) -> None:
        self.job_id = job_id
        self.task = task
        self.queue = queue
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.worker = worker
        self.enqueued_ms = enqueued_ms
        self.metadata: Mapping[str, Any] = metadata if metadata is not None else {}
        self.state: dict[Any, Any] = state if state is not None else {}
        if resources is not None:
            self.state = {**self.state, **resources}
        self._log: Any = None

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
    def log(self) -> structlog.typing.FilteringBoundLogger:
        """A structlog logger bound to this job: every line carries its id, task and attempt."""
        # Bound on first use: most attempts log nothing of their own, and binding costs microseconds.
        if self._log is None:
            self._log = structlog.get_logger("barque.task").bind(
                job_id=self.job_id, task=self.task, attempt=self.attempt, worker=self.worker
            )
        logger: structlog.typing.FilteringBoundLogger = self._log
        return logger


def _not_open(resource: Resource[Any]) -> str:
    if resource.lazy:
        return f"{resource!r} is lazy: write `await ctx.open({resource.name})`"
    return (
        f"{resource!r} is not open here. In a worker: Worker(…, lifespans=[{resource.name}]), or define it in a module "
        f"of BARQUE_TASKS. In a test: Context(resources={{{resource.name}: fake}})"
    )
