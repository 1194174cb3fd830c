"""What `@task` makes of a function: a `Task`; and what calling a Task makes: a `Call`.

Owns the registry of tasks by name. Knows nothing of Redis or of how a job is run. As calling an
`async def` gives a coroutine that runs only once scheduled, calling a Task gives a Call that runs only
once enqueued.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NoReturn, ParamSpec, Protocol, TypeVar, overload

from common.arguments import ArgumentReader, return_reader
from common.context import Context
from common.errors import ConfigurationError, DuplicateTask
from common.fairness import FairArgument
from common.limits import Limit, check_limits
from common.middleware import Middleware, true_middleware
from common.priorities import Priority, read_priority
from common.retry import RetryPolicy, read_policy
from common.task_functions import is_plain, read_keep_logs, read_queue
from common.uniqueness import Uniqueness, check_key, check_uniqueness
from common.values import ValueReader

if TYPE_CHECKING:
    from common.batches import BatchContext, BatchTask
    from common.schedules import Schedule

__all__ = ["Call", "PlainTask", "Task", "TaskOptions", "import_tasks", "registered_tasks", "task"]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_LONGEST = 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What a task says of itself; None takes the worker's setting.

    Attributes:
        queue: the queue its jobs go to.
        timeout: seconds one attempt may take.
        soft_timeout: seconds after which an attempt is told to come to an end; None does not tell.
        deadline: seconds a job may take, all its attempts together, from when it is first due; None is no limit.
        retry: which failures are tried again, and when.
        keep_result: seconds its results are kept; 0 keeps none.
        unique: when two of its jobs are the same one, and what is done then.
        middleware: what goes around each attempt, the outermost first, inside of the worker's own.
        priority: of its jobs, from 0 to 9.
        limits: what its jobs are held to across the fleet.
        batch: jobs its function takes at once, at the most; None takes one.
        within: seconds a job waits for others of its batch, at the most.
        cpu: it runs in a process of its own beside the worker's.
        fair_key: the argument that says whose a job is, where tenants are to take turns.
        keep_logs: lines of each attempt that are kept with the job.
    """

    queue: str | None = None
    timeout: float | None = None
    soft_timeout: float | None = None
    deadline: float | None = None
    retry: RetryPolicy = RetryPolicy()
    keep_result: float | None = None
    unique: Uniqueness | None = None
    middleware: tuple[Middleware, ...] = ()
    priority: int = 0
    limits: tuple[Limit, ...] = ()
    batch: int | None = None
    within: float | None = None
    cpu: bool = False
    fair_key: str | None = None
    keep_logs: int | None = None


