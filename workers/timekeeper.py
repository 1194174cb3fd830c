"""Start this worker's scheduler once there is something to schedule: a worker and a fleet without pay nothing.

Owns when scheduler.py is imported, started and stopped. A worker whose tasks declare schedules starts it with its
first breath; any other one when it hears that there are schedules: on the control channel, or beside its own report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from common.codec import Reading
from common.redis.store import Store
from common.settings import Settings
from common.tasks import Task
from workers.clock import ServerClock
from workers.metrics import Metrics

if TYPE_CHECKING:
    from workers.scheduler import Scheduler

__all__ = ["Timekeeper"]

_LAST_CALL = 1.0
"""Seconds to wait, at a stop, for a call to the server that is on its way."""


class Timekeeper:
    """The scheduler of one worker, if there is one.

    Args:
        queue: where the jobs of schedules go that name none.
        metrics: counts ticks, where somebody watches.
    """

    def __init__(
        self,
        tasks: Sequence[Task[..., Any]],
        queue: str,
        settings: Settings,
        reading: Reading,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics
        self._declared = [schedule for task in tasks for schedule in task.schedules]
        self._queue = queue
        self._settings = settings
        self._reading = reading
        self._store: Store | None = None
        self._clock = ServerClock()
        self._scheduler: Scheduler | None = None
        self._running: asyncio.Task[None] | None = None

    def start(self, store: Store, clock: ServerClock) -> None:
        """Begin, if the code of this worker declares schedules; listen for those of others in any case.

        Raises:
            ConfigurationError, NotSerializable: a schedule that is declared cannot be.
        """
        self._store, self._clock = store, clock
        if self._declared:
            self._begin(store)

    def changed(self) -> None:
        """Look at the fleet's schedules: one was added, changed or removed."""
        if self._scheduler is not None:
            self._scheduler.changed()
        elif self._store is not None:
            self._begin(self._store)

    def look(self, revision: bytes | None) -> None:
        """Look at the fleet's schedules if this is not the revision that is known; None says that there are none."""
        known = self._scheduler.revision if self._scheduler is not None else None
        if revision != known:
            self.changed()

    def cease(self) -> None:
        """Tick no more: this worker takes no more jobs, and others are there."""
        self._store = self._scheduler = None
        if self._running is not None:
            self._running.cancel()

    async def stop(self) -> None:
        """Cease, and wait for the end of it."""
        self.cease()
        running, self._running = self._running, None
        if running is not None:
            await asyncio.wait({running}, timeout=_LAST_CALL)

    def _begin(self, store: Store) -> None:
        # Imported here, once it is needed: see the top of this file.
        from common.redis.schedules import ScheduleStore  # noqa: PLC0415
        from workers.scheduler import Scheduler  # noqa: PLC0415

        self._scheduler = Scheduler(
            ScheduleStore(store.client),
            self._declared,
            queue=self._queue,
            form="pickle" if self._settings.payload_format == "pickle" else "msgpack",
            reading=self._reading,
            clock=self._clock,
            metrics=self._metrics,
        )
        self._running = asyncio.create_task(self._scheduler.run(), name="barque-scheduler")
