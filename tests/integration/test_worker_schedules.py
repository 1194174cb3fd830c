"""Schedules on a running fleet: each tick once, whoever dies, stalls, starts late or has the wrong time."""

import asyncio
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from common import Context, cron, every, schedule, task
from common.codec import MSGPACK_ONLY, Reading
from common.errors import ConfigurationError
from common.redis.schedules import BELIEVED_MS, ScheduleStore
from common.schedule_records import ScheduleRecord, encode_record
from common.schedules import Schedule
from common.signing import Keyring
from tests.support.running import producer, run_worker
from workers.clock import ServerClock
from workers.scheduler import Scheduler

__all__ = ["producer", "run_worker"]

LEFT = (
    "arq:result:*", "barque:schedules*", "barque:wake:*", "arq:queue", "arq:job:schedule:*", "arq:retry:schedule:*",
    "arq:in-progress:schedule:*",
)  # fmt: skip
pytestmark = pytest.mark.leaves_keys(*LEFT)

ROOT = Path(__file__).parents[2]

# "all": on a machine that is busy elsewhere for seconds no tick is left out either.
EACH_SECOND = every(1, missed="all")

runs: list[tuple[str, datetime, str]] = []


@pytest.fixture(autouse=True)
async def nothing_ran_yet():
    runs.clear()


@task
async def note(ctx: Context, what: str = "") -> None:
    runs.append((ctx.metadata["schedule"], datetime.fromisoformat(ctx.metadata.get("tick", "1970-01-01")), what))


def scheduled(name: str, when, what: str = ""):
    """Return the task `note` as a module of its own would have it, with one schedule."""
    made = task(name=f"note_{name}")(note.function)
    schedule(name, made(what), when)
    return made


def ran(name: str) -> list[datetime]:
    return [tick for schedule_name, tick, _ in runs if schedule_name == name]


async def until(condition, seconds: float = 30.0):
    async with asyncio.timeout(seconds):
        while not (found := condition() if not asyncio.iscoroutinefunction(condition) else await condition()):
            await asyncio.sleep(0.005)
    return found


def each_once_without_a_gap(ticks: list[datetime], step: timedelta = timedelta(seconds=1)) -> bool:
    return ticks == [ticks[0] + n * step for n in range(len(ticks))]


@pytest.fixture
def schedules(redis) -> ScheduleStore:
    return ScheduleStore(redis)


async def test_each_tick_runs_once_on_a_fleet_and_is_enqueued_when_it_is_due(run_worker, schedules):
    for _ in range(2):
        await run_worker(scheduled("beat", EACH_SECOND, "hello"))
    await run_worker(note, queue_name="other")
    await until(lambda: len(ran("beat")) >= 3)
    assert each_once_without_a_gap(sorted(ran("beat")))
    assert {what for _, _, what in runs} == {"hello"}
    known = await schedules.load()
    last = known.last["beat"]
    assert last.at_ms >= last.tick_ms
    assert last.job_id == f"schedule:beat:{last.tick_ms}"
    assert known.next_ms["beat"] == last.tick_ms + 1000


async def test_a_worker_that_stops_leaves_no_gap(run_worker):
    first = await run_worker(scheduled("beat", EACH_SECOND))
    await run_worker(scheduled("beat", EACH_SECOND))
    await until(lambda: len(ran("beat")) >= 2)
    await first.close()
    seen = len(ran("beat"))
    await until(lambda: len(ran("beat")) >= seen + 2)
    assert each_once_without_a_gap(sorted(ran("beat")))


