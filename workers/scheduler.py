"""Enqueue what the fleet's schedules ask for, at its time.

Owns one worker's part: declaring what its code declares, sleeping until the next tick, planning which ticks may be due,
and the log of what came of it. Any worker ticks any schedule; which ticks are due, and that one worker is heard, is
decided by redis/lua/tick.lua alone, so a worker may die, stall or have the wrong time at any point of this file. It is
imported and started by timekeeper.py, when there is something to schedule.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple, TypeVar

import structlog

from common.codec import Form, Reading
from common.errors import ConfigurationError, PayloadError, Undecodable
from common.redis import reasons
from common.redis.connection import TROUBLE
from common.redis.records import Rank
from common.redis.schedules import (
    BELIEVED_MS,
    DECLARE_EVERY,
    Declaration,
    Judged,
    Plan,
    PlannedTick,
    ScheduleStore,
    Snapshot,
)
from common.schedule_records import ScheduleRecord, decode_record, digest, encode_record, job_id_of, payload_of
from common.schedules import MOST_MISSED, Schedule, Timetable, as_moment
from workers.backoff import Backoff
from workers.clock import ServerClock
from workers.metrics import Metrics

__all__ = ["Scheduler"]

log = structlog.get_logger("barque.scheduler")

T = TypeVar("T")

_MOST_AT_ONCE = 100
"""Schedules in one call."""

_MOST_BYTES = 4 * 1024 * 1024
"""Payloads in one call: the server copies them while all others wait."""

_AHEAD = 2
"""Ticks of the future in a plan, should they be due by the time it is judged."""

_AGAIN_MS = 5_000
"""After so long a schedule is tried again whose job could not be made, or that its queue did not take."""

_LEFT_OUT = {
    "passed": "missed",
    "busy": "the job before has not ended",
    "held": "a job of its unique key is there",
}
"""Why a tick that was due did not run."""

_FAR_MS = 3600_000
"""The longest sleep: clocks drift."""


class _Declared(NamedTuple):
    timetable: Timetable
    name: str
    digest: str
    record: bytes


class Scheduler:
    """Ticks the fleet's schedules until cancelled.

        declare what the code has ─► read all schedules ─► plan what is due ─► tick.lua judges ─► sleep
                ▲ every 20 s               ▲ when one changed         ▲ until none is due            │
                └──────────────────────────┴──────────────────────────┴──────────────────────────────┘

    Args:
        declared: what the code of this worker declares.
        queue: where the jobs of those go that name no queue.
        form, reading: how payloads and records are written, signed and read.
        patience: seconds to wait for a reply.
        metrics: counts ticks, where somebody watches.

    Raises:
        ConfigurationError: two of them have one name.
        NotSerializable: an argument of one cannot travel.
    """

    def __init__(
        self,
        store: ScheduleStore,
        declared: Sequence[Schedule],
        *,
        queue: str,
        form: Form,
        reading: Reading,
        clock: ServerClock,
        patience: float = 10.0,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics
        self._store = store
        self._form: Form = form
        self._reading = reading
        self._clock = clock
        self._patience = patience
        self._declared = [self._declaration(schedule, queue) for schedule in declared]
        _check_names(declared)
        self._declare_at = 0.0
        self._words: dict[str, str] = {}
        self._known = Snapshot()
        self._records: dict[str, tuple[bytes, ScheduleRecord | None]] = {}
        self._next: dict[str, int] = {}
        self._stale = True
        self._poked = asyncio.Event()
        self._backoff = Backoff()

    @property
    def revision(self) -> bytes | None:
        """The revision of the fleet's schedules that this worker knows; None where there are none."""
        return self._known.revision

    def changed(self) -> None:
        """Read the schedules again, at once: one was changed, or may have been."""
        self._stale = True
        self._poked.set()

    async def run(self) -> None:
        """Tick until cancelled, whatever the server does."""
        while True:
            try:
                await self._step()
            except TROUBLE as error:
                log.warning("schedules_not_reached", error=f"{type(error).__name__}: {reasons.reason(error)[0]}")
            except Exception as error:  # without this task no schedule would tick here, and nobody would know why
                self._log_failure(error)
            else:
                self._backoff.reset()
                await self._sleep()
                continue
            self._stale = True
            await asyncio.sleep(self._backoff.next())

    async def tick_once(self) -> None:
        """Declare what this worker's code declares, and tick what is due now; for who has no time of its own to run in.

        Raises:
            redis.exceptions.RedisError, TimeoutError: the server did not take it.
        """
        await self._load()
        if self._declared:
            await self._declare()
        self._stale = True  # what nobody had declared for long is believed again
        await self._step()

    @property
    def next_tick_ms(self) -> int | None:
        """When the next tick is, Unix ms by the server's clock, as far as this worker knows."""
        return min(self._next.values(), default=None)

    def _log_failure(self, error: Exception) -> None:
        log.error("scheduler_failed", error=f"{type(error).__name__}: {error}", schedules=len(self._next))

    async def _step(self) -> None:
        if self._stale:
            await self._load()
        if self._declared and asyncio.get_running_loop().time() >= self._declare_at:
            await self._declare()
            if self._stale:
                await self._load()
        while due := self._due():
            await self._tick(due)
            if self._stale:
                await self._load()
            await asyncio.sleep(0)

    async def _sleep(self) -> None:
        """Wait until the next tick, the next declaration, or a change."""
        earliest = min(self._next.values(), default=None)
        ahead = _FAR_MS if earliest is None else earliest - self._clock.now_ms()
        seconds = min(max(ahead, 1), _FAR_MS) / 1000
        if self._declared:
            seconds = min(seconds, max(0.001, self._declare_at - asyncio.get_running_loop().time()))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._poked.wait(), seconds)
        self._poked.clear()

    async def _answer(self, call: Awaitable[T]) -> T:
        async with asyncio.timeout(self._patience):
            return await call

    async def _load(self) -> None:
        # What changes while the reply is on its way makes it stale again.
        self._stale = False
        self._known = known = await self._answer(self._store.load())
        self._clock.set(known.now_ms)
        self._records = {name: self._read(name, raw) for name, raw in known.records.items()}
        self._next = {
            name: tick
            for name, tick in known.next_ms.items()
            if self._records.get(name, (b"", None))[1] is not None and (name not in known.declared or known.live(name))
        }

    def _read(self, name: str, raw: bytes) -> tuple[bytes, ScheduleRecord | None]:
        read_before = self._records.get(name)
        if read_before is not None and read_before[0] == raw:
            return read_before
        try:
            return raw, decode_record(raw, name, self._reading)
        except Undecodable as error:
            # Written by a newer version, a foreign program, or without our key; the others tick on.
            self._log_refused(name, error)
            return raw, None

    async def _declare(self) -> None:
        now = self._clock.now_ms()
        declarations = [
            Declaration(mine.name, mine.digest, mine.record, mine.timetable.next_after(now)) for mine in self._declared
        ]
        words = await self._answer(self._store.declare(declarations))
        self._declare_at = asyncio.get_running_loop().time() + DECLARE_EVERY
        for mine, word in zip(self._declared, words, strict=True):
            if self._words.get(mine.name) != word:
                self._log_declared(mine.name, word)
                self._words[mine.name] = word
                self._stale = True

    def _log_refused(self, name: str, error: Exception) -> None:
        # Another's error may quote an argument.
        why = f": {error}" if isinstance(error, PayloadError) else ""
        log.error("schedule_refused", schedule=name, error=f"{type(error).__name__}{why}")

    def _log_declared(self, name: str, word: str) -> None:
        if word == "current":
            log.info("schedule_declared", schedule=name)
        elif word == "older":
            log.info("schedule_superseded", schedule=name, by="a newer declaration that another worker has")
        else:
            log.error("schedule_name_taken", schedule=name, hint="one of this name was added by hand: remove it")

    def _due(self) -> list[str]:
        now = self._clock.now_ms()
        due = [name for name, tick in self._next.items() if tick <= now]
        return sorted(due, key=self._next.__getitem__)[:_MOST_AT_ONCE]

    async def _tick(self, names: Sequence[str]) -> None:
        revision = self._known.revision
        if revision is None:
            self._stale = True
            return
        plans: list[Plan] = []
        now, room = self._clock.now_ms(), _MOST_BYTES
        for name in names:
            plan = self._plan(name, now, room)
            if plan is None:
                continue
            plans.append(plan)
            room -= sum(len(tick.payload) for tick in plan.ticks)
            if room <= 0:
                break
        if not plans:
            return
        ticked = await self._answer(self._store.tick(revision, plans, now_ms=now))
        self._clock.set(ticked.now_ms)
        if ticked.judged is None:
            self._stale = True
            return
        for plan, judged in zip(plans, ticked.judged, strict=True):
            self._take(plan, judged, ticked.now_ms)

    def _plan(self, name: str, now: int, room: int) -> Plan | None:
        """Return what is to be done about a schedule that seems to be due, its payloads within so many bytes."""
        record = self._records[name][1]
        assert record is not None  # others have no next tick here
        timetable, since = record.timetable, self._next[name]
        missed = timetable.latest(since - 1, now, MOST_MISSED if record.missed == "all" else 1)
        ahead = timetable.upcoming(missed[-1] if missed else max(now, since - 1))
        ticks: list[PlannedTick] = []
        following: int | None = None
        for tick_ms in itertools.chain(missed, itertools.islice(ahead, _AHEAD + 1)):
            following = tick_ms
            if len(ticks) == len(missed) + _AHEAD or (ticks and room <= 0):
                break
            following = None
            try:
                ticks.append(self._planned(record, name, tick_ms, now))
            except Exception as error:  # a serializer of the user's own may raise anything; the others tick on
                self._log_refused(name, error)
                self._put_off(name)
                return None
            room -= len(ticks[-1].payload)
        rank = Rank(record.priority, record.lane)
        return Plan(name, record.queue, since, record.missed, record.overlap, ticks, following, record.unique, rank)

    def _planned(self, record: ScheduleRecord, name: str, tick_ms: int, now: int) -> PlannedTick:
        job_id = job_id_of(name, tick_ms)
        payload = payload_of(
            record, name, job_id=job_id, tick_ms=tick_ms, now_ms=now, form=self._form, reading=self._reading
        )
        return PlannedTick(tick_ms, record.timetable.delay_ms(), job_id, payload)

    def _take(self, plan: Plan, judged: Judged, now_ms: int) -> None:
        """Take note of the next tick in force, and say what came of the plan."""
        if judged.next_ms is None or judged.word == "orphan":
            # It is back with another revision, once it is resumed or declared again.
            self._next.pop(plan.name, None)
        else:
            self._next[plan.name] = judged.next_ms
        if judged.word == "refused":
            log.error("schedule_not_enqueued", schedule=plan.name, queue=plan.queue, error=judged.why)
            self._put_off(plan.name)
        elif judged.word == "orphan":
            log.info("schedule_orphaned", schedule=plan.name, declared_by_none_for_s=BELIEVED_MS / 1000)
        elif judged.word in _LEFT_OUT:
            why = _LEFT_OUT[judged.word]
            log.warning(
                "schedule_tick_left_out", schedule=plan.name, why=why, since=as_moment(plan.next_ms).isoformat()
            )
        if judged.ran and plan.missed == "all":
            self._log_dropped(plan)
        if self._metrics is not None:
            self._metrics.ticked(len(judged.ran), left_out=judged.word in _LEFT_OUT, refused=judged.word == "refused")
        for tick in judged.ran:
            log.info(
                "schedule_ticked",
                schedule=plan.name,
                tick=as_moment(tick.tick_ms).isoformat(),
                job_id=tick.job_id,
                queue=plan.queue,
                late_ms=now_ms - tick.tick_ms,
            )

    def _log_dropped(self, plan: Plan) -> None:
        """Say so if more ticks were missed than are made up for."""
        record, first = self._records[plan.name][1], plan.ticks[0].tick_ms
        if record is not None and record.timetable.next_after(plan.next_ms - 1) != first:
            log.warning(
                "schedule_ticks_dropped", schedule=plan.name, before=as_moment(first).isoformat(), kept=MOST_MISSED
            )

    def _put_off(self, name: str) -> None:
        # The others tick on meanwhile.
        self._next.pop(name, None)
        asyncio.get_running_loop().call_later(_AGAIN_MS / 1000, self.changed)

    def _declaration(self, schedule: Schedule, queue: str) -> _Declared:
        task = schedule.call.task
        own = schedule.queue or (task.options.queue if task is not None else None) or queue
        record = ScheduleRecord.of(schedule.call, schedule.timetable, queue=own, declared=True)
        raw = encode_record(record, schedule.name, self._reading)
        return _Declared(schedule.timetable, schedule.name, digest(raw), raw)


def _check_names(declared: Sequence[Schedule]) -> None:
    seen: dict[str, Any] = {}
    for schedule in declared:
        other = seen.setdefault(schedule.name, schedule.call)
        if other is not schedule.call:
            raise ConfigurationError(
                f"two schedules are called {schedule.name!r}, one of the task {other.name}, the other of "
                f"{schedule.call.name}; rename one of them"
            )
