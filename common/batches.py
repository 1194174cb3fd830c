"""Tasks whose function takes many jobs at once: `@task(batch=100)` makes a `BatchTask`, which runs in a `BatchContext`.

Owns how the function's signature, of a list, becomes that of one call. Which jobs come together when, is
workers/batch_runs.py's.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Never, TypeVar

import structlog

from common.arguments import ArgumentReader, hints_of, return_reader
from common.context import Context
from common.errors import ConfigurationError
from common.resources import Resource
from common.stopping import Lifetime
from common.tasks import Task, TaskOptions
from common.values import ValueReader

__all__ = ["BatchContext", "BatchTask"]

T = TypeVar("T")
R = TypeVar("R")

_LARGEST = 10_000
_WITHIN = 0.1
_LONGEST = 600.0
_LISTS = {list, Sequence, Collection, Iterable}
_SHAPE = "write `async def insert(ctx: BatchContext, rows: list[Row]) -> list[Out]`"
_Kind = inspect.Parameter


class BatchContext(Context):
    """One run of a batch, seen from inside its function.

    `ctx[resource]`, `ctx.state`, `ctx.worker` and `ctx.task` are as in any task's context; what is one job's is in
    the contexts of the jobs.

    Attributes:
        jobs: the context of each job, in the order of the items: `ctx.jobs[0].job_id` is the first item's.
    """

    __slots__ = ("jobs",)

    def __init__(
        self,
        *,
        jobs: Sequence[Context] = (),
        task: str = "",
        worker: str = "",
        state: dict[Any, Any] | None = None,
        resources: Mapping[Resource[Any], Any] | None = None,
        lifetime: Lifetime | None = None,
    ) -> None:
        super().__init__(task=task, worker=worker, state=state, resources=resources, lifetime=lifetime)
        self.jobs = tuple(jobs)

    def __repr__(self) -> str:
        return f"<BatchContext {self.task} of {len(self.jobs)} job(s)>"

    @property
    def log(self) -> structlog.typing.FilteringBoundLogger:
        """A structlog logger bound to this run: every line carries the task and the number of jobs."""
        if self._log is None:
            self._log = structlog.get_logger("barque.task").bind(
                task=self.task, batch=len(self.jobs), worker=self.worker
            )
        logger: structlog.typing.FilteringBoundLogger = self._log
        return logger

    def _open_outlet(self) -> Never:
        raise ConfigurationError(f"{self.task}: progress and items are of one job each: ctx.jobs[i].progress(…)")


class BatchTask(Task[[T], R]):
    """A Task whose function takes the items of many jobs; calling the Task takes one item.

    Attributes:
        function: the coroutine function, to await it directly: `await insert.function(BatchContext(), [row, row])`.
        signature: of one call: the context, and one item.
        within: seconds a job waits for others of its batch, at the most.
    """

    function: Callable[  # type: ignore[assignment]  # what differs is what this class is for
        [BatchContext, list[T]], Coroutine[Any, Any, Sequence[R | BaseException] | None]
    ]

    def __init__(self, function: Callable[..., Any], name: str, options: TaskOptions) -> None:
        self.within = _WITHIN if options.within is None else options.within
        _check(options, self.within, f"@task(batch=…) on {name!r}")
        super().__init__(function, name, options)
        parameters = list(self.signature.parameters.values())
        if len(parameters) != 2 or any(
            p.kind not in {_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD} or p.default is not _Kind.empty
            for p in parameters
        ):
            raise ConfigurationError(
                f"@task(batch=…) on {name!r}: it takes the context and a list of items, and nothing else; {_SHAPE}. "
                "Where a call needs several values, make one of them: a dataclass, a tuple"
            )
        self.signature = inspect.Signature([p.replace(kind=_Kind.POSITIONAL_ONLY) for p in parameters])
        self._fewest = self._most = 1

    @functools.cached_property
    def arguments(self) -> ArgumentReader:
        """What decodes and checks one item; built on first use, once."""
        return ArgumentReader(self._of_one, self.name)

    @functools.cached_property
    def result(self) -> ValueReader:
        """What decodes the result of one item; built on first use, once."""
        return return_reader(self._of_one, self.name)

    @functools.cached_property
    def _of_one(self) -> Callable[..., Any]:
        """A function with the signature of one call, for those who read signatures; it is never called."""
        hints = hints_of(self.function, self.name)
        context, items = self.signature.parameters
        item = self._element(hints.get(items, Any), f"its parameter {items!r} receives the items of the batch")
        outcome = self._outcome(hints.get("return", Any))

        def one() -> None: ...

        one.__annotations__ = {context: Context, items: item, "return": outcome}
        one.__signature__ = self.signature  # type: ignore[attr-defined]  # inspect looks for it
        return one

    def _element(self, annotation: Any, what: str) -> Any:
        if annotation is Any:
            return Any
        origin = typing.get_origin(annotation) or annotation
        arguments = typing.get_args(annotation)
        if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
            return arguments[0]
        if origin not in _LISTS:
            raise ConfigurationError(f"task {self.name!r}: {what}: annotate it as a list; {_SHAPE}")
        return arguments[0] if arguments else Any

    def _outcome(self, annotation: Any) -> Any:
        """Return what one job returns: an element of the list, exceptions aside, for those fail their jobs."""
        if annotation in {None, type(None)}:
            return None
        parts = _parts(annotation)
        lists = [part for part in parts if part is not type(None)]  # `list[Out] | None`
        if len(lists) != 1:
            raise ConfigurationError(f"task {self.name!r}: it returns one outcome for each item: a list; {_SHAPE}")
        kinds = _parts(self._element(lists[0], "it returns one outcome for each item"))
        values = [kind for kind in kinds if not (isinstance(kind, type) and issubclass(kind, BaseException))]
        if len(lists) < len(parts) and type(None) not in values:
            values.append(type(None))
        return typing.Union[tuple(values)] if values else None  # noqa: UP007 - of a number not known before


def _check(options: TaskOptions, within: float, said: str) -> None:
    """Raise if the options of a batch make no sense."""
    if type(options.batch) is not int or not 1 <= options.batch <= _LARGEST:
        raise ConfigurationError(f"{said}: batch={options.batch!r}: give a number of jobs, 1 to {_LARGEST:,}")
    if not 0 <= within <= _LONGEST:
        raise ConfigurationError(
            f"{said}: within={within!r}: give seconds, from 0 to {_LONGEST:g}; each of its jobs holds a slot "
            "and a lease while it waits"
        )
    if options.timeout is not None and options.timeout <= within:
        raise ConfigurationError(
            f"{said}: timeout={options.timeout:g}, within={within:g}: a job waits for others within its timeout"
        )


def _parts(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or what is no union as the one member it is."""
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        return typing.get_args(annotation)
    return (annotation,)
