"""What the tasks of one worker share: the HTTP client, the database engines, the process pool.

Owns where they stand (in the worker's own dict, `ctx.state`), that each is made once, on first use, and
that all are closed at the end. Knows nothing of what they are: each module makes its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

import structlog

__all__ = ["DATABASE", "HTTP", "PROCESSES", "Resource", "close_resources", "shared"]

HTTP = "barque:http"
DATABASE = "barque:database"
PROCESSES = "barque:processes"


class Resource(Protocol):
    """Something shared that holds connections or processes."""

    async def close(self) -> None:
        """Give everything back; may be called once only."""
        ...


R = TypeVar("R", bound=Resource)


def shared(state: dict[Any, Any], key: str, make: Callable[[], R]) -> R:
    """Return the worker's one resource under this key, made on first use.

    `make` is no coroutine function: nothing can run between the look and the making, so that two
    tasks of one event loop never make two.
    """
    resource = state.get(key)
    if resource is None:
        resource = state[key] = make()
    return cast("R", resource)


async def close_resources(state: dict[Any, Any]) -> None:
    """Close what the tasks of this worker opened; the engine calls it when its last task has ended.

    One that fails to close is logged and does not keep the others open. Calling it again, or when
    nothing was opened, does nothing.
    """
    for key in (PROCESSES, HTTP, DATABASE):
        resource: Resource | None = state.pop(key, None)
        if resource is None:
            continue
        try:
            await resource.close()
        except Exception as error:  # the worker is going down; the other resources still want closing
            structlog.get_logger("barque.task").warning("resource_not_closed", resource=key, error=type(error).__name__)
