"""Run once it is quiet: each call replaces the arguments of the job that waits, and puts it off."""

import asyncio

import pytest

from common import Call, Context, Debounce, task
from common.jobs import JobState
from tests.support.passing_time import pass_time

# Most of this page looks at jobs that no worker has taken yet.
pytestmark = pytest.mark.leaves_keys("arq:*", "barque:wake:*")

ran: list[object] = []
may_end: asyncio.Event
has_begun: asyncio.Event


@task(unique=Debounce(60, key="document"))
async def index(ctx: Context, document: str, version: int) -> int:
    ran.append((document, version))
    has_begun.set()
    await may_end.wait()
    return version


@task(unique=Debounce(60, at_most=150, key="document"))
async def index_soon(ctx: Context, document: str, version: int) -> int:
    return version


@pytest.fixture(autouse=True)
def nothing_ran_yet():
    global may_end, has_begun
    may_end, has_begun = asyncio.Event(), asyncio.Event()
    ran.clear()


async def seconds_until_due(redis, job) -> float:
    now, micros = await redis.time()
    score = await redis.zscore("arq:queue", job.job_id)
    return score / 1000 - now - micros / 1e6


async def test_the_last_call_runs_once_it_was_quiet(producer, run_worker, redis):
    jobs = [await producer.enqueue(index("d1", version)) for version in (1, 2, 3)]
    assert len({job.job_id for job in jobs}) == 1
    assert [(job.is_new, job.replaced) for job in jobs] == [(True, False), (False, True), (False, True)]
    may_end.set()
    await run_worker(index)
    assert await jobs[0].status() is JobState.SCHEDULED
    await pass_time(redis, 61)
    assert await jobs[0].result(timeout=10) == 3
    assert ran == [("d1", 3)]


async def test_each_call_puts_it_off(producer, redis):
    job = await producer.enqueue(index("d1", 1))
    await pass_time(redis, 50)
    assert 5 < await seconds_until_due(redis, job) < 11
    await producer.enqueue(index("d1", 2))
    assert 50 < await seconds_until_due(redis, job) < 61


async def test_but_not_past_what_it_may_be_put_off_in_all(producer, redis):
    job = await producer.enqueue(index_soon("d1", 1))
    for version in range(2, 4):
        await pass_time(redis, 50)
        await producer.enqueue(index_soon("d1", version))
    assert 40 < await seconds_until_due(redis, job) < 51, "150 s after the first call, of which 100 have gone"
    await pass_time(redis, 49)
    again = await producer.enqueue(index_soon("d1", 4))
    assert (again.job_id, again.replaced) == (job.job_id, True)
    assert await seconds_until_due(redis, job) < 2
    assert (await job.info()).arguments == ("d1", 4)


async def test_a_call_that_comes_late_is_still_in_time_while_no_worker_has_taken_the_job(producer, redis):
    job = await producer.enqueue(index_soon("d1", 1))
    await pass_time(redis, 1000)
    again = await producer.enqueue(index_soon("d1", 2))
    assert (again.job_id, again.replaced) == (job.job_id, True)
    assert await job.status() is JobState.QUEUED, "it was put off for long enough"


async def test_a_call_after_it_has_begun_makes_a_new_job(producer, run_worker, redis):
    first = await producer.enqueue(index("d1", 1))
    await pass_time(redis, 61)
    await run_worker(index)
    await asyncio.wait_for(has_begun.wait(), 10)
    second = await producer.enqueue(index("d1", 2))
    assert second.is_new
    assert 50 < await seconds_until_due(redis, second) < 61
    may_end.set()
    assert await first.result(timeout=10) == 1
    await pass_time(redis, 61)
    assert await second.result(timeout=10) == 2


async def test_keys_wait_apart(producer):
    assert [(await producer.enqueue(index(name, 1))).is_new for name in ("d1", "d2", "d1")] == [True, True, False]


async def test_by_name_and_instead_of_what_the_task_says(producer, redis):
    job = await producer.enqueue(Call("index", "d1", 1), unique=Debounce(10), unique_key="d1")
    assert await seconds_until_due(redis, job) < 10.1
    again = await producer.enqueue(index("d1", 2))
    assert (again.job_id, again.replaced) == (job.job_id, True)


async def test_many_of_one_key_in_one_call_are_one_job_with_the_last_arguments(producer):
    jobs = await producer.enqueue_many([index("d1", version) for version in range(10)])
    assert len({job.job_id for job in jobs}) == 1
    assert (await jobs[0].info()).arguments == ("d1", 9)


async def test_one_that_expires_does_so_counted_from_the_last_call(producer, redis):
    job = await producer.enqueue(index("d1", 1), expires=100)
    await pass_time(redis, 50)
    await producer.enqueue(index("d1", 2), expires=100)
    assert 90_000 < await redis.pttl(f"arq:job:{job.job_id}") <= 100_000
    await producer.enqueue(index("d1", 3))
    assert await redis.pttl(f"arq:job:{job.job_id}") == -1, "the last call wants it to run whenever that is"


async def test_an_expired_one_is_no_job_any_more(producer, redis):
    first = await producer.enqueue(index("d1", 1), expires=100)
    await pass_time(redis, 101)
    second = await producer.enqueue(index("d1", 2))
    assert (second.is_new, second.job_id != first.job_id) == (True, True)