class Call(Generic[R_co]):
    """A task with its arguments bound; not yet anywhere. Hand it to a Producer.

    `fetch_url("https://…")` makes a typed one; `Call("fetch_url", "https://…")` makes one by name,
    where the code of the task is not importable.
    """

    __slots__ = ("args", "kwargs", "name", "task")

    def __init__(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        self.name = name
        self.args = args
        self.kwargs = kwargs
        self.task: Task[..., R_co] | None = None

    def __repr__(self) -> str:
        # Arguments may be secrets; a Call shows how many it has.
        return f"<Call {self.name} with {len(self.args) + len(self.kwargs)} argument(s)>"

    if not TYPE_CHECKING:  # type checkers rightly say that a Call cannot be awaited

        def __await__(self) -> NoReturn:
            by_hand = f"{self.name}.function(Context(), …)"
            plain = isinstance(self.task, PlainTask)
            raise TypeError(
                f"{self!r} runs nothing by itself: enqueue it (`await producer.enqueue(…)`), or, in a test, "
                + (f"call the function: `{by_hand}`" if plain else f"await the function: `await {by_hand}`")
            )


_new_call = Call.__new__


class Task(Generic[P, R]):
    """A function registered under a name, with its options.

    Attributes:
        name: what travels in the job; the function's qualified name unless `@task(name=…)`.
        function: the coroutine function itself, to await it directly: `await fetch.function(ctx, url)`.
        signature: of the function, the context its first parameter.
        schedules: those declared in code with `@cron`, `@every` or `schedule`.
        ranked: whether its jobs' turns come by more than their due time.
        fair: tells whose job a call makes; None where nobody asks.
    """

    function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]

    def __init__(self, function: Callable[Concatenate[Context, P], Any], name: str, options: TaskOptions) -> None:
        self.function = function
        self.name = name
        self.options = options
        self.signature = inspect.signature(function)
        self.ranked = options.priority > 0 or options.fair_key is not None
        self.fair = FairArgument(options.fair_key, self.signature, name) if options.fair_key is not None else None
        self._fewest, self._most = _positional_arguments(self.signature)
        functools.update_wrapper(self, function)
        self.schedules: tuple[Schedule, ...] = ()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Bind the arguments; nothing runs until a Producer enqueues the Call.

        Raises:
            TypeError: they are not what the function takes, as when calling it.
        """
        if kwargs or not self._fewest <= len(args) <= self._most:
            try:
                self.signature.bind(None, *args, **kwargs)
            except TypeError as error:  # in Python's own words, which do not say whose arguments
                raise TypeError(f"{self.name}: {error}") from None
        # Past Call's own constructor, whose unpacking and packing again is half of what a call costs.
        call: Call[R] = _new_call(Call)
        call.name, call.args, call.kwargs, call.task = self.name, args, kwargs, self
        return call

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    @property
    def place(self) -> str:
        """Where the function stands, as `file:line`."""
        code = inspect.unwrap(self.function).__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    @functools.cached_property
    def arguments(self) -> ArgumentReader:
        """What decodes and checks its arguments; built on first use, once."""
        return ArgumentReader(self.function, self.name)

    @functools.cached_property
    def result(self) -> ValueReader:
        """What decodes its results to the return annotation; built on first use, once."""
        return return_reader(self.function, self.name)


class PlainTask(Task[P, R]):
    """A Task made of a plain `def`: its worker runs it in a thread, or with `cpu=True` in a process.

    Attributes:
        function: the function itself, to call it directly: `shrink.function(ctx, path)`. It runs where it is called.
    """

    function: Callable[Concatenate[Context, P], R]  # type: ignore[assignment]  # what differs is what this class is for


class _Registers(Protocol):
    """What `@task(…)` gives: the decorator itself."""

    # mypy: what matches the first would match the second too, and give another type. The first one wins, rightly.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> Task[P, R]: ...

    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> PlainTask[P, R]: ...


class _RegistersBatch(Protocol):
    """What `@task(batch=…)` gives."""

    @overload
    def __call__(
        self, function: Callable[[BatchContext, list[T]], Coroutine[Any, Any, None]], /
    ) -> BatchTask[T, None]: ...

    @overload
    def __call__(
        self, function: Callable[[BatchContext, list[T]], Coroutine[Any, Any, Sequence[R | BaseException]]], /
    ) -> BatchTask[T, R]: ...


_registry: dict[str, Task[Any, Any]] = {}


@overload
def task(  # type: ignore[overload-overlap]  # as above
    function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
) -> Task[P, R]: ...


@overload
def task(function: Callable[Concatenate[Context, P], R], /) -> PlainTask[P, R]: ...


@overload
def task(
    *,
    name: str | None = None,
    queue: str | None = None,
    timeout: float | timedelta | None = None,
    soft_timeout: float | timedelta | None = None,
    deadline: float | timedelta | None = None,
    retry: RetryPolicy | None = None,
    keep_result: float | timedelta | None = None,
    unique: Uniqueness | None = None,
    middleware: Sequence[Middleware] = (),
    priority: Priority = 0,
    limits: Sequence[Limit] = (),
    cpu: bool = False,
    fair_key: str | None = None,
    keep_logs: int | None = None,
) -> _Registers: ...


@overload
def task(
    *,
    batch: int,
    within: float | timedelta = 0.1,
    name: str | None = None,
    queue: str | None = None,
    timeout: float | timedelta | None = None,
    soft_timeout: float | timedelta | None = None,
    deadline: float | timedelta | None = None,
    retry: RetryPolicy | None = None,
    keep_result: float | timedelta | None = None,
    unique: Uniqueness | None = None,
    middleware: Sequence[Middleware] = (),
    priority: Priority = 0,
    limits: Sequence[Limit] = (),
    fair_key: str | None = None,
) -> _RegistersBatch: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    queue: str | None = None,
    timeout: float | timedelta | None = None,
    soft_timeout: float | timedelta | None = None,
    deadline: float | timedelta | None = None,
    retry: RetryPolicy | None = None,
    keep_result: float | timedelta | None = None,
    unique: Uniqueness | None = None,
    middleware: Sequence[Middleware] = (),
    priority: Priority = 0,
    limits: Sequence[Limit] = (),
    batch: int | None = None,
    within: float | timedelta | None = None,
    cpu: bool = False,
    fair_key: str | None = None,
    keep_logs: int | None = None,
) -> Any:
    """Register a function as a task: an `async def`, or a `def`, which runs in a thread of its worker.

    Its first parameter receives the `Context`; the others are what a producer passes, checked
    against their annotations when the job runs.

    Args:
        name: what travels in the job; the function's qualified name by default.
        queue: the queue its jobs go to, unless an enqueue says otherwise.
        timeout: seconds one attempt may take; the worker's `BARQUE_JOB_TIMEOUT` by default.
        soft_timeout: seconds after which an attempt is told to come to an end by itself (`ctx.stopping`).
        deadline: seconds a job may take from when it is first due, all attempts and waits together: no attempt
            begins after that, and one that runs is stopped.
        retry: which failures are tried again, and when; exponential backoff by default.
        keep_result: seconds its results are kept; 0 keeps none.
        unique: `Unique`, `Debounce` or `Throttle`: when two of its jobs are the same one, and what is done then.
        middleware: what goes around each attempt, the outermost first, inside of the worker's own.
        priority: of its jobs, unless an enqueue says otherwise: 0 to 9, or "normal", "high", "urgent", "critical".
        limits: what its jobs are held to across the fleet: `RateLimit`, `ConcurrencyLimit`, `CircuitBreaker`.
        batch: hand its function so many jobs at once, at the most: it takes a `BatchContext` and a list of items, and
            returns a list of outcomes; the Task takes one item. See docs/batches.md.
        within: seconds a job waits for others of its batch, at the most.
        cpu: run it, a `def`, in a process beside the worker's, which can be killed.
        fair_key: the name of the argument that says whose a job is: the tenants of a queue take turns.
        keep_logs: keep so many of the last lines each attempt logs; by default `BARQUE_KEEP_LOGS`, which keeps none.

    Raises:
        DuplicateTask: another function has that name.
        ConfigurationError: the function can be no task, or an option makes no sense.
    """
    options = TaskOptions(
        queue=read_queue(queue),
        timeout=_positive_seconds("timeout", timeout),
        soft_timeout=_positive_seconds("soft_timeout", soft_timeout),
        deadline=_positive_seconds("deadline", deadline),
        retry=read_policy("@task: retry", retry),
        keep_result=_seconds("keep_result", keep_result),
        unique=unique,
        middleware=true_middleware(middleware, "@task(middleware=…)"),
        priority=read_priority("@task: priority", priority) or 0,
        batch=batch,
        within=_seconds("within", within),
        cpu=cpu,
        fair_key=fair_key,
        keep_logs=read_keep_logs(keep_logs, batch=batch),
    )
    if options.keep_result is not None and not 0 <= options.keep_result <= _LONGEST:
        raise ConfigurationError(f"@task(keep_result={keep_result!r}): give seconds, from zero to a year")
    if options.soft_timeout is not None and options.timeout is not None and options.soft_timeout >= options.timeout:
        raise ConfigurationError(
            f"@task(soft_timeout={soft_timeout!r}, timeout={timeout!r}): the soft limit comes first, or nobody is told"
        )
    if within is not None and batch is None:
        raise ConfigurationError("@task(within=…) is for a task that takes many jobs at once: give batch= too")

    def register(function: Callable[..., Any]) -> Task[..., Any]:
        kind = _kind(function, options)
        # As arq names functions, but a task made inside a function loses the "<locals>" prefix.
        title = name or function.__qualname__.rpartition("<locals>.")[2]
        if title == "<lambda>":
            raise ConfigurationError("@task on a lambda: it has no name to travel under; give one: @task(name=…)")
        own = dataclasses.replace(options, limits=check_limits(limits, function, task=title)) if limits else options
        made = kind(function, title, own)
        if unique is not None:
            check_uniqueness(unique)
            check_key(unique, made.signature, title)
        other = _registry.get(title)
        if other is not None and not _same_place(other.function, function):
            raise DuplicateTask(
                f"two tasks are called {title!r}: {other.place} and {made.place}. "
                "Rename one, or give it a name: @task(name=…)"
            )
        _registry[title] = made
        return made

    return register if function is None else register(function)


def _kind(function: Callable[..., Any], options: TaskOptions) -> type[Task[..., Any]]:
    plain = is_plain(function, cpu=options.cpu, batch=options.batch is not None)
    if options.batch is None:
        return PlainTask if plain else Task
    from common.batches import BatchTask  # noqa: PLC0415 - most programs have none

    return BatchTask


def registered_tasks() -> dict[str, Task[Any, Any]]:
    """Return every task registered in this process, by name."""
    return dict(_registry)


def import_tasks(modules: Iterable[str]) -> dict[str, Task[Any, Any]]:
    """Import the modules, so that their tasks register, and return every registered task by name.

    Raises:
        ConfigurationError: a module cannot be found, or fails while it is imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except DuplicateTask:
            raise
        except ModuleNotFoundError as error:
            missing = error.name or module
            hint = (
                f"no module named {missing!r}"
                if module == missing or module.startswith(f"{missing}.")
                else f"it imports {missing!r}, which is not installed"
            )
            raise ConfigurationError(
                f"BARQUE_TASKS: cannot import {module!r}: {hint}. Modules are looked up on sys.path, "
                "the current folder included."
            ) from error
        except Exception as error:
            raise ConfigurationError(
                f"BARQUE_TASKS: importing {module!r} failed: {type(error).__name__}: {error}"
            ) from error
    return registered_tasks()


