"""The one look at the fleet that all pages share, and the samples their charts are drawn of.

Owns when Redis is asked: at the most once in `every` seconds, however many ask, and not at all when nobody does; and
what is kept of the past, in this process alone: a chart begins when somebody first looks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from common.distribution import Distribution
from common.fleet import Activity, FleetHistory, FleetSnapshot
from common.pauses import Pause
from common.redis.fleet import FleetReader
from common.redis.inspect import QueueReport, queues_in_use
from dashboard.source import Source
from producer import Producer

__all__ = ["FleetWatch", "Look", "Sample"]

_SPAN = 300.0
"""Seconds of samples that are kept."""

_OBSERVE_EVERY = 5.0
"""Seconds after which workers are told again that somebody looks on."""

_MOST_QUEUES = 500
"""Queues that are looked at; more than anybody reads, and than a look should ask for."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What charts show of one moment.

    Attributes:
        at: Unix seconds by the server's clock.
        succeeded, retried, failed: attempts that ended, a second; None before there are two looks.
        run_ms, wait_ms: percentiles 50, 95 and 99 of the last ten seconds' attempts; None where none ended.
        oldest_seconds: for how long the first due job of any queue has been due; 0 where none is.
    """

    at: float
    succeeded: float | None
    retried: float | None
    failed: float | None
    run_ms: tuple[float | None, float | None, float | None]
    wait_ms: tuple[float | None, float | None, float | None]
    due: int
    running: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Look:
    """The fleet at one moment.

    Attributes:
        activity: what happened in the ten seconds before.
        run, wait: of all tasks' attempts in these, how long they ran, and waited when they were due.
        dead: letters that are kept.
    """

    fleet: FleetSnapshot
    activity: Activity
    queues: Sequence[QueueReport]
    pauses: Sequence[Pause]
    dead: int
    run: Distribution
    wait: Distribution

    @property
    def now_ms(self) -> int:
        """Unix ms by the server's clock."""
        return self.fleet.taken_ms

    @property
    def due(self) -> int:
        """Jobs that wait for a worker."""
        return sum(queue.queued for queue in self.queues)

    @property
    def later(self) -> int:
        """Jobs due later, as far as they can be told from those that run."""
        return max(0, sum(queue.scheduled for queue in self.queues) - self.fleet.running())

    @property
    def oldest(self) -> tuple[float, str] | None:
        """For how many seconds the first due job has been due, and its queue."""
        ages = [(each.oldest_due_seconds, each.queue) for each in self.queues if each.oldest_due_seconds is not None]
        return max(ages, default=None)

    def pause_of(self, queue: str) -> Pause | None:
        """Return the pause of a queue."""
        return next((pause for pause in self.pauses if pause.kind == "queue" and pause.name == queue), None)


class FleetWatch:
    """Looks at the fleet for all pages.

    Args:
        every: seconds for which a look is new enough.
    """

    def __init__(self, source: Source, *, every: float) -> None:
        self.every = every
        self.span = _SPAN
        self._source = source
        self._samples: deque[Sample] = deque(maxlen=int(_SPAN / every) + 2)
        self._history = FleetHistory()
        self._last: tuple[float, Look] | None = None
        self._told = float("-inf")
        self._looking = asyncio.Lock()

    @property
    def samples(self) -> Sequence[Sample]:
        """The samples of the last minutes, the oldest first."""
        return tuple(self._samples)

    async def look(self) -> Look:
        """Return how the fleet stands, as of less than `every` seconds ago.

        Raises:
            RedisUnavailable: the server cannot be reached, or gives no answer.
        """
        loop = asyncio.get_running_loop()
        async with self._looking:
            # A little less: who asks every so many seconds is not to be given the same twice.
            if self._last is None or loop.time() - self._last[0] > self.every * 0.8:
                found = await self._source.ask("how the fleet stands", self._read)
                self._last = (loop.time(), found)
                self._samples.append(_sample(found))
            return self._last[1]

    def look_anew(self) -> None:
        """Have the next one who asks be told of what was just changed."""
        self._last = None

    async def _read(self, producer: Producer) -> Look:
        reader, now = FleetReader(producer.store.client), asyncio.get_running_loop().time()
        if now - self._told > _OBSERVE_EVERY:
            await reader.observe()
            self._told = now
        fleet = await reader.snapshot()
        inspector = producer.inspector
        pauses, dead = await producer.pauses(), await inspector.dead_letters()
        # A queue that nobody serves any more may still be paused, and has to be seen to be resumed.
        paused = [pause.name for pause in pauses if pause.kind == "queue"]
        names = dict.fromkeys([*queues_in_use(self._source.settings.queues, fleet.workers), *paused])
        queues = [await inspector.queue(name) for name in list(names)[:_MOST_QUEUES]]
        activity = self._history.add(fleet)
        run = sum((task.summary.run for task in activity.tasks.values()), Distribution())
        wait = sum((task.summary.queue_wait for task in activity.tasks.values()), Distribution())
        return Look(fleet, activity, queues, pauses, dead, run, wait)


def _sample(look: Look) -> Sample:
    known = bool(look.activity.workers) or not look.fleet.workers
    oldest = look.oldest
    return Sample(
        at=look.now_ms / 1000,
        succeeded=look.activity.succeeded if known else None,
        retried=look.activity.retried if known else None,
        failed=look.activity.failed if known else None,
        run_ms=_percentiles(look.run),
        wait_ms=_percentiles(look.wait),
        due=look.due,
        running=look.fleet.running(),
        oldest_seconds=0.0 if oldest is None else oldest[0],
    )


def _percentiles(found: Distribution) -> tuple[float | None, float | None, float | None]:
    p50, p95, p99 = (found.percentile(percent) for percent in (50, 95, 99))
    return _ms(p50), _ms(p95), _ms(p99)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
