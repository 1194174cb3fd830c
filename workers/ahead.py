"""Claim more jobs than there are free slots, while jobs are so short that they end before the next claim comes.

Owns how many jobs a claim asks for, and those that wait here for a slot, in their order. A claim, a completion and the
way of both are paid once for all the jobs in them, and a process that has slept, on processors that it shares, finds
its caches cold: with claims of 50 jobs that do nothing, eight processes on two cores used half again as much time a
job as one did. So what is claimed is as much work as `_SOON`, not as many jobs as half the slots.

Never are more jobs under way than there are slots. What waits here is leased, as jobs that run are; if it waits for
long (`_LONGEST`), it is put back into its place in the queue, for others to take. Should the process be killed, the
attempt of each job that it had claimed counts; so nothing is claimed ahead while there are jobs for which it would be
the last one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from workers.attempt import Attempt, Outcome

__all__ = ["Ahead"]

_SOON = 0.005
"""Seconds within which jobs are to begin that are claimed together: of this process's time, and of their slots'."""

_MOST = 250
"""Jobs that are claimed together because they are short; more brings little, and the server is at them for a ms."""

_LONGEST = 0.05
"""Seconds between looks at what waits; what waited at the one before is put back."""


class Ahead:
    """What one worker claims ahead of its slots.

    Args:
        slots: jobs that may be under way at once.
        may: whether it claims ahead at all.
        start: begins an attempt.
        give_back: has an attempt that did not begin put back into its place.
        spent: seconds of processor time that the event loop's thread has used.

    Attributes:
        waiting: attempts that wait for a slot, the next one first.
        at_once: jobs that a claim asks for.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        slots: int,
        *,
        may: bool,
        start: Callable[[Attempt], None],
        give_back: Callable[[Attempt], None],
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self._loop = loop
        self._slots = slots
        # Half the slots: while one half's jobs run here, the server is at work on the other half's claim.
        self._least = (slots + 1) // 2
        self._may = may and self._least < _MOST
        self._start = start
        self._give_back = give_back
        self._spent = spent
        self._began_at: float | None = None  # of the round that is measured, as `spent` tells the time
        self._ended = 0  # attempts that have ended in it
        self._run_seconds = 0.0  # of these from start to end, all together
        self._last_chances = 0  # and for how many their jobs have no other attempt left
        self._put = self._begun = 0
        self._put_at_look = 0
        self._look: asyncio.TimerHandle | None = None
        self.waiting: deque[Attempt] = deque()
        self.at_once = self._least

    def most_at_once(self, plenty: bool) -> int:  # noqa: FBT001 - the claimer's word, and nothing else
        """Return how many jobs to ask for.

        Args:
            plenty: whether the claim before brought as many as it asked for.
        """
        if self._may:
            if not plenty:  # what there is may be for others as well
                self._fall_back()
            elif self._began_at is None:
                self._measure_anew()
            elif self._ended >= self.at_once:
                self.at_once = self._as_many_as_soon_begin(self._spent() - self._began_at)
                self._measure_anew()
        return self.at_once

    def room(self, running: int) -> int:
        """Return how many more jobs may be claimed while so many have slots."""
        room = self._slots if self.at_once == self._least else 2 * self.at_once
        return room - running - len(self.waiting)

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """Take note of attempts that have ended."""
        if self._may:
            self._ended += len(outcomes)
            for outcome in outcomes:
                self._run_seconds += outcome.run_seconds
                attempt = outcome.attempt
                if attempt.number >= attempt.max_attempts:
                    self._last_chances += 1

    def put(self, attempt: Attempt) -> None:
        """Have an attempt wait for a slot."""
        self.waiting.append(attempt)
        self._put += 1
        if self._look is None:
            self._look_later()

    def begin_next(self) -> None:
        """Begin the one that waits for longest: a slot is free."""
        self._begun += 1
        self._start(self.waiting.popleft())

    def give_back(self) -> None:
        """Put back all that wait, and claim no more ahead until it is known again how long jobs take."""
        self._fall_back()
        while self.waiting:
            self._begun += 1
            self._give_back(self.waiting.popleft())

    def close(self) -> None:
        """Look no more."""
        if self._look is not None:
            self._look.cancel()

    def _as_many_as_soon_begin(self, spent: float) -> int:
        if self._last_chances:
            return self._least
        # Of the time that the jobs of the round took, the processor's and their slots', the longer one decides.
        seconds = max(spent, self._run_seconds / self._slots)
        soon = round(_SOON * self._ended / seconds) if seconds > 0 else _MOST
        return max(self._least, min(soon, 2 * self.at_once, _MOST))

    def _measure_anew(self) -> None:
        self._began_at, self._ended, self._run_seconds, self._last_chances = self._spent(), 0, 0.0, 0

    def _fall_back(self) -> None:
        self.at_once, self._began_at = self._least, None

    def _look_later(self) -> None:
        self._put_at_look = self._put
        self._look = self._loop.call_later(_LONGEST, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        if self._begun < self._put_at_look:
            self.give_back()
        elif self.waiting:
            self._look_later()
