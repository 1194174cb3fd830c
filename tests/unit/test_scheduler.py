"""A worker's scheduler by itself: what it plans, and what it does when the server is away or somebody was faster."""

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from common import Call, cron, every
from common.codec import MSGPACK_ONLY, Reading
from common.redis.schedules import Judged, Snapshot, Ticked
from common.schedule_records import ScheduleRecord, encode_record
from workers.clock import ServerClock
from workers.scheduler import Scheduler

HOUR = 3_600_000
MIDNIGHT = 1_800_057_600_000  # 2027-01-16T00:00Z


class Clock(ServerClock):
    """Time stands still at what the server said last."""

    __slots__ = ("ms",)

    def set(self, now_ms: int) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms


class Store:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self, now_ms: int, **records: ScheduleRecord) -> None:
        self.now_ms = now_ms
        self.records = {name: encode_record(record, name, MSGPACK_ONLY) for name, record in records.items()}
        self.next_ms: dict[str, int] = {}
        self.revision = b"1"
        self.loads = 0
        self.plans = []
        self.errors = []
        self.answers = []
        self.asked = asyncio.Event()

    async def load(self) -> Snapshot:
        self.loads += 1
        if self.errors:
            raise self.errors.pop(0)
        return Snapshot(self.now_ms, self.revision, dict(self.records), dict(self.next_ms))

    async def tick(self, revision, plans, *, now_ms) -> Ticked:
        self.plans.append(plans)
        self.asked.set()
        if revision != self.revision:
            return Ticked(self.now_ms, None)
        word, ran = self.answers.pop(0) if self.answers else ("ran", 1)
        for plan in plans:
            self.next_ms[plan.name] = plan.following_ms or -1
        return Ticked(
            self.now_ms, [Judged(word, plan.ticks[:ran], plan.following_ms, "no such luck") for plan in plans]
        )


def record(when, *arguments, **changes) -> ScheduleRecord:
    return ScheduleRecord.of(Call("t", *arguments), when, queue="q", declared=False)


def scheduler_of(store: Store, reading: Reading = MSGPACK_ONLY) -> Scheduler:
    return Scheduler(store, [], queue="q", form="msgpack", reading=reading, clock=Clock())


async def plan(when, *, since_ms: int, now_ms: int, payload: bytes = b""):
    store = Store(now_ms, n=record(when, payload))
    store.next_ms["n"] = since_ms
    scheduler = scheduler_of(store)
    await scheduler._load()
    (planned,) = [scheduler._plan("n", now_ms, 4_000_000)]
    ticks = [(tick.tick_ms - MIDNIGHT) / HOUR for tick in planned.ticks]
    return planned, ticks, (planned.following_ms - MIDNIGHT) / HOUR


async def test_a_plan_has_the_tick_that_is_due_and_some_that_may_be_by_the_time_it_arrives():
    planned, ticks, following = await plan(cron("@hourly"), since_ms=MIDNIGHT, now_ms=MIDNIGHT + 5)
    assert (ticks, following) == ([0, 1, 2], 3)
    assert planned.ticks[0].job_id == f"schedule:n:{MIDNIGHT}"
    assert (planned.next_ms, planned.queue, planned.missed, planned.overlap) == (MIDNIGHT, "q", "once", True)
    assert {tick.delay_ms for tick in planned.ticks} == {0}


@pytest.mark.parametrize(("missed", "ticks"), [("once", [9, 10, 11]), ("skip", [9, 10, 11]), ("all", [*range(12)])])
async def test_after_a_time_away_it_has_the_latest_tick_or_each(missed, ticks):
    now = MIDNIGHT + 9 * HOUR + 5
    assert (await plan(cron("@hourly", missed=missed), since_ms=MIDNIGHT, now_ms=now))[1:] == (ticks, 12)


async def test_times_that_changed_while_a_tick_was_missed_are_planned_from_now():
    _, ticks, following = await plan(cron("30 6 * * *"), since_ms=MIDNIGHT, now_ms=MIDNIGHT + HOUR)
    assert (ticks, following) == ([6.5, 30.5], 54.5)


