"""What this worker can run, by name, each with its options resolved once.

Two kinds: a `@task`, which follows its own policy and has its arguments checked; and a plain arq function or
cron job, which keeps arq's ways (arq's dict as context, arguments unchecked, an ordinary exception fails it).
The executor treats both through one interface. Knows no Redis and does not import arq: arq's Function and
CronJob are taken by the attributes they have.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from common.codec import Payload
from common.context import Context
from common.errors import ConfigurationError
from common.middleware import Middleware, composed
from common.retry import RetryPolicy
from common.tasks import Task
from workers.gates import TaskGates, check_shared
from workers.places import Places
from workers.stepping import steppable

if TYPE_CHECKING:
    from common.progress import Outlet
    from workers.attempt import Attempt

__all__ = ["ArqFunction", "Defaults", "FunctionRunnable", "Runnable", "TaskRunnable", "by_name", "surrounded"]

C = TypeVar("C", bound=Context)

_new_context = Context.__new__


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for a task that does not say: the worker's settings.

    Attributes:
        timeout: seconds, or None for no limit.
        keep_result_ms: 0 keeps none.
        keep_results_forever: wins over `keep_result_ms`, here and in arq's functions.
        keep_logs: lines of each attempt that are kept.
    """

    timeout: float | None
    max_attempts: int
    keep_result_ms: int
    keep_results_forever: bool = False
    keep_logs: int = 0


class ArqFunction(Protocol):
    """The attributes of arq's Function and CronJob that matter here (arq/worker.py, arq/cron.py)."""

    name: str
    coroutine: Any
    timeout_s: float | None
    keep_result_s: float | None
    keep_result_forever: bool | None
    max_tries: int | None


