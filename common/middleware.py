"""What goes around each attempt: `@middleware`, the call it sees, and how several are made one.

Owns the shape of a middleware and its check. Which ones a worker has, and around what, is runnables.py's; how the
attempt is judged that they are a part of, verdicts.py's.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from common.context import Context
from common.errors import ConfigurationError

__all__ = ["AttemptCall", "Middleware", "Proceed", "composed", "import_middleware", "middleware", "true_middleware"]


class Proceed(Protocol):
    """Goes on with the call, to the next middleware or the task's function; returns and raises what that does."""

    def __call__(self) -> Awaitable[Any]: ...  # noqa: D102 - see above


class AttemptCall:
    """What one attempt is about to call, as its middleware sees it.

    Attributes:
        ctx: the attempt's context: `ctx.task` names the task, `ctx.job_id`, `ctx.attempt` and so on the rest.
        args, kwargs: the arguments, read and checked as the task's annotations say; what stands here when the last
            middleware goes on is what the function is given.
    """

    __slots__ = ("args", "ctx", "kwargs")

    def __init__(self, ctx: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.ctx = ctx
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        # Arguments may be secrets.
        return f"<AttemptCall {self.ctx!r} with {len(self.args) + len(self.kwargs)} argument(s)>"


class Middleware(Protocol):
    """Goes around an attempt: a coroutine function, or an object that can be called as one."""

    def __call__(self, attempt: AttemptCall, proceed: Proceed, /) -> Coroutine[Any, Any, Any]: ...  # noqa: D102 - see above


Function = Callable[..., Coroutine[Any, Any, Any]]
_Chain = Callable[[AttemptCall], Coroutine[Any, Any, Any]]
M = TypeVar("M", bound=Middleware)


def middleware(function: M) -> M:
    """Check that a function can go around attempts, and return it as it is.

        @middleware
        async def timing(attempt: AttemptCall, proceed: Proceed) -> Any:
            started = time.perf_counter()
            try:
                return await proceed()
            finally:
                attempt.ctx.log.info("timed", seconds=time.perf_counter() - started)

    What it returns is the attempt's value, and what it raises the attempt's error, judged by the task's policy.

    Raises:
        ConfigurationError: it is no coroutine function, or takes other arguments.
    """
    true_middleware([function], "@middleware")
    return function


def true_middleware(given: Any, where: str) -> tuple[Middleware, ...]:
    """Return a list of middleware as a tuple, each looked at.

    Raises:
        ConfigurationError: one of them cannot go around an attempt; the message starts with `where`.
    """
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise ConfigurationError(f"{where}: give a list, the outermost first; got {_named(given)}")
    functions = tuple(given)
    for function in functions:
        if not _is_async(function) or not _takes_two(function):
            raise ConfigurationError(
                f"{where}: {_named(function)} is no middleware; write `async def {_word(function)}(attempt, proceed)`"
            )
    return functions


def composed(around: Iterable[Middleware], function: Function) -> Function:
    """Return a function that calls the first one around the second, and so on, around the function.

    Made once; for each call it costs an `AttemptCall`, and a `partial` and a coroutine for each middleware.
    """

    def innermost(call: AttemptCall) -> Coroutine[Any, Any, Any]:
        return function(call.ctx, *call.args, **call.kwargs)

    chain: _Chain = innermost
    for outer in reversed(tuple(around)):
        chain = _around(chain, outer)

    def start(ctx: Context, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return chain(AttemptCall(ctx, args, kwargs))

    return start


def _around(inner: _Chain, outer: Middleware) -> _Chain:
    # No `async def`: a traceback shows the middleware and the task, and nothing of ours between them.
    return lambda call: outer(call, functools.partial(inner, call))


def import_middleware(names: Iterable[str]) -> tuple[Middleware, ...]:
    """Return what `BARQUE_MIDDLEWARE` names, each as `module:name`.

    Raises:
        ConfigurationError: a module cannot be imported, or has nothing of that name that can go around an attempt.
    """
    return tuple(_imported(name) for name in names)


def _imported(name: str) -> Middleware:
    said = f"BARQUE_MIDDLEWARE: {name!r}"
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # importing runs the module's own code
        raise ConfigurationError(f"{said}: importing {module} failed: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigurationError(f"{said}: {module} has no {attribute}") from None
    return true_middleware([found], said)[0]


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - a method is looked for, not whether it is callable


def _takes_two(function: Any) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


def _word(function: Any) -> str:
    name = getattr(function, "__name__", "")
    return name if name.isidentifier() else "around"


def _named(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)
