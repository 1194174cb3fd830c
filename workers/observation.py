"""What a worker counts and tells only while somebody looks on: figures by task, the slowest attempts, each attempt.

Owns for how long that is, and what is dropped once it is over: a worker on which nobody looks has one `is None` in the
way of its jobs, as one without metrics has. What those who look on say comes by the control connection
(workers/control.py), and is said again every few seconds. Counting is metrics.py's, the reports reports.py's.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from common.jobs import OutcomeKind
from common.redis.connection import TROUBLE
from common.redis.looks import read_look
from common.worker_reports import LONGEST_NAME, AttemptLines, EndedAttempt, Figures, TaskFigures, bounded
from workers.attempt import Outcome
from workers.metrics import Metrics, Recorded
from workers.telling import told_of

if TYPE_CHECKING:
    from workers.clock import ServerClock

__all__ = ["Observation"]

Publish = Callable[[AttemptLines], Awaitable[int]]
"""Tells who follows attempts; returns how many do."""

_MOST_TASKS = 100
"""Tasks in a report: one has some 200 bytes."""

_MOST_SLOWEST = 20

_SLOWEST_FOR = 30.0
"""Seconds for which the slowest attempts are collected; a report has those of this time and of the one before."""

_LINES_PER_SECOND = 200
_LINES_BESIDES = 200
"""A second, of attempts that failed, and of tasks of which few have been told: many of one task hide no other."""
_FEW = 10


class Observation:
    """Looks on at one worker for others, while they ask for it.

    Args:
        publish: tells who follows attempts.
        kept: counts in any case, where the worker has a page of metrics.
        look: called with what is to be told of recorded attempts from now on; None is nothing.
        report: called when figures are wanted, and every second while they are.
    """

    def __init__(
        self,
        worker: str,
        publish: Publish,
        clock: ServerClock,
        *,
        kept: Recorded | None,
        look: Callable[[Recorded | None], None],
        report: Callable[[], None],
    ) -> None:
        self._worker = worker
        self._publish = publish
        self._clock = clock
        self._kept = kept
        self._look = look
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._counted: _Counted | None = None
        self._told: _Told | None = None
        self._until = {"figures": 0.0, "attempts": 0.0}
        self._next: asyncio.TimerHandle | None = None

    @property
    def figures(self) -> Figures | None:
        """What was counted by task, as a report has it; None while nobody wants it."""
        return None if self._counted is None else self._counted.figures()

    def asked(self, message: bytes) -> None:
        """Take what somebody says who looks on."""
        found = read_look(message)
        if found is None:
            return
        what, seconds = found
        self._until[what] = max(self._until[what], self._loop.time() + seconds)
        if self._next is None:
            self._every_second()
        else:
            self._begin_or_end()

    def recorded(self, outcomes: Sequence[Outcome]) -> None:
        """Tell of a batch of outcomes that the server has."""
        if self._kept is not None:
            self._kept.recorded(outcomes)
        self._take([outcome for outcome in outcomes if outcome.kind is not OutcomeKind.PASSED_ON])

    def lost(self, outcome: Outcome) -> None:
        """Tell of an attempt whose outcome the server refused."""
        if self._kept is not None:
            self._kept.lost(outcome)
        self._take([outcome])

    def close(self) -> None:
        """Look on no more."""
        if self._next is not None:
            self._next.cancel()
        self._until = {"figures": 0.0, "attempts": 0.0}
        self._begin_or_end()

    def _take(self, outcomes: Sequence[Outcome]) -> None:
        now_ms = self._clock.now_ms()
        if self._counted is not None:
            self._counted.add(outcomes, now_ms)
        if self._told is not None:
            self._told.add(outcomes, now_ms)

    def _every_second(self) -> None:
        self._begin_or_end()
        wanted = self._counted is not None or self._told is not None
        self._next = self._loop.call_later(1.0, self._every_second) if wanted else None
        if self._counted is not None:
            self._report()

    def _begin_or_end(self) -> None:
        now = self._loop.time()
        wants_figures, wants_attempts = self._until["figures"] > now, self._until["attempts"] > now
        if wants_figures and self._counted is None:
            self._counted = _Counted(self._clock.now_ms())
        elif not wants_figures:
            self._counted = None
        if wants_attempts and self._told is None:
            self._told = _Told(self._worker, self._publish, self._nobody_listens)
        elif not wants_attempts and self._told is not None:
            self._told.close()
            self._told = None
        self._look(self._kept if self._counted is None and self._told is None else self)

    def _nobody_listens(self) -> None:
        self._until["attempts"] = 0.0


class _Counted:
    """Figures by task since somebody wanted them."""

    def __init__(self, since_ms: int) -> None:
        self._since_ms = since_ms
        self._metrics = Metrics()
        self._slowest = _Slowest()

    def add(self, outcomes: Sequence[Outcome], now_ms: int) -> None:
        self._metrics.recorded(outcomes)
        for outcome in outcomes:
            self._slowest.add(outcome, now_ms)

    def figures(self) -> Figures:
        tasks = self._metrics.tasks.items()
        if len(tasks) > _MOST_TASKS:
            tasks = heapq.nlargest(_MOST_TASKS, tasks, key=lambda item: sum(item[1].outcomes.values()))  # type: ignore[assignment]
        return Figures(
            self._since_ms,
            {
                bounded(name, LONGEST_NAME): TaskFigures(
                    {kind.value: count for kind, count in one.outcomes.items()},
                    one.queue_wait.counts,
                    one.run.counts,
                    round(one.queue_wait.total, 6),
                    round(one.run.total, 6),
                    round(one.busy, 6),
                )
                for name, one in tasks
            },
            self._slowest.found(),
        )


class _Slowest:
    """The attempts that took longest lately: those of two spans of time, this one and the one before."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._now: list[tuple[float, int, EndedAttempt]] = []  # heaps, the fastest first
        self._before: list[tuple[float, int, EndedAttempt]] = []
        self._number = 0

    def add(self, outcome: Outcome, now_ms: int) -> None:
        seconds = outcome.run_seconds
        if len(self._now) >= _MOST_SLOWEST and seconds <= self._now[0][0]:
            return
        self._turn()
        self._number += 1
        heapq.heappush(self._now, (seconds, self._number, told_of(outcome, now_ms)))
        if len(self._now) > _MOST_SLOWEST:
            heapq.heappop(self._now)

    def found(self) -> list[EndedAttempt]:
        self._turn()
        return [told for *_, told in heapq.nlargest(_MOST_SLOWEST, self._now + self._before)]

    def _turn(self) -> None:
        gone = time.monotonic() - self._begun
        if gone < _SLOWEST_FOR:
            return
        self._before = self._now if gone < 2 * _SLOWEST_FOR else []
        self._now = []
        self._begun = time.monotonic()


