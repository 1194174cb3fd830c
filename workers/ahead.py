"""Claim more jobs than there are free slots, while jobs are so short that they end before the next claim comes.

Owns how many jobs a claim asks for, and those that wait here for a slot, in their order. A claim, a completion and the
way of both are paid once for all the jobs in them, and a process that has slept, on processors that it shares, finds
its caches cold. So what is claimed is as much work as `_SOON`, not as many jobs as half the slots. And a slot that
waits for a claim stands empty for a millisecond or two: of jobs that wait for ten, a fifth. So beyond the slots there
are as many here as begin within `_SOON`.

Never are more jobs under way than there are slots. What waits here is leased, as jobs that run are; if some of it waits
for long (`_LONGEST`), all is put back into its place in the queue, for others to take. What cannot be, as its score
alone did not tell its place, waits on; so nothing is claimed ahead while such jobs come by. Nor while there are some
whose last attempt it is: should the process be killed, an attempt counts of each job that it had claimed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from common.jobs import OutcomeKind
from workers.attempt import Attempt, Outcome

__all__ = ["Ahead"]

_SOON = 0.005
"""Seconds within which jobs are to begin that are claimed together: of this process's time, and of their slots'."""

_MOST = 250
"""Jobs that are claimed together because they are short; more brings little, and the server is at them for a ms."""

_LONGEST = 0.05
"""Seconds between looks at what waits; if some of it waited at the one before, all is put back."""

_LATE = 0.25
"""Seconds by which a look comes late where the event loop stood still: what waits goes back before its leases end."""

_SUCCEEDED = OutcomeKind.SUCCEEDED


class Ahead:
    """What one worker claims ahead of its slots.

    Args:
        slots: jobs that may be under way at once.
        may: whether it claims ahead at all.
        may_begin: whether what waits may have a slot now.
        start: begins an attempt.
        give_back: has an attempt that did not begin put back into its place; False where that cannot be.
        release: has it put back all the same, as at a stop.
        spent: seconds of processor time that the event loop's thread has used.

    Attributes:
        waiting: attempts that wait for a slot, the next one first.
        at_once: jobs that a claim asks for.
        beyond: jobs that would begin soon though there is no slot yet; 0 where that is not known.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        slots: int,
        *,
        may: bool,
        may_begin: Callable[[], bool],
        start: Callable[[Attempt], None],
        give_back: Callable[[Attempt], bool],
        release: Callable[[Attempt], None],
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self._loop = loop
        self._slots = slots
        # Half the slots: while one half's jobs run here, the server is at work on the other half's claim.
        self._least = (slots + 1) // 2
        self._may = may
        self._may_begin = may_begin
        self._start = start
        self._give_back = give_back
        self._release = release
        self._spent = spent
        self._began_at: float | None = None  # of the round that is measured, as `spent` tells the time
        self._ended = 0  # attempts that have ended in it
        self._run_seconds = 0.0  # of these from start to end, all together
        self._others = 0  # and those for which nothing is claimed ahead
        self._beginning = False
        self._put = self._begun = 0
        self._put_at_look = 0
        self._look_at = 0.0
        self._look: asyncio.TimerHandle | None = None
        self.waiting: deque[Attempt] = deque()
        self.at_once = self._least
        self.beyond = 0

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
                self.beyond = self._as_many_as_soon_begin(self._spent() - self._began_at)
                self.at_once = max(self._least, self.beyond)
                self._measure_anew()
        return self.at_once

    def room(self, running: int) -> int:
        """Return how many more jobs may be claimed while so many have slots."""
        most = max(self._slots + self.beyond, 2 * self.at_once) if self.beyond else self._slots
        return most - running - len(self.waiting)

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """Take note of attempts that have ended."""
        if self._may:
            self._ended += len(outcomes)
            for outcome in outcomes:
                self._run_seconds += outcome.run_seconds
                attempt = outcome.attempt
                runnable, payload = attempt.runnable, attempt.payload
                if (
                    outcome.kind is not _SUCCEEDED  # its slot may have been taken for nothing
                    or attempt.number >= attempt.max_attempts
                    or attempt.past
                    or payload is None
                    or (payload.extras is not None and payload.extras.lane is not None)
                    or runnable is None
                    or runnable.places is not None  # it held its slot for longer than it ran
                ):
                    self._others += 1

    def put(self, attempt: Attempt) -> None:
        """Have an attempt wait for a slot."""
        self.waiting.append(attempt)
        self._put += 1
        if self._look is None:
            self._look_later()

    def begin(self) -> None:
        """Begin what waits, the first one first, as far as there are slots."""
        if self._beginning or not self.waiting:  # within `start`, where a task factory is eager and the task has ended
            return
        if self._is_late():
            self.release()
        self._beginning = True
        try:
            while self.waiting and self._may_begin():
                self._begun += 1
                self._start(self.waiting.popleft())
        finally:
            self._beginning = False

    def give_back(self) -> None:
        """Put back what waits, and claim no more ahead until it is known again how long jobs take."""
        self._fall_back()
        for attempt in self._take_all():
            if not self._give_back(attempt):
                self.put(attempt)

    def release(self) -> None:
        """Put back what waits, whatever it is: the worker stops."""
        self.give_back()
        for attempt in self._take_all():
            self._release(attempt)

    def close(self) -> None:
        """Look no more."""
        if self._look is not None:
            self._look.cancel()

    def _as_many_as_soon_begin(self, spent: float) -> int:
        # Jobs that were claimed together end together: what waits behind long ones would wait for a whole run.
        if self._others or self._run_seconds > _LONGEST / 2 * self._ended:
            return 0
        # Of the time that the jobs of the round took, the processor's and their slots', the longer one decides.
        seconds = max(spent, self._run_seconds / self._slots)
        soon = round(_SOON * self._ended / seconds) if seconds > 0 else _MOST
        return min(soon, 2 * self.at_once, _MOST)

    def _measure_anew(self) -> None:
        self._began_at, self._ended, self._run_seconds, self._others = self._spent(), 0, 0.0, 0

    def _fall_back(self) -> None:
        self.at_once, self.beyond, self._began_at = self._least, 0, None

    def _take_all(self) -> list[Attempt]:
        waited = list(self.waiting)
        self.waiting.clear()
        self._begun += len(waited)
        return waited

    def _is_late(self) -> bool:
        return self._loop.time() > self._look_at + _LATE

    def _look_later(self) -> None:
        self._put_at_look = self._put
        self._look_at = self._loop.time() + _LONGEST
        self._look = self._loop.call_later(_LONGEST, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        if self._is_late():
            self.release()
        elif self._begun < self._put_at_look:
            self.give_back()
        elif self.waiting:
            self._look_later()