async def test_large_payloads_make_shorter_plans_that_go_on_where_they_ended():
    now = MIDNIGHT + 9 * HOUR + 5
    _, ticks, following = await plan(
        cron("@hourly", missed="all"), since_ms=MIDNIGHT, now_ms=now, payload=b"x" * 1_000_000
    )
    assert (ticks, following) == ([0, 1, 2, 3], 4)


async def test_jitter_is_drawn_for_each_run():
    planned, _, _ = await plan(every(3600, jitter=60), since_ms=MIDNIGHT, now_ms=MIDNIGHT)
    assert all(0 <= tick.delay_ms <= 60_000 for tick in planned.ticks)


@pytest.fixture
async def run():
    running = []

    def start(store: Store, **options) -> Scheduler:
        scheduler = scheduler_of(store, **options)
        running.append(asyncio.create_task(scheduler.run()))
        return scheduler

    yield start
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


def due_now(when=None) -> Store:
    store = Store(MIDNIGHT + 5, n=record(when or cron("@hourly")))
    store.next_ms["n"] = MIDNIGHT
    return store


@pytest.mark.parametrize("error", [RedisConnectionError("gone"), TimeoutError(), ZeroDivisionError("a bug of ours")])
async def test_whatever_goes_wrong_it_backs_off_reads_again_and_goes_on(error, run, monkeypatch):
    waits = []
    monkeypatch.setattr("workers.backoff.random.uniform", lambda low, high: waits.append(high) or 0.0)
    store = due_now()
    store.errors = [error] * 3
    with capture_logs() as logs:
        run(store)
        await store.asked.wait()
    assert [longest for longest in waits if longest] == [0.05, 0.1, 0.2]
    expected = "scheduler_failed" if isinstance(error, ZeroDivisionError) else "schedules_not_reached"
    assert [each["event"] for each in logs if "error" in each] == [expected] * 3


async def test_what_was_judged_is_logged_and_ticks_on(run):
    store = due_now()
    store.answers = [("passed", 0)]
    with capture_logs() as logs:
        scheduler = run(store)
        await until(lambda: scheduler._next.get("n", 0) > MIDNIGHT)
    assert [(each["event"], each["why"]) for each in logs] == [("schedule_tick_left_out", "missed")]
    assert len(store.plans) == 1, "what is next is hours away"


async def test_a_job_that_cannot_be_made_is_told_of_without_its_arguments_and_stops_no_other(run):
    def serializer(job):
        if job["a"] == ("s3cret",):
            raise ValueError(f"cannot write {job}")
        return b"bytes"

    store = due_now()
    store.records["bad"] = encode_record(record(cron("@hourly"), "s3cret"), "bad", MSGPACK_ONLY)
    store.next_ms["bad"] = MIDNIGHT
    with capture_logs() as logs:
        run(store, reading=Reading(serializer=serializer))
        await store.asked.wait()
    assert [plan.name for plan in store.plans[0]] == ["n"]
    assert [each for each in logs if each["log_level"] == "error"] == [
        {"event": "schedule_refused", "schedule": "bad", "error": "ValueError", "log_level": "error"}
    ]


async def test_an_old_revision_is_read_anew_and_the_tick_is_tried_again(run):
    store = due_now()
    scheduler = run(store)
    await store.asked.wait()
    store.asked.clear()
    loads = store.loads
    store.revision, store.next_ms["n"] = b"2", MIDNIGHT
    scheduler.changed()
    await store.asked.wait()
    assert store.loads > loads
    assert scheduler.revision == b"2"


@pytest.mark.parametrize(("word", "event"), [("orphan", "schedule_orphaned"), ("refused", "schedule_not_enqueued")])
async def test_what_cannot_run_is_let_be_until_something_changes(word, event, run):
    store = due_now()
    store.answers = [(word, 0)]
    with capture_logs() as logs:
        scheduler = run(store)
        await until(lambda: store.plans and not scheduler._next)
    assert [each["event"] for each in logs] == [event]
    store.next_ms["n"] = MIDNIGHT
    scheduler.changed()
    await until(lambda: len(store.plans) == 2)


async def test_it_sleeps_until_the_next_tick_and_asks_nothing_meanwhile(run):
    store = due_now()
    store.next_ms["n"] = MIDNIGHT + HOUR
    run(store)
    await until(lambda: store.loads)
    for _ in range(200):
        await asyncio.sleep(0)
    assert (store.loads, store.plans) == (1, [])