@pytest.mark.leaves_keys(*LEFT, "arq:queue:health-check", "barque:worker:*", "barque:workers")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stalled"])
async def test_a_worker_that_is_killed_or_stalls_leaves_no_gap(how, run_worker, redis_url, schedules, tmp_path):
    (tmp_path / "beats.py").write_text(
        "from common import Context, every, task\n\n\n"
        "@every(1, missed='all')\n@task\nasync def beat(ctx: Context) -> None: ...\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BARQUE_")}
    environment |= {"BARQUE_REDIS_URL": redis_url, "BARQUE_TASKS": "beats", "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "worker", cwd=tmp_path, env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:

        async def ticked(times: int):
            last = (await schedules.load()).last.get("beat")
            return last if last is not None and last.runs >= times else None

        async def ticked_twice():
            return await ticked(2)

        await until(ticked_twice)
        other = await run_worker(note, queue_name="other")  # knows of the schedule what the server says, no more
        await until(lambda: other._timekeeper._scheduler)
        process.send_signal(how)
        before = (await schedules.load()).last["beat"]

        async def ticked_on():
            return await ticked(before.runs + 2)

        after = await until(ticked_on)
        assert after.tick_ms - before.tick_ms == 1000 * (after.runs - before.runs), "each second, and none twice"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def missed(schedules, redis, name: str, since: datetime) -> None:
    """Have the next tick of a schedule be one of the past, as after a time without workers."""
    await redis.zadd("barque:schedules:next", {name: round(since.timestamp() * 1000)})


@pytest.mark.parametrize(("policy", "expected"), [("once", 1), ("skip", 0), ("all", 5)])
async def test_after_a_restart_missed_ticks_are_dealt_with_as_the_schedule_says(
    policy, expected, run_worker, redis, schedules
):
    # The latest tick that was missed is about half an hour ago, whenever this runs.
    now = datetime.now(UTC)
    minute = (now - timedelta(minutes=30)).minute
    worker = await run_worker(scheduled("report", cron(f"{minute} * * * *", missed=policy)))
    await until(lambda: worker._timekeeper._scheduler and worker._timekeeper._scheduler._next)
    await worker.close()
    ticks = [(now - timedelta(minutes=30, hours=hours)).replace(second=0, microsecond=0) for hours in range(4, -1, -1)]
    await missed(schedules, redis, "report", ticks[0])

    await run_worker(scheduled("report", cron(f"{minute} * * * *", missed=policy)))

    async def caught_up():
        known = await schedules.load()
        return known.next_ms["report"] > known.now_ms and len(ran("report")) == expected

    await until(caught_up)
    assert sorted(ran("report")) == ticks[len(ticks) - expected :]
    assert (await schedules.load()).next_ms["report"] == round((ticks[-1] + timedelta(hours=1)).timestamp() * 1000)


async def test_of_very_many_missed_ticks_all_runs_the_latest_hundred_and_says_so(run_worker, redis, schedules):
    with capture_logs() as logs:
        await run_worker(scheduled("often", every(60, missed="all")))

        async def known():
            return (await schedules.load()).next_ms.get("often")

        async def heard():  # by the worker, which may not be listening yet
            return await redis.publish("barque:control", "schedules")

        await until(known)
        await missed(schedules, redis, "often", datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(days=9))
        await until(heard)
        await until(lambda: len(runs) >= 100)
    assert each_once_without_a_gap(sorted(ran("often"))[:100], timedelta(minutes=1))
    assert [each["event"] for each in logs].count("schedule_ticks_dropped") == 1


async def test_added_paused_resumed_changed_and_removed_while_the_fleet_runs(run_worker, producer, schedules):
    await run_worker(note, scheduled("clock", every(1)))
    await producer.schedules.add("mine", note("one"), every(1))
    await until(lambda: len(ran("mine")) >= 2)

    await producer.schedules.pause("mine")
    paused_at = (await schedules.load()).last["mine"]
    seen = len(ran("clock"))
    await until(lambda: len(ran("clock")) >= seen + 3)
    assert (await schedules.load()).last["mine"] == paused_at

    await producer.schedules.resume("mine")
    before = len(ran("mine"))
    await until(lambda: len(ran("mine")) > before)
    assert not any(paused_at.tick_ms < tick.timestamp() * 1000 < paused_at.tick_ms + 3000 for tick in ran("mine"))

    await producer.schedules.add("mine", note("two"), every(1), replace=True)
    await until(lambda: ("mine", "two") in {(name, what) for name, _, what in runs})

    assert await producer.schedules.remove("mine") is True
    assert "mine" not in (await schedules.load()).next_ms
    seen = len(ran("clock"))
    count = len(ran("mine"))
    await until(lambda: len(ran("clock")) >= seen + 2)
    assert len(ran("mine")) <= count + 1, "one may have been on its way"


async def test_a_worker_on_a_fleet_without_schedules_has_no_scheduler(run_worker, producer):
    worker = await run_worker(note)
    job = await producer.enqueue(note("x"), metadata={"schedule": "none"})
    await job.result(timeout=10)
    await worker.heart_beat()
    assert worker._timekeeper._scheduler is None


async def test_a_worker_that_hears_no_orders_learns_of_schedules_with_its_report(run_worker, producer, monkeypatch):
    async def deaf(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("workers.engine.listen_for_orders", deaf)
    worker = await run_worker(note)
    await until(lambda: worker._engine is not None and worker._reports._last is not None)
    await producer.schedules.add("mine", note(), every(1))
    assert worker._timekeeper._scheduler is None
    worker._reports._last = None  # its next report is due
    await until(lambda: ran("mine"))


async def test_ticks_go_on_after_the_connections_were_lost(run_worker, redis, schedules):
    await run_worker(scheduled("beat", every(1)))
    await until(lambda: len(ran("beat")) >= 1)
    for _ in range(3):
        await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    seen = len(ran("beat"))
    await until(lambda: len(ran("beat")) >= seen + 2)
    assert len(set(ran("beat"))) == len(ran("beat"))


class WrongAtFirst(ServerClock):
    """A clock that is wrong by so much until the server has told the time twice."""

    __slots__ = ("error", "told")

    def __init__(self, error_ms: int) -> None:
        super().__init__()
        self.error, self.told = error_ms, 0

    def set(self, now_ms: int) -> None:
        self.told += 1
        super().set(now_ms + (self.error if self.told < 2 else 0))


@pytest.fixture
async def run_scheduler(schedules):
    """Run a scheduler by itself, with what a worker would give it."""
    running = []

    async def start(*declared: Schedule, clock=None, reading=MSGPACK_ONLY) -> Scheduler:
        scheduler = Scheduler(
            schedules, declared, queue="arq:queue", form="msgpack", reading=reading, clock=clock or ServerClock()
        )
        running.append(asyncio.create_task(scheduler.run()))
        return scheduler

    yield start
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_worker_with_the_wrong_time_runs_nothing_early_or_twice(hours, run_scheduler, schedules, keyspace):
    now = await keyspace.now_ms()
    record = ScheduleRecord.of(note("x"), every(1), queue="arq:queue", declared=False)
    await schedules.add("beat", encode_record(record, "beat", MSGPACK_ONLY), now - 5000 - now % 1000, replace=False)
    await run_scheduler(clock=WrongAtFirst(hours * 3_600_000))
    if hours < 0:  # it learns the time when it next asks; another worker is there meanwhile
        await run_scheduler()

    async def caught_up():
        known = await schedules.load()
        return known.last.get("beat") and known.last["beat"].runs >= 2 and known

    known = await until(caught_up)
    last = known.last["beat"]
    assert last.tick_ms <= last.at_ms, "nothing ran before its time"
    assert known.next_ms["beat"] - known.now_ms <= 1000, "and no hour is left out"


async def test_a_local_clock_that_is_wrong_does_not_matter_at_all(run_worker, schedules, monkeypatch):
    real = time.time
    monkeypatch.setattr("workers.clock.time.time", lambda: real() - 86_400)
    await run_worker(scheduled("beat", every(1)))
    await until(lambda: len(ran("beat")) >= 2)
    last = (await schedules.load()).last["beat"]
    assert 0 <= last.at_ms - last.tick_ms < 3_600_000, "a day is not in it"


async def test_of_two_versions_of_the_code_the_newer_one_holds_on_every_worker(run_worker, schedules):
    await run_worker(scheduled("report", every(3600), "old"))

    async def declared():
        return "report" in (await schedules.load()).records

    await until(declared)
    with capture_logs() as logs:
        await run_worker(scheduled("report", every(1), "new"))
        await until(lambda: len(ran("report")) >= 2)
        again = await run_worker(scheduled("report", every(3600), "old"))
        await until(lambda: [each for each in logs if each["event"] == "schedule_superseded"])
        seen = len(ran("report"))
        await until(lambda: len(ran("report")) >= seen + 1)
    assert again._timekeeper._scheduler._words == {"report": "older"}
    # Either version of the task may run a job; what it is given is the newer version's.
    assert {what for _, _, what in runs} == {"new"}
    assert len((await schedules.load()).live("report")) == 2


async def test_a_schedule_whose_code_is_gone_runs_no_more(run_worker, redis, schedules, keyspace):
    now = await keyspace.now_ms()
    record = ScheduleRecord.of(note("x"), every(1), queue="arq:queue", declared=True)
    await redis.hset("barque:schedules", "gone", encode_record(record, "gone", MSGPACK_ONLY))
    await redis.hset("barque:schedules:declared", "gone", f"aa:1:{now - 2 * BELIEVED_MS}")
    await redis.zadd("barque:schedules:next", {"gone": now - 5000})
    await redis.set("barque:schedules:revision", now)
    await run_worker(note, scheduled("clock", every(1)))
    await until(lambda: len(ran("clock")) >= 2)
    assert ran("gone") == []
    assert (await schedules.load()).next_ms["gone"] == now - 5000

    await run_worker(scheduled("gone", every(1)))  # it is deployed again
    await until(lambda: ran("gone"))


async def test_a_worker_that_drains_ticks_no_more(run_worker, schedules):
    worker = await run_worker(scheduled("beat", every(1)))
    await until(lambda: ran("beat"))
    ticking = worker._timekeeper._running
    worker._claim_no_more()
    await until(ticking.done)
    worker._timekeeper.changed()
    worker._timekeeper.look(b"another revision")
    assert worker._timekeeper._scheduler is None


async def test_a_burst_worker_neither_declares_nor_ticks(run_worker, redis):
    worker = await run_worker(scheduled("beat", every(1)), burst=True)
    await until(lambda: worker.main_task is not None and worker.main_task.done())
    assert await redis.exists("barque:schedules") == 0


async def test_a_record_that_cannot_be_read_is_told_of_once_and_stops_no_other(run_scheduler, redis, schedules):
    signed = Reading(signing=Keyring({"k": "s" * 32}))
    record = ScheduleRecord.of(note("x"), every(1), queue="arq:queue", declared=False)
    await schedules.add("foreign", encode_record(record, "foreign", MSGPACK_ONLY), 1, replace=False)
    await schedules.add("garbage", b"\xff\xff", 1, replace=False)
    await schedules.add("ours", encode_record(record, "ours", signed), 1, replace=False)
    with capture_logs() as logs:
        await run_scheduler(reading=signed)

        async def ticked():
            return (await schedules.load()).last.get("ours")

        await until(ticked)
        await redis.set("barque:schedules:revision", 9)
        seen = (await ticked()).runs

        async def ticked_on():
            return (await ticked()).runs > seen

        await until(ticked_on)
    refused = [each["schedule"] for each in logs if each["event"] == "schedule_refused"]
    assert sorted(refused) == ["foreign", "garbage"]
    assert set((await schedules.load()).last) == {"ours"}


async def test_a_queue_that_takes_no_job_is_told_of_and_stops_no_other(run_scheduler, redis, schedules):
    await redis.set("bad", "a string")
    for name, queue in (("one", "bad"), ("two", "arq:queue")):
        record = ScheduleRecord.of(note("x"), every(1), queue=queue, declared=False)
        await schedules.add(name, encode_record(record, name, MSGPACK_ONLY), 1, replace=False)
    with capture_logs() as logs:
        await run_scheduler()

        async def ticked():
            last = (await schedules.load()).last.get("two")
            return last is not None and last.runs >= 2

        await until(ticked)
    told = [each for each in logs if each["event"] == "schedule_not_enqueued"]
    assert [(each["schedule"], each["queue"]) for each in told] == [("one", "bad")]
    await redis.delete("bad")


async def test_what_cannot_be_declared_stops_the_start(run_worker):
    worker = await run_worker(scheduled("same", every(1)), task(name="other")(note.function))
    await worker.close()
    clash = task(name="clash")(note.function)
    schedule("same", clash(), every(1))
    with pytest.raises(ConfigurationError, match="two schedules are called 'same', one of the task note_same"):
        Scheduler(
            None, [*scheduled("same", every(1)).schedules, *clash.schedules],
            queue="q", form="msgpack", reading=MSGPACK_ONLY, clock=ServerClock(),
        )  # fmt: skip


async def test_each_tick_is_one_line_in_the_log(run_worker):
    with capture_logs() as logs:
        await run_worker(scheduled("beat", every(1)))
        await until(lambda: len(ran("beat")) >= 2)
    assert {"schedule": "beat", "event": "schedule_declared", "log_level": "info"} in logs
    lines = [each for each in logs if each["event"] == "schedule_ticked"]
    first = lines[0]
    assert set(first) == {"schedule", "tick", "job_id", "queue", "late_ms", "event", "log_level"}
    assert (first["schedule"], first["queue"]) == ("beat", "arq:queue")
