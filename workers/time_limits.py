"""How long an attempt may run: its soft and its hard timeout, and the deadline of its job over all attempts.

Owns which of them comes first, and what happens then; when that is, is watched by the one heap of deadlines.py. What
a passed limit means for the job is verdicts.py's to judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from common.codec import Extras
from common.deadlines import Deadlines
from workers.attempt import Attempt, StopReason
from workers.clock import ServerClock
from workers.runnables import Runnable

__all__ = ["TimeLimits"]

log = structlog.get_logger("barque.executor")


class TimeLimits:
    """Tells attempts that their soft timeout has passed, and stops those that ran past a hard limit.

    Args:
        stop: cancels an attempt, for one of the reasons TIMED_OUT and DEADLINE.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: ServerClock, stop: Callable[[Attempt, StopReason], None]
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._stop = stop
        self._deadlines = Deadlines(loop, self._overdue)

    def set_deadline(self, attempt: Attempt, runnable: Runnable, extras: Extras | None) -> None:
        """Find until when the attempt's job may go on."""
        if extras is not None and extras.end is not None:
            attempt.deadline_ms = extras.end
        elif runnable.deadline_ms is not None:
            attempt.deadline_ms = attempt.first_due_ms + runnable.deadline_ms

    def deadline_passed(self, attempt: Attempt) -> bool:
        """Return whether the job is not to go on any more."""
        return attempt.deadline_ms is not None and self._clock.now_ms() >= attempt.deadline_ms

    def begin(self, attempt: Attempt, runnable: Runnable, extras: Extras | None) -> None:
        """Start the clock: the attempt runs from now on."""
        timeout, soft = runnable.timeout, runnable.soft_timeout
        if extras is not None:
            timeout = timeout if extras.timeout is None else extras.timeout
            soft = soft if extras.soft is None else extras.soft
        if timeout is not None:
            attempt.timeout = timeout
            attempt.ends_at = self._loop.time() + timeout
        if attempt.deadline_ms is not None:
            self._end_by_deadline(attempt, attempt.deadline_ms)
        if soft is not None:
            self._watch_soft(attempt, soft)
        elif attempt.ends_at is not None:
            self._deadlines.add(attempt, attempt.ends_at)

    def close(self) -> None:
        """Watch nothing any more."""
        self._deadlines.close()

    def _end_by_deadline(self, attempt: Attempt, deadline_ms: int) -> None:
        ends_at = self._loop.time() + (deadline_ms - self._clock.now_ms()) / 1000
        if attempt.ends_at is None or ends_at < attempt.ends_at:
            attempt.timeout, attempt.ends_at = None, ends_at

    def _watch_soft(self, attempt: Attempt, seconds: float) -> None:
        """Watch the soft limit, and the hard one after it; the hard one alone, where it comes first."""
        at = self._loop.time() + seconds
        if attempt.ends_at is None or at < attempt.ends_at:
            attempt.soft_timeout = seconds
            self._deadlines.add(attempt, at)
        else:
            self._deadlines.add(attempt, attempt.ends_at)

    def _overdue(self, attempt: Attempt) -> None:
        if attempt.soft_timeout is None:
            self._stop(attempt, StopReason.DEADLINE if attempt.timeout is None else StopReason.TIMED_OUT)
            return
        seconds, attempt.soft_timeout = attempt.soft_timeout, None
        if attempt.ends_at is not None:
            self._deadlines.add(attempt, attempt.ends_at)
        if attempt.stop is None:
            log.warning(
                "job_soft_timeout",
                job_id=attempt.job_id,
                task=attempt.task_name,
                attempt=attempt.number,
                soft_timeout=seconds,
                stopped_in_s=attempt.time_left and round(attempt.time_left, 3),
            )
            attempt.tell("soft_timeout")
