"""What a worker holds: every attempt from its claim until its outcome is recorded.

Owns who looks at them from where: the event loop changes them, the renewing thread reads them while that stands still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from common.redis.store import Held
from workers.attempt import Attempt, Outcome

__all__ = ["HeldAttempts"]


class HeldAttempts(dict[str, Attempt]):
    """Attempts by the ids of their jobs.

    Attributes:
        none: set while there are none; whoever adds one clears it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.none = asyncio.Event()
        self.none.set()

    def let_go(self, outcomes: Sequence[Outcome]) -> None:
        """Hold these attempts no more, unless another one of the job is held in the place of its own."""
        for outcome in outcomes:
            attempt = outcome.attempt
            if self.get(attempt.job_id) is attempt:
                del self[attempt.job_id]
        if not self:
            self.none.set()

    def leases(self) -> list[Held]:
        """Return what is to be renewed; from any thread, as list() of a dict's values is one step under the GIL."""
        return [attempt.lease for attempt in list(self.values())]

    def of_task(self, task: asyncio.Task[Any]) -> Attempt | None:
        """Return the attempt that an asyncio task runs; from any thread."""
        return next((attempt for attempt in list(self.values()) if attempt.task is task), None)
