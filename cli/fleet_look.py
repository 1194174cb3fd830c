"""One look at queues and workers, for the commands that show them: what is asked of the server, and put together.

Owns the asking. What is printed of it is queues_view.py's, workers_view.py's and top_view.py's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cli.pause import pause_document
from common.fleet import FleetSnapshot
from common.redis.fleet import FleetReader
from common.redis.inspect import queues_in_use

if TYPE_CHECKING:
    from common.pauses import Pause
    from common.redis.inspect import QueueReport
    from common.settings import Settings
    from producer import Producer

__all__ = ["Looker", "QueueStanding", "queue_document"]

_ASK_EVERY = 0.1

_AT_ONCE = 10
"""Queues that are asked about at a time."""


@dataclass(frozen=True, slots=True)
class QueueStanding:
    """How a queue stands, and who serves it.

    Attributes:
        running: attempts of its jobs, as workers last said.
        workers: ids of those that serve it.
        slots: attempts these may run at once, of all their queues together.
    """

    report: QueueReport
    running: int
    workers: tuple[str, ...]
    slots: int
    pause: Pause | None = None

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.report.queue

    @property
    def scheduled(self) -> int:
        """Jobs that are due later; running ones stand among them in the queue, and are taken away as workers say."""
        return max(0, self.report.scheduled - self.running)

    @property
    def forgotten(self) -> bool:
        """Whether jobs are due and no worker serves the queue."""
        return bool(self.report.queued and not self.workers)


class Looker:
    """Looks at one server again and again.

    Args:
        only: at the queues of the settings alone; if not, at those that workers serve and that are paused, too.
    """

    def __init__(self, producer: Producer, settings: Settings, *, only: bool) -> None:
        self.reader = FleetReader(producer.store.client)
        self._producer = producer
        self._given = settings.queues
        self._only = only

    async def snapshot(self) -> FleetSnapshot:
        """Return what workers last reported."""
        return await self.reader.snapshot()

    async def reported_since(self, before: FleetSnapshot, within: float) -> FleetSnapshot:
        """Return a snapshot in which every worker has reported since, as far as they do so in so many seconds."""
        reported = {worker.worker: worker.reported_ms for worker in before.workers}
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        while True:
            await asyncio.sleep(_ASK_EVERY)
            found = await self.snapshot()
            late = [one for one in found.workers if one.reported_ms <= reported.get(one.worker, 0)]
            if not late or loop.time() > until:
                return found

    async def queues(self, snapshot: FleetSnapshot) -> list[QueueStanding]:
        """Return how the queues stand, those of the settings first."""
        pauses = {pause.name: pause for pause in await self._producer.pauses() if pause.kind == "queue"}
        names = list(self._given)
        if not self._only:
            names = list(dict.fromkeys([*queues_in_use(names, snapshot.workers), *sorted(pauses)]))
        found: list[QueueStanding] = []
        for start in range(0, len(names), _AT_ONCE):
            reports = await asyncio.gather(*map(self._producer.inspector.queue, names[start : start + _AT_ONCE]))
            found += [_standing(report, snapshot, pauses.get(report.queue)) for report in reports]
        return found

    async def dead_letters(self) -> int:
        """Return how many jobs that failed for good are kept."""
        return await self._producer.inspector.dead_letters()


def _standing(report: QueueReport, snapshot: FleetSnapshot, pause: Pause | None) -> QueueStanding:
    serving = [worker for worker in snapshot.workers if report.queue in worker.queues]
    return QueueStanding(
        report,
        snapshot.running(report.queue),
        tuple(worker.worker for worker in serving),
        sum(worker.concurrency for worker in serving),
        pause,
    )


def queue_document(standing: QueueStanding) -> dict[str, Any]:
    """Return a queue for a program."""
    return {
        "queue": standing.name,
        "queued": standing.report.queued,
        "oldest_due_seconds": standing.report.oldest_due_seconds,
        "running": standing.running,
        "scheduled": standing.scheduled,
        "workers": list(standing.workers),
        "slots": standing.slots,
        "paused": None if standing.pause is None else pause_document(standing.pause),
    }
