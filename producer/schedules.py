"""`producer.schedules`: schedules added, changed, paused and removed while the fleet runs.

Owns what these calls check and say; the scripts behind them are common/redis/schedules.py's. `BlockingSchedules` is
the same for synchronous code.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from common.errors import ConfigurationError, PayloadTooLarge, ScheduleExists, ScheduleNotFound, Undecodable
from common.redis.schedules import ScheduleStore, Snapshot
from common.schedule_records import ScheduleInfo, ScheduleRecord, decode_record, encode_record
from common.schedules import Timetable, as_moment, check_name
from common.tasks import Call
from producer.options import check_name as check_queue
from producer.options import not_one_call

if TYPE_CHECKING:
    from producer.blocking import BlockingJob, BlockingProducer
    from producer.client import Producer
    from producer.job import Job

__all__ = ["BlockingSchedules", "Schedules"]

T = TypeVar("T")


class Schedules:
    """The schedules of the fleet, of one producer's server.

        await producer.schedules.add("reports-north", send_region("north"), cron("30 6 * * *"))

    All of them are shown, paused and run at will; added, changed and removed are those that no code declares.
    """

    __slots__ = ("_producer",)

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def add(
        self,
        name: str,
        call: Call[Any],
        when: Timetable,
        *,
        queue: str | None = None,
        replace: bool = False,
    ) -> ScheduleInfo:
        """Add a schedule; every worker of the fleet knows of it at once.

        Added again as it is, it keeps its next run and all else, so a program may add its schedules at each start.

        Args:
            name: what it is known by.
            call: a task called with its arguments, or `Call("name", …)`.
            when: from `cron` or `every`.
            queue: where its jobs go, instead of the task's own queue, or the first of `BARQUE_QUEUES`.
            replace: change one of this name that is there. It keeps its last run, and its pause.

        Returns: how it stands.

        Raises:
            ScheduleExists: another one of this name is there, or code that live workers run declares one.
            ConfigurationError: the name cannot be one, or what is given is no call or no timetable.
            NotSerializable, PayloadTooLarge: the arguments cannot travel.
        """
        check_name(name)
        if not isinstance(call, Call):
            raise not_one_call(call)
        if not isinstance(when, Timetable):
            raise ConfigurationError(f"schedule {name}: give cron(…) or every(…), got {type(when).__name__}")
        settings = self._producer.settings
        own = (call.task.options.queue if call.task is not None else None) or settings.queues[0]
        place = check_queue("queue", own if queue is None else queue)
        record = ScheduleRecord.of(call, when, queue=place, declared=False)
        raw = encode_record(record, name, self._producer.reading)
        if len(raw) > settings.max_payload_bytes:
            raise PayloadTooLarge(
                f"schedule {name}: it has {len(raw):,} bytes, the limit for a job is {settings.max_payload_bytes:,} "
                "(BARQUE_MAX_PAYLOAD_BYTES). Store large data elsewhere and pass where it is."
            )
        first = when.next_after((await self._load()).now_ms)
        word = await self._ask(self._store.add(name, raw, first, replace=replace), f"schedule {name} to be added")
        if word == "exists":
            raise ScheduleExists(
                f"there is a schedule called {name!r} already, and a different one; replace=True (--replace) changes it"
            )
        if word == "declared":
            raise ScheduleExists(f"a schedule called {name!r} is declared in the code of live workers; change it there")
        return await self.get(name)

    async def remove(self, name: str) -> bool:
        """Remove a schedule; return whether it was there. Jobs that came of it are left alone.

        Raises:
            ScheduleExists: the code of live workers declares it, and would bring it back; it can be paused.
        """
        word = await self._ask(self._store.remove(name), f"schedule {name} to be removed")
        if word == "declared":
            raise ScheduleExists(
                f"the schedule {name!r} is declared in the code of live workers, which would bring it back: "
                "take it out of the code, or pause it"
            )
        return word == "removed"

    async def pause(self, name: str) -> bool:
        """Let a schedule tick no more until it is resumed, restarts and deploys included; return False if it is paused.

        Raises:
            ScheduleNotFound: there is none of this name.
        """
        return self._found(name, await self._ask(self._store.pause(name), f"schedule {name} to be paused"))

    async def resume(self, name: str) -> bool:
        """Let a paused schedule tick again, from its next tick on; return False if it is not paused.

        Raises:
            ScheduleNotFound: there is none of this name.
        """
        known = await self._load()
        first = self._record(known, name).timetable.next_after(known.now_ms)
        return self._found(name, await self._ask(self._store.resume(name, first), f"schedule {name} to be resumed"))

    async def run_now(self, name: str) -> Job[Any]:
        """Enqueue one run at once, paused or not; the schedule's own last and next run stay as they are.

        Raises:
            ScheduleNotFound: there is none of this name.
        """
        record = self._record(await self._load(), name)
        call: Call[Any] = Call(record.task, *record.args, **record.kwargs)
        return await self._producer.enqueue(
            call, queue=record.queue, metadata={"schedule": name}, priority=record.priority
        )

    async def get(self, name: str) -> ScheduleInfo:
        """Return how one schedule stands.

        Raises:
            ScheduleNotFound: there is none of this name.
        """
        known = await self._load()
        if name not in known.records:
            raise _not_found(name)
        return self._info(known, name)

    async def list(self) -> tuple[ScheduleInfo, ...]:
        """Return how all schedules stand, the next to run first, and those that do not run at the end."""
        known = await self._load()
        last = max(known.next_ms.values(), default=0) + 1
        names = sorted(known.records, key=lambda name: (known.next_ms.get(name, last), name))
        return tuple(self._info(known, name) for name in names)

    @property
    def _store(self) -> ScheduleStore:
        return ScheduleStore(self._producer.store.client)

    async def _load(self) -> Snapshot:
        return await self._ask(self._store.load(), "the schedules")

    async def _ask(self, call: Awaitable[T], asked: str) -> T:
        return await self._producer.answers.of(call, asked)

    def _record(self, known: Snapshot, name: str) -> ScheduleRecord:
        raw = known.records.get(name)
        if raw is None:
            raise _not_found(name)
        return decode_record(raw, name, self._producer.reading)

    def _found(self, name: str, word: Literal["missing", "same", "done"]) -> bool:
        if word == "missing":
            raise _not_found(name)
        return word == "done"

    def _info(self, known: Snapshot, name: str) -> ScheduleInfo:
        try:
            record, unreadable = self._record(known, name), None
        except Undecodable as error:
            record, unreadable = ScheduleRecord(task="", queue="", cron="* * * * *"), str(error)
        live = known.live(name)
        paused, next_ms, last = known.paused_ms.get(name), known.next_ms.get(name), known.last.get(name)
        return ScheduleInfo(
            name=name,
            task=record.task,
            queue=record.queue,
            when="" if unreadable else str(record.timetable),
            timezone=record.timezone,
            missed=record.missed,
            jitter=record.jitter,
            overlap=record.overlap,
            declared=name in known.declared,
            orphaned=name in known.declared and not live,
            versions=len(live),
            unreadable=unreadable,
            paused_at=None if paused is None else as_moment(paused),
            next_run=None if next_ms is None else as_moment(next_ms),
            last_tick=None if last is None else as_moment(last.tick_ms),
            last_run_at=None if last is None else as_moment(last.at_ms),
            last_job_id=None if last is None else last.job_id,
            runs=0 if last is None else last.runs,
            arguments=tuple(record.args),
            keyword_arguments=record.kwargs,
        )


class BlockingSchedules:
    """`producer.schedules` for synchronous code; each method is that of `Schedules`, and waits."""

    __slots__ = ("_producer", "_schedules")

    def __init__(self, producer: BlockingProducer, schedules: Schedules) -> None:
        self._producer = producer
        self._schedules = schedules

    def add(
        self, name: str, call: Call[Any], when: Timetable, *, queue: str | None = None, replace: bool = False
    ) -> ScheduleInfo:
        """Add a schedule, or change it; see `Schedules.add`."""
        return self._producer.run(self._schedules.add(name, call, when, queue=queue, replace=replace))

    def remove(self, name: str) -> bool:
        """Remove a schedule; see `Schedules.remove`."""
        return self._producer.run(self._schedules.remove(name))

    def pause(self, name: str) -> bool:
        """Let a schedule tick no more; see `Schedules.pause`."""
        return self._producer.run(self._schedules.pause(name))

    def resume(self, name: str) -> bool:
        """Let a paused schedule tick again; see `Schedules.resume`."""
        return self._producer.run(self._schedules.resume(name))

    def run_now(self, name: str) -> BlockingJob[Any]:
        """Enqueue one run at once; see `Schedules.run_now`."""
        job = self._producer.run(self._schedules.run_now(name))
        return self._producer.job(job.job_id, queue=job.queue)

    def get(self, name: str) -> ScheduleInfo:
        """Return how one schedule stands; see `Schedules.get`."""
        return self._producer.run(self._schedules.get(name))

    def list(self) -> tuple[ScheduleInfo, ...]:
        """Return how all schedules stand; see `Schedules.list`."""
        return self._producer.run(self._schedules.list())


def _not_found(name: str) -> ScheduleNotFound:
    return ScheduleNotFound(f"there is no schedule called {name!r}")
