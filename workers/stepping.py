"""Run a coroutine step by step, and note how long each step held the event loop.

A coroutine runs from one `await` that really waits to the next; in between nobody else does. So the time of its steps,
added up, is what a job costs its neighbours, and the rest of its run is waiting. Owns the stepping; what becomes of
the figures is attempt_log.py's and endings.py's. Owns, too, that what is to be stepped is a coroutine.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Coroutine, Generator
from time import perf_counter
from typing import Any, Protocol

__all__ = ["steppable", "stepped"]


def steppable(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a function whose calls are coroutines, where those of a decorator's may be something else to be awaited.

    Asked once, of a function, so that no job pays for it: an `async def` is returned as it is.
    """
    code = getattr(function, "__code__", None)  # inspect.iscoroutinefunction asks, from 3.12 on, what it is marked as
    if isinstance(code, types.CodeType) and code.co_flags & inspect.CO_COROUTINE:
        return function

    async def awaited(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return awaited


class Counts(Protocol):
    """What is told of each step: an attempt, say."""

    def note_step(self, seconds: float) -> None:
        """Count a step that held the event loop for so long."""
        ...


@types.coroutine
def stepped(
    coroutine: Coroutine[Any, Any, Any], attempt: Counts, yielded: Any, began: float
) -> Generator[Any, Any, Any]:
    """Go on with a coroutine whose first step is done, to its end, and return what it returns.

    The first step is the caller's: most small jobs have no second, and so do not come here.

    Args:
        attempt: is told the time of each step as it ends.
        yielded: what the first step waits for.
        began: `perf_counter()` at which that step began.
    """
    thrown: BaseException | None
    while True:
        attempt.note_step(perf_counter() - began)
        try:
            value, thrown = (yield yielded), None
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:  # a cancellation, most often: the coroutine's to handle
            value, thrown = None, error
        began = perf_counter()
        try:  # a method called where it is looked up needs no object: each waiting job would have two
            if thrown is None:
                yielded = coroutine.send(value)
            else:
                yielded = coroutine.throw(thrown)
                thrown = None  # its traceback leads here: kept, it would keep all that the task had at hand then
        except BaseException as ended:
            thrown = None
            attempt.note_step(perf_counter() - began)
            if isinstance(ended, StopIteration):
                return ended.value
            raise
