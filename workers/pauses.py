"""What is paused, as this worker knows it: told on the control channel, looked at anew with each report.

Owns the log lines about it and the doors of paused tasks. A paused queue needs nothing of a worker: claims find nothing
in it. A paused task does, for only workers know whose job is whose: its jobs have one gate more to pass, a door that is
shut (workers/admission.py), and wait in its lane. When the task is resumed, whoever hears of it calls them up, some at
a time, until none are left: who began with that may be gone.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import structlog

from common.pauses import Pause, read_pause
from common.redis.connection import TROUBLE
from common.redis.control import ControlStore, Paused, Standing, door_of
from workers.backoff import Backoff
from workers.gates import TaskGates

if TYPE_CHECKING:
    from common.codec import Payload
    from common.redis.limits import Gate
    from workers.runnables import Runnable

__all__ = ["Pauses"]

log = structlog.get_logger("barque.pauses")

_LOOK_EVERY = 5.0
"""Seconds between looks, should an order have been lost."""

_BETWEEN_STEPS = 0.01
"""Seconds between steps in which jobs are called up: several workers may do so at once."""


class Pauses:
    """Follows what is paused.

    Args:
        queues: those this worker serves.
        runnables: what it runs, by name.
    """

    def __init__(self, store: ControlStore, queues: Collection[str], runnables: Mapping[str, Runnable]) -> None:
        self._store = store
        self._queues = queues
        self._runnables = runnables
        self._known: dict[tuple[Paused, str], Pause] = {}
        self._open: dict[str, TaskGates | None] = {}  # limits of paused tasks, as they were
        self._looked_at = -math.inf
        self._looking: asyncio.Task[None] | None = None
        self._look_again = False
        self._one_at_a_time = asyncio.Lock()
        self._calling: dict[str, asyncio.Task[None]] = {}

    @property
    def of_ours(self) -> list[str]:
        """What is paused of the queues and tasks of this worker: `queue:<name>`, `task:<name>`."""
        mine = {"queue": self._queues, "task": self._open}
        return [f"{kind}:{name}" for kind, name in self._known if name in mine[kind]]

    async def look(self) -> None:
        """See what is paused now, unless that was just done.

        Raises:
            redis.exceptions.RedisError and the like: the server cannot be asked; what was known stays.
        """
        if time.monotonic() - self._looked_at >= _LOOK_EVERY:
            await self._look()

    def changed(self) -> None:
        """See what is paused, in the background: it has changed, or orders may have been missed."""
        self._look_again = True
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_until_done(), name="barque-pauses")

    def of_queues(self) -> list[Pause]:
        """Return the pauses of queues that this worker serves; from any thread."""
        return [pause for (kind, name), pause in self._known.items() if kind == "queue" and name in self._queues]

    def close(self) -> None:
        """End what goes on in the background."""
        for task in (self._looking, *self._calling.values()):
            if task is not None:
                task.cancel()

    async def _look_until_done(self) -> None:
        backoff = Backoff()
        try:
            while self._look_again:
                self._look_again = False
                try:
                    await self._look()
                except TROUBLE:
                    self._look_again = True
                    await asyncio.sleep(backoff.next())
        finally:
            self._looking = None

    async def _look(self) -> None:
        async with self._one_at_a_time:  # of two replies the older one must not be the last
            self._take(await self._store.standing())

    def _take(self, standing: Standing) -> None:
        self._looked_at = time.monotonic()
        found = {(stored.kind, stored.name): read_pause(*stored) for stored in standing.pauses}
        for place, pause in found.items():
            if place not in self._known:
                self._begin(pause)
        for place, pause in self._known.items():
            if place not in found:
                self._end(pause)
        self._known = found
        for task in standing.resuming:
            if task not in self._calling:
                self._calling[task] = asyncio.create_task(self._call_up(task), name="barque-resume")

    def _begin(self, pause: Pause) -> None:
        if pause.kind == "queue" and pause.name in self._queues:
            log.warning("queue_paused", queue=pause.name, **_said(pause))
        runnable = self._runnables.get(pause.name) if pause.kind == "task" else None
        if runnable is not None:
            self._open[pause.name] = runnable.limits
            runnable.limits = _WithDoor(runnable.limits, door_of(pause.name))
            log.warning("task_paused", task=pause.name, **_said(pause))

    def _end(self, pause: Pause) -> None:
        if pause.kind == "queue" and pause.name in self._queues:
            log.info("queue_resumed", queue=pause.name)
        if pause.kind == "task" and pause.name in self._open:
            self._runnables[pause.name].limits = self._open.pop(pause.name)
            log.info("task_resumed", task=pause.name)

    async def _call_up(self, task: str) -> None:
        try:
            left = await self._store.call_up(task)
            while left:
                await asyncio.sleep(_BETWEEN_STEPS)
                left = await self._store.call_up(task)
        except TROUBLE as error:  # looked at again with the next report
            log.warning("resuming_waits", task=task, error=f"{type(error).__name__}: {error}")
        finally:
            del self._calling[task]


class _WithDoor(TaskGates):
    """A task's limits, if it has any, and a door before them all."""

    def __init__(self, inner: TaskGates | None, door: Gate) -> None:
        self._inner = inner
        self._door = door
        self.breaks = inner is not None and inner.breaks
        self.holds = inner is not None and inner.holds
        self.leaves = inner is not None and inner.leaves

    def of_job(self, payload: Payload) -> tuple[tuple[Gate, float], ...]:
        inner = () if self._inner is None else self._inner.of_job(payload)
        return ((self._door, 1.0), *inner)

    def counts(self, kind: type[BaseException]) -> dict[str, bool]:
        return {} if self._inner is None else self._inner.counts(kind)

    def held_by(self, passed: Gate) -> bool:
        return self._inner is not None and self._inner.held_by(passed)

    def tolerance(self) -> float:
        return math.inf if self._inner is None else self._inner.tolerance()


def _said(pause: Pause) -> dict[str, Any]:
    return {"since": pause.since.isoformat(timespec="seconds"), "by": pause.by, "reason": pause.reason}
