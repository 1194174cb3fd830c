"""What a function must be for `@task` to make a task of it, and where a task of it runs: on the event loop, or not.

Owns these two answers, and the words for a function, or a queue for its jobs, that will not do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from common.errors import ConfigurationError

__all__ = ["is_plain", "read_keep_logs", "read_queue"]

MOST_LINES = 1000

_NO_CONTEXT = (bool, bytes, float, int, list, set, str, tuple)
_NO_CONTEXT_NAMES = frozenset(kind.__name__ for kind in _NO_CONTEXT)


def is_plain(function: Callable[..., Any], *, cpu: bool, batch: bool) -> bool:
    """Return whether a task's function is a plain `def`: then it runs in a thread, or with `cpu` in a process.

    Raises:
        ConfigurationError: it can be no task, or not of that kind; the message says what to write.
    """
    inner: Any = inspect.unwrap(function)
    said = f"@task on {getattr(function, '__qualname__', function)!r}"
    if not inspect.isfunction(inner):
        raise ConfigurationError(f"{said}: a task is a function; write `async def`, or `def` for one that blocks")
    for form in (function, inner):
        if inspect.isgeneratorfunction(form) or inspect.isasyncgenfunction(form):
            raise ConfigurationError(
                f"{said}: a task returns one value, and a function with `yield` returns a generator, which nothing "
                "would run. Return a list, or enqueue a job for each item"
            )
    if not _takes_context(function):
        raise ConfigurationError(
            f"{said}: its first parameter receives the Context, and the others what a producer passes; write "
            f"`def {inner.__name__}(ctx: Context, …)`"
        )
    # A decorator's own `def` around a coroutine function gives back the coroutine.
    plain = not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(inner)
    if plain and batch:
        raise ConfigurationError(
            f"@task(batch=…) on {getattr(function, '__qualname__', function)!r}: write `async def`, and in it "
            "`await asyncio.to_thread(…)` for what blocks, or `await run_in_process(…)` for what computes"
        )
    if cpu and not plain:
        raise ConfigurationError(
            f"{said}: cpu=True takes a plain function: write `def`, without `async`, and it runs in a process beside "
            "the worker's. Where only a part of it computes, leave cpu=True out and "
            "`await run_in_process(ctx, function, …)` for that part"
        )
    if cpu and "<locals>" in inner.__qualname__:
        raise ConfigurationError(
            f"{said}: the process that runs it imports its module and finds it there; move it to the top level of a "
            "module"
        )
    return plain


def read_queue(queue: object) -> str | None:
    """Return the queue of a task's jobs.

    Raises:
        ConfigurationError: it is no name.
    """
    if queue is not None and (not isinstance(queue, str) or not queue):
        raise ConfigurationError(f"@task(queue={queue!r}): give the queue's name, or leave queue= out")
    return queue


def _takes_context(function: Callable[..., Any]) -> bool:
    """Whether a function's first parameter may be the context, going by its annotation; arq's is a dict."""
    first = next(iter(inspect.signature(function).parameters.values()), None)
    if first is None or first.kind in {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}:
        return False
    said = first.annotation
    if isinstance(said, str):
        return said not in _NO_CONTEXT_NAMES
    return said not in _NO_CONTEXT


def read_keep_logs(lines: Any, *, batch: int | None) -> int | None:
    """Return how many lines of each attempt are kept; None takes the worker's setting.

    Raises:
        ConfigurationError: it is no such number, or the task's runs are of several jobs.
    """
    if lines is None:
        return None
    if isinstance(lines, bool) or not isinstance(lines, int) or not 0 <= lines <= MOST_LINES:
        raise ConfigurationError(f"@task(keep_logs={lines!r}): give a number of lines, from 0 to {MOST_LINES:,}")
    if lines and batch is not None:
        raise ConfigurationError("@task(keep_logs=…): not with batch=…, whose lines are of several jobs at once")
    return int(lines)
