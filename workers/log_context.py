"""Bind, around each attempt, the variables of the log context that its job carries.

Owns the binding. Which values travel, and in what form, is common/log_context.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from common.log_context import LogContext, LogValue
from common.middleware import AttemptCall, Proceed
from workers.attempt import Attempt, Outcome
from workers.observers import BatchFunction

__all__ = ["CarriedLog"]


class CarriedLog:
    """Middleware: what `ctx.log` and all other logs of an attempt say besides, and the attempt's own line.

    Args:
        names: the variables, as in `BARQUE_LOG_CONTEXT`; a job that carries others has those left out.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._context = LogContext(names)
        self.line_fields = self._context.names

    async def __call__(self, attempt: AttemptCall, proceed: Proceed) -> Any:
        """Go on with the variables bound; each attempt is an asyncio task of its own, and so is its context."""
        lifetime = attempt.ctx.lifetime
        if isinstance(lifetime, Attempt):
            structlog.contextvars.unbind_contextvars(*self.line_fields)  # those of the program around the worker
            structlog.contextvars.bind_contextvars(**self._values(lifetime))
        return await proceed()

    def ended(self, outcome: Outcome) -> Mapping[str, LogValue]:
        """Return the variables for the attempt's line."""
        return self._values(outcome.attempt)

    def around_batch(self, function: BatchFunction) -> BatchFunction:
        """Return a batch task's function, run with the variables that all its jobs agree on."""

        async def run(ctx: Any, items: Any) -> Any:
            carried = [self._values(job.lifetime) for job in ctx.jobs if isinstance(job.lifetime, Attempt)]
            shared = {
                name: value
                for name, value in (carried[0] if carried else {}).items()
                if all(other.get(name) == value for other in carried)
            }
            structlog.contextvars.unbind_contextvars(*self.line_fields)
            structlog.contextvars.bind_contextvars(**shared)
            return await function(ctx, items)

        return run

    def _values(self, attempt: Attempt) -> dict[str, LogValue]:
        return self._context.read(None if attempt.payload is None else attempt.payload.extras)