class Runnable:
    """One thing this worker can run.

    Attributes:
        policy: which failures are retried; None keeps arq's ways.
        timeout: seconds one attempt may take; None is no limit.
        soft_timeout: seconds after which an attempt is told to come to an end; None does not tell.
        deadline_ms: how long a job may take, all attempts together, from when it is first due; None is no limit.
        keep_ms: how long a result is kept; 0 not at all, -1 for ever.
        done_ms: how long an ended job's id is refused; arq's cron ticks have it.
        outlets: gives an attempt, when it asks, where its progress and items go.
        places: of which an attempt needs one, to run outside the event loop; None runs on it.
        priority: of a job that does not say.
        limits: what its attempts have to pass before they begin; None is nothing.
        gathers: whether its attempts wait for others, to run together.
        keep_logs: lines of each attempt that are kept with its job.
    """

    gathers: ClassVar[bool] = False

    __slots__ = (
        "deadline_ms",
        "done_ms",
        "keep_logs",
        "keep_ms",
        "limits",
        "max_attempts",
        "name",
        "outlets",
        "places",
        "policy",
        "priority",
        "soft_timeout",
        "timeout",
    )

    def __init__(
        self,
        name: str,
        *,
        timeout: float | None,
        max_attempts: int,
        keep_ms: int,
        policy: RetryPolicy | None = None,
        done_ms: int = 0,
        priority: int = 0,
    ) -> None:
        self.name = name
        self.timeout = timeout
        self.max_attempts = max_attempts
        self.keep_ms = keep_ms
        self.policy = policy
        self.done_ms = done_ms
        self.outlets: Callable[[Context], Outlet] | None = None
        self.places: Places | None = None
        self.priority = priority
        self.soft_timeout: float | None = None
        self.deadline_ms: int | None = None
        self.limits: TaskGates | None = None
        self.keep_logs = 0

    def start(self, attempt: Attempt, payload: Payload, state: dict[Any, Any]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that runs the attempt.

        Raises:
            PayloadError: the arguments are not what the task takes.
        """
        raise NotImplementedError

    async def enter(self, attempt: Attempt) -> None:
        """Take one of `places`, and all else the attempt needs there; called where it has some.

        Raises:
            Exception: there is none to be had.
        """
        raise NotImplementedError

    def leave(self, attempt: Attempt, seconds: float) -> None:
        """Give back what `enter` took, after so many seconds."""
        raise NotImplementedError

    def surrounded(self, outer: Sequence[Middleware], worker: str) -> Runnable:
        """Return what runs with this middleware around each attempt, a task's own inside of it."""
        raise NotImplementedError


class TaskRunnable(Runnable):
    """A `@task`: typed arguments, a `Context`, its own retry policy."""

    __slots__ = ("_context", "_function", "_middleware", "_read", "_worker")

    def __init__(self, task: Task[..., Any], defaults: Defaults, worker: str) -> None:
        options = task.options
        keep_ms = -1 if defaults.keep_results_forever else defaults.keep_result_ms
        super().__init__(
            task.name,
            timeout=defaults.timeout if options.timeout is None else options.timeout,
            max_attempts=options.retry.max_attempts or defaults.max_attempts,
            keep_ms=keep_ms if options.keep_result is None else round(options.keep_result * 1000),
            policy=options.retry,
            priority=options.priority,
        )
        self.soft_timeout = options.soft_timeout
        self.deadline_ms = None if options.deadline is None else round(options.deadline * 1000)
        if options.batch is None:
            self.keep_logs = defaults.keep_logs if options.keep_logs is None else options.keep_logs
        if options.limits:
            self.limits = TaskGates(task, options.limits, timeout=self.timeout)
        self._context: type[Context] = Context
        self._function = steppable(task.function)
        self._middleware = options.middleware
        # Built here, once, and so that a task whose annotations cannot be resolved stops the start, not a job.
        self._read = task.arguments.read
        self._worker = worker

    def start(self, attempt: Attempt, payload: Payload, state: dict[Any, Any]) -> Coroutine[Any, Any, Any]:
        """Check the arguments and return the coroutine."""
        if self._context is Context:  # `context_of`, in line
            context = _new_context(Context)
            context._fill(  # noqa: SLF001 - of its friend, for every job
                attempt.job_id,
                self.name,
                attempt.queue,
                attempt.number,
                attempt.max_attempts,
                self._worker,
                payload.enqueued_ms,
                None if payload.extras is None else payload.extras.meta,
                state,
                self.outlets,
                attempt,
            )
        else:
            context = context_of(self, attempt, payload, state, self._worker, self._context)
        if type(payload) is Payload:
            args, kwargs = self._read(payload.args, payload.kwargs)
        else:
            parts = payload.as_msgpack()
            # Objects from a pickle that have no msgpack form are what their producer made them: passed as they are.
            args, kwargs = self._read(*parts) if parts is not None else payload.as_objects()
        return self._function(context, *args, **kwargs) if kwargs else self._function(context, *args)

    def surrounded(self, outer: Sequence[Middleware], worker: str) -> Runnable:  # noqa: ARG002 - see Runnable
        """Put middleware around the function; without any, what runs is the function itself. To be called once."""
        if every := (*outer, *self._middleware):
            self._function = composed(every, self._function)
        return self


class FunctionRunnable(Runnable):
    """A plain coroutine function, `arq.func` or cron job: arq's ways."""

    __slots__ = ("coroutine",)

    # arq keeps a cron tick's in-progress key this long after it ended (arq.constants.keep_cronjob_progress).
    CRON_DONE_MS = 60_000

    def __init__(self, function: ArqFunction, defaults: Defaults) -> None:
        keep_ms = defaults.keep_result_ms
        if function.keep_result_s is not None:
            keep_ms = round(function.keep_result_s * 1000)
        forever = function.keep_result_forever
        if defaults.keep_results_forever if forever is None else forever:
            keep_ms = -1
        super().__init__(
            function.name,
            timeout=defaults.timeout if function.timeout_s is None else function.timeout_s,
            max_attempts=defaults.max_attempts if function.max_tries is None else function.max_tries,
            keep_ms=keep_ms,
            done_ms=self.CRON_DONE_MS if hasattr(function, "next_run") else 0,
        )
        self.coroutine = steppable(function.coroutine)
        self.keep_logs = defaults.keep_logs

    def start(self, attempt: Attempt, payload: Payload, state: dict[Any, Any]) -> Coroutine[Any, Any, Any]:  # noqa: ARG002
        """Return the coroutine; `state` is the context dict arq would make."""
        args, kwargs = payload.as_objects()
        return self.coroutine(state, *args, **kwargs)

    def surrounded(self, outer: Sequence[Middleware], worker: str) -> Runnable:
        """Return one whose function has middleware around it; itself, if there is none."""
        return _SurroundedFunction(self, outer, worker) if outer else self


class _SurroundedFunction(Runnable):
    """A plain function with middleware around it, which sees a `Context`; the function has arq's dict as ever."""

    __slots__ = ("_chain", "_worker")

    def __init__(self, function: FunctionRunnable, outer: Sequence[Middleware], worker: str) -> None:
        super().__init__(
            function.name,
            timeout=function.timeout,
            max_attempts=function.max_attempts,
            keep_ms=function.keep_ms,
            policy=function.policy,
            done_ms=function.done_ms,
        )
        self.keep_logs = function.keep_logs
        coroutine = function.coroutine
        self._chain = composed(outer, lambda ctx, *args, **kwargs: coroutine(ctx.state, *args, **kwargs))
        self._worker = worker

    def start(self, attempt: Attempt, payload: Payload, state: dict[Any, Any]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine; `state` is the context dict arq would make, and the context's `state`."""
        args, kwargs = payload.as_objects()
        return self._chain(context_of(self, attempt, payload, state, self._worker, Context), *args, **kwargs)


def context_of(
    runnable: Runnable,
    attempt: Attempt,
    payload: Payload,
    state: dict[Any, Any],
    worker: str,
    kind: Callable[..., C],
) -> C:
    """Return the context of an attempt, of this kind."""
    extras = payload.extras
    return kind(
        job_id=attempt.job_id,
        task=runnable.name,
        queue=attempt.queue,
        attempt=attempt.number,
        max_attempts=attempt.max_attempts,
        worker=worker,
        enqueued_ms=payload.enqueued_ms,
        metadata=extras.meta if extras is not None else None,
        state=state,
        outlets=runnable.outlets,
        lifetime=attempt,
    )


def surrounded(runnables: Mapping[str, Runnable], outer: Sequence[Middleware], worker: str) -> dict[str, Runnable]:
    """Return the runnables with a worker's middleware around each attempt, and what keeps its lines where some are."""
    return {name: runnable.surrounded(_around(runnable, outer), worker) for name, runnable in runnables.items()}


def _around(runnable: Runnable, outer: Sequence[Middleware]) -> Sequence[Middleware]:
    if not runnable.keep_logs:
        return outer
    from workers.kept_logs import KeepLines  # noqa: PLC0415 - most workers keep none

    return (KeepLines(runnable.keep_logs), *outer)


def by_name(runnables: list[Runnable]) -> dict[str, Runnable]:
    """Return the runnables by name.

    Raises:
        ConfigurationError: two have one name, or declare limits of one name differently.
    """
    found: dict[str, Runnable] = {}
    for runnable in runnables:
        if runnable.name in found:
            raise ConfigurationError(f"two functions of this worker are called {runnable.name!r}; rename one")
        found[runnable.name] = runnable
    check_shared([runnable.limits for runnable in runnables if runnable.limits is not None])
    return found
