"""A job of a higher priority is started before those that wait beside it; none waits for ever."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from common import Call, Context, RetryPolicy, Unique, every, fixed, task
from common.errors import ConfigurationError
from common.jobs import JobState

ran: list[str] = []


@task
async def work(ctx: Context, what: str) -> None:
    ran.append(what)


@task(priority="urgent")
async def urgent(ctx: Context) -> None:
    ran.append("urgent")


@task(priority=9, retry=RetryPolicy(max_attempts=2, backoff=fixed(0.001)))
async def stumbles(ctx: Context) -> None:
    ran.append(f"attempt {ctx.attempt}")
    if ctx.attempt == 1:
        raise ConnectionError


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.clear()


async def ended(*jobs) -> list[str]:
    for job in jobs:
        await job.wait(timeout=10)
    return ran


async def test_the_higher_priority_goes_first_and_of_equals_the_one_that_came_first(producer, run_worker):
    jobs = [
        await producer.enqueue(work(f"{priority} {number}"), priority=priority)
        for number in range(2)
        for priority in (0, 5, 9)
    ]
    await run_worker(work, max_jobs=1)
    assert await ended(*jobs) == ["9 0", "9 1", "5 0", "5 1", "0 0", "0 1"]


async def test_a_task_may_have_a_priority_and_a_job_another(producer, run_worker):
    jobs = [
        await producer.enqueue(work("plain")),
        await producer.enqueue(urgent()),
        await producer.enqueue(urgent(), priority=0),
        await producer.enqueue(work("high"), priority="high"),
    ]
    await run_worker(work, urgent, max_jobs=1)
    assert await ended(*jobs) == ["urgent", "high", "plain", "urgent"]


async def test_many_at_once_and_by_name(producer, run_worker):
    plain = await producer.enqueue_many(work(f"plain {n}") for n in range(3))
    many = await producer.enqueue_many((Call("work", f"high {n}") for n in range(3)), priority=3)
    await run_worker(work, max_jobs=1)
    assert await ended(*plain, *many) == [f"high {n}" for n in range(3)] + [f"plain {n}" for n in range(3)]


async def test_each_step_is_worth_an_hour_of_waiting_so_that_none_waits_for_ever(producer, run_worker):
    now = datetime.now(tz=UTC)
    jobs = [
        await producer.enqueue(work("waits for 70 minutes"), at=now - timedelta(minutes=70)),
        await producer.enqueue(work("waits for 50 minutes"), at=now - timedelta(minutes=50)),
        await producer.enqueue(work("new, priority 1"), priority=1),
    ]
    await run_worker(work, max_jobs=1)
    assert await ended(*jobs) == ["waits for 70 minutes", "new, priority 1", "waits for 50 minutes"]


async def test_a_delayed_job_waits_for_its_time_and_goes_first_then(producer, run_worker):
    soon = await producer.enqueue(work("soon"), priority=9, delay=0.01)
    later = await producer.enqueue(work("later"), priority=9, delay=3600)
    plain = [await producer.enqueue(work(f"plain {n}")) for n in range(3)]
    while await soon.status() is not JobState.QUEUED:
        pass
    await run_worker(work, max_jobs=1)
    assert await ended(soon, *plain) == ["soon", "plain 0", "plain 1", "plain 2"]
    assert await later.status() is JobState.SCHEDULED
    assert await later.abort()


async def test_a_retry_keeps_its_priority(producer, run_worker):
    stumbling = await producer.enqueue(stumbles())
    plain = await producer.enqueue_many(work(f"plain {n}") for n in range(300))
    await run_worker(work, stumbles, max_jobs=1)
    order = await ended(stumbling, *plain)
    assert order[0] == "attempt 1"
    assert order.index("attempt 2") < 299, "before the last of those that came before it"


async def test_what_is_told_of_a_job_is_when_it_is_due_not_where_it_stands(producer):
    now = datetime.now(tz=UTC)
    soon = await producer.enqueue(work("a"), priority=9)
    later = await producer.enqueue(work("b"), priority="high", delay=3600)
    info = await soon.info()
    assert (info.priority, info.state) == (9, JobState.QUEUED)
    assert abs(info.due_at - now) < timedelta(minutes=5)
    info = await later.info()
    assert (info.priority, info.state) == (3, JobState.SCHEDULED)
    assert abs(info.due_at - now - timedelta(hours=1)) < timedelta(minutes=5)
    report = await producer.inspector.queue(soon.queue)
    assert (report.queued, report.scheduled) == (1, 1)
    assert report.oldest_due_seconds < 300
    assert await soon.abort()
    assert await later.abort()


async def test_a_unique_job_may_have_a_priority(producer, run_worker):
    plain = [await producer.enqueue(work(f"plain {n}")) for n in range(3)]
    unique = await producer.enqueue(work("unique"), priority=9, unique=Unique())
    assert not (await producer.enqueue(work("unique"), priority=9, unique=Unique())).is_new
    while await unique.status() is not JobState.QUEUED:
        pass
    await run_worker(work, max_jobs=1)
    assert await ended(unique, *plain) == ["unique", "plain 0", "plain 1", "plain 2"]


async def test_the_runs_of_a_schedule_have_their_tasks_priority(producer, run_worker, redis):
    await producer.schedules.add("often", urgent(), every(1))
    job = await producer.schedules.run_now("often")
    assert (await job.info()).priority == 6
    assert await job.abort()
    plain = [await producer.enqueue(work(f"plain {n}")) for n in range(3)]
    await run_worker(urgent, queues=("elsewhere",))  # sees to the ticks, and takes none of these jobs
    while not await redis.exists("barque:lift:arq:queue"):
        await asyncio.sleep(0.01)
    await producer.schedules.remove("often")
    await run_worker(urgent, work, max_jobs=1)
    assert (await ended(*plain))[0] == "urgent"


@pytest.mark.parametrize("priority", [10, -1, 1.5, "low", True, b"high"])
async def test_what_is_no_priority_is_refused(producer, priority):
    with pytest.raises(ConfigurationError, match=r"priority=.*from 0 to 9, or one of normal \(0\), high \(3\)"):
        await producer.enqueue(work("a"), priority=priority)
    with pytest.raises(ConfigurationError, match=r"@task: priority="):
        task(priority=priority)(lambda ctx: None)
