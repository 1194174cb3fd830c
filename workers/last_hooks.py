"""arq's `after_job_end`: the hook that runs once the outcome of a job is recorded.

Owns its asyncio tasks. As in arq, a job has its slot until its last hook has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

from workers.attempt import Attempt, Outcome

__all__ = ["LastHooks"]


class LastHooks:
    """The hooks that run now.

    Args:
        run: runs the hook of an attempt.
        ended: called as each ends.

    Attributes:
        tasks: one a hook.
    """

    def __init__(self, run: Callable[[Attempt], Coroutine[None, None, None]], ended: Callable[[], None]) -> None:
        self._run = run
        self._ended = ended
        self.tasks: set[asyncio.Task[None]] = set()

    def begin(self, outcomes: Sequence[Outcome]) -> None:
        """Run the hook for each of these, whose outcomes are recorded."""
        for outcome in outcomes:
            task = asyncio.create_task(self._run(outcome.attempt))
            self.tasks.add(task)
            task.add_done_callback(self._done)

    async def all_ended(self) -> None:
        """Wait for those that run."""
        if self.tasks:
            await asyncio.wait(self.tasks)

    def cancel(self) -> None:
        """Cancel those that run."""
        for task in self.tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._ended()