class _Told:
    """Tells who follows of attempts as they are recorded, but not of more a second than a person or a server bears."""

    def __init__(self, worker: str, publish: Publish, nobody_listens: Callable[[], None]) -> None:
        self._worker = worker
        self._publish = publish
        self._nobody_listens = nobody_listens
        self._lines: list[EndedAttempt] = []
        self._left_out = 0
        self._second = 0.0
        self._by_task: Counter[str] = Counter()
        self._besides = 0
        self._sending: asyncio.Task[None] | None = None

    def add(self, outcomes: Sequence[Outcome], now_ms: int) -> None:
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._second, self._besides = now, 0
            self._by_task.clear()
        for outcome in outcomes:
            if self._may(outcome):
                self._lines.append(told_of(outcome, now_ms))
            else:
                self._left_out += 1
        if self._lines and self._sending is None:
            self._sending = asyncio.create_task(self._send(), name="barque-attempts")

    def close(self) -> None:
        if self._sending is not None:
            self._sending.cancel()

    def _may(self, outcome: Outcome) -> bool:
        name = outcome.attempt.task_name
        if self._by_task.total() - self._besides < _LINES_PER_SECOND:
            self._by_task[name] += 1
            return True
        if self._besides >= _LINES_BESIDES or (outcome.error is None and self._by_task[name] >= _FEW):
            return False
        self._besides += 1
        self._by_task[name] += 1
        return True

    async def _send(self) -> None:
        """Send what there is; what comes meanwhile goes with the next message."""
        try:
            while self._lines:
                lines, self._lines = self._lines, []
                left_out, self._left_out = self._left_out, 0
                if not await self._publish(AttemptLines(self._worker, lines, left_out)):
                    self._nobody_listens()
        except TROUBLE:  # a server that is away: who follows is told so by their own connection
            self._lines.clear()
        finally:
            self._sending = None
