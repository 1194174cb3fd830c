"""A schedule enqueues a call at its times, once on the whole fleet, however many workers there are."""

import asyncio
from datetime import UTC, datetime

import pytest

from common import Context, cron, every, schedule, task
from common.errors import ScheduleExists, ScheduleNotFound

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:schedules*", "barque:wake:*", "arq:queue", "arq:job:*")

heard: list[str] = []
ticked: list[datetime] = []


@pytest.fixture(autouse=True)
async def nothing_was_heard():
    heard.clear()
    ticked.clear()


# A decorator above @task schedules it, called without arguments, under the task's own name.
@every(1)
@task
async def strike(ctx: Context) -> None:
    # Which tick a job is for stands in its metadata: it may run later, after a retry or a time without workers.
    ticked.append(datetime.fromisoformat(ctx.metadata["tick"]))
    heard.append(ctx.metadata["schedule"])


@cron("30 6 * * mon-fri", timezone="Europe/Berlin", missed="skip", jitter=20)
@task
async def wake_up(ctx: Context) -> None: ...


@task
async def call_out(ctx: Context, name: str) -> None:
    heard.append(name)


# Calls with arguments are scheduled under names of their own; the arguments are checked like those of an enqueue.
schedule("call-ada", call_out("Ada"), every(1))
schedule("call-grace", call_out("Grace"), cron("* * * * * *"))


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_two_workers_of_the_same_code_run_each_tick_once(run_worker):
    await run_worker(strike)
    await run_worker(strike)
    await until(lambda: len(ticked) >= 3)
    assert len(set(ticked)) == len(ticked)


async def test_a_tick_is_at_its_time_on_the_clock(run_worker):
    await run_worker(strike)
    await until(lambda: ticked)
    assert ticked[0].tzinfo is not None
    assert ticked[0].microsecond == 0


async def test_a_call_is_scheduled_with_its_arguments(run_worker):
    await run_worker(call_out)
    await until(lambda: {"Ada", "Grace"} <= set(heard))


async def test_schedules_can_be_listed_with_their_next_and_last_run(run_worker, producer):
    await run_worker(strike, wake_up)
    await until(lambda: ticked)
    first, second = await producer.schedules.list()
    assert (first.name, first.task, first.when, first.declared) == ("strike", "strike", "every 1s", True)
    assert first.last_run_at >= first.last_tick
    assert first.runs >= 1
    assert (second.name, second.when, second.timezone) == ("wake_up", "30 6 * * mon-fri", "Europe/Berlin")
    assert second.next_run > datetime.now(UTC)
    assert second.last_run_at is None


async def test_a_schedule_is_added_while_workers_run(run_worker, producer):
    await run_worker(call_out)
    added = await producer.schedules.add("call-alan", call_out("Alan"), every(1))
    assert added.next_run is not None
    await until(lambda: "Alan" in heard)


async def test_added_again_as_it_is_it_stays_and_another_one_of_the_name_is_refused(producer):
    added = await producer.schedules.add("tea", call_out("tea"), cron("0 16 * * *"))
    assert await producer.schedules.add("tea", call_out("tea"), cron("0 16 * * *")) == added
    with pytest.raises(ScheduleExists, match="a different one"):
        await producer.schedules.add("tea", call_out("tea"), cron("0 17 * * *"))
    changed = await producer.schedules.add("tea", call_out("tea"), cron("0 17 * * *"), replace=True)
    assert changed.next_run.hour == 17


async def test_what_the_code_declares_is_changed_in_the_code(run_worker, producer):
    await run_worker(wake_up)
    async with asyncio.timeout(20):
        while not await producer.schedules.list():
            await asyncio.sleep(0.01)
    with pytest.raises(ScheduleExists, match="declared in the code of live workers"):
        await producer.schedules.remove("wake_up")
    with pytest.raises(ScheduleExists, match="declared in the code of live workers"):
        await producer.schedules.add("wake_up", call_out("x"), every(60), replace=True)


async def test_a_schedule_can_be_paused_and_resumed(producer):
    await producer.schedules.add("tea", call_out("tea"), cron("0 16 * * *"))
    assert await producer.schedules.pause("tea") is True
    assert await producer.schedules.pause("tea") is False, "it is paused already"
    paused = await producer.schedules.get("tea")
    assert paused.paused_at is not None
    assert paused.next_run is None
    assert await producer.schedules.resume("tea") is True
    assert (await producer.schedules.get("tea")).next_run is not None


async def test_a_run_can_be_had_at_once(run_worker, producer):
    await producer.schedules.add("tea", call_out("tea"), cron("0 16 * * *"))
    await run_worker(call_out)
    job = await producer.schedules.run_now("tea")
    await job.result(timeout=10)
    assert heard == ["tea"]


async def test_a_schedule_that_is_removed_is_gone(producer):
    await producer.schedules.add("tea", call_out("tea"), cron("0 16 * * *"))
    assert await producer.schedules.remove("tea") is True
    assert await producer.schedules.remove("tea") is False
    with pytest.raises(ScheduleNotFound, match="no schedule called 'tea'"):
        await producer.schedules.get("tea")
    assert await producer.schedules.list() == ()


def test_synchronous_code_has_the_same(redis_url):
    from producer import BlockingProducer

    with BlockingProducer(redis_url) as producer:
        producer.schedules.add("tea", call_out("tea"), cron("0 16 * * *"))
        assert [each.name for each in producer.schedules.list()] == ["tea"]
        assert producer.schedules.pause("tea")
        assert producer.schedules.resume("tea")
        assert producer.schedules.get("tea").queue == "arq:queue"
        assert producer.schedules.run_now("tea").status() == "queued"
        assert producer.schedules.remove("tea")