def _positional_arguments(signature: inspect.Signature) -> tuple[int, float]:
    """Return how many arguments a call without keywords takes, at the fewest and the most, the context aside."""
    kinds = inspect.Parameter
    parameters = list(signature.parameters.values())[1:]
    if any(p.kind is kinds.KEYWORD_ONLY and p.default is kinds.empty for p in parameters):
        return 1, 0  # none will do
    positional = [p for p in parameters if p.kind in {kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD}]
    fewest = sum(p.default is kinds.empty for p in positional)
    endless = any(p.kind is kinds.VAR_POSITIONAL for p in parameters)
    return fewest, float("inf") if endless else len(positional)


def _same_place(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether both are one function, imported again (a reload, a test run under another name)."""
    first, second = inspect.unwrap(one).__code__, inspect.unwrap(other).__code__
    return (first.co_filename, first.co_qualname) == (second.co_filename, second.co_qualname)


def _seconds(name: str, value: float | timedelta | None) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | timedelta)):
        raise ConfigurationError(f"@task({name}={value!r}): give seconds as a number, or a timedelta")
    return value.total_seconds() if isinstance(value, timedelta) else value


def _positive_seconds(name: str, value: float | timedelta | None) -> float | None:
    seconds = _seconds(name, value)
    if seconds is not None and not 0 < seconds <= _LONGEST:
        raise ConfigurationError(f"@task({name}={value!r}): give a number of seconds above zero, a year at most")
    return seconds
