"""Keep the lines that an attempt logs, around each attempt of a task that asks: `@task(keep_logs=50)`.

Owns that they are kept with the attempt until it has ended. What of a line is kept is common/kept_lines.py's; where
they go then is history.py's.
"""

from __future__ import annotations

from typing import Any

from common.kept_lines import KeptLines, begin_to_keep
from common.middleware import AttemptCall, Proceed
from workers.attempt import Attempt
from workers.observers import note, noted

__all__ = ["KeepLines", "lines_of"]


class KeepLines:
    """Middleware: keeps the last lines of each attempt, those of all middleware inside of it, too.

    Args:
        most: lines.
    """

    def __init__(self, most: int) -> None:
        self._most = most

    async def __call__(self, attempt: AttemptCall, proceed: Proceed) -> Any:
        """Go on with the lines kept; each attempt is an asyncio task of its own, and so is its context."""
        lifetime = attempt.ctx.lifetime
        if isinstance(lifetime, Attempt):
            note(lifetime, KeepLines, begin_to_keep(self._most))
        return await proceed()


def lines_of(attempt: Attempt) -> list[tuple[int, str, str]]:
    """Return the lines an attempt has logged, as an entry of a history has them."""
    kept = noted(attempt, KeepLines, KeptLines)
    return [] if kept is None else kept.newest()
