"""Finding jobs: which there are, by where they stand and what they are, a page at a time. See docs/finding_jobs.md."""

import asyncio

import pytest

from common import ConcurrencyLimit, Context, RetryPolicy, task
from common.jobs import JobState
from producer import BlockingProducer


@task
async def greet(ctx: Context, name: str) -> str:
    return f"Hello, {name}!"


@task
async def linger(ctx: Context, name: str) -> None:
    await ctx.state["enough"].wait()


@task(limits=[ConcurrencyLimit(1)])
async def one_at_a_time(ctx: Context) -> None:
    await ctx.state["enough"].wait()


@task(retry=RetryPolicy(max_attempts=1))
async def refuse(ctx: Context, name: str) -> None:
    raise ValueError(f"not {name}")


async def ids(producer, **filters) -> list[str]:
    page = await producer.jobs(**filters)
    assert page.at_end
    return [info.job_id for info in page.jobs]


async def until(producer, expected: int, **filters) -> list[str]:
    async with asyncio.timeout(30):
        while len(found := await ids(producer, **filters)) < expected:
            await asyncio.sleep(0.01)
    return found


async def test_jobs_that_wait_are_listed_in_the_order_of_their_turn(producer):
    later = await producer.enqueue(greet("Ada"), delay=7200)
    sooner = await producer.enqueue(greet("Grace"), delay=3600)
    first, second = await producer.enqueue_many([greet("Alan"), greet("Edsger")])
    assert await ids(producer, state="queued") == [first.job_id, second.job_id]
    assert await ids(producer, state="scheduled") == [sooner.job_id, later.job_id]
    assert await ids(producer) == [job.job_id for job in (first, second, sooner, later)]
    await producer.abort_where(everything=True)


async def test_a_page_says_where_the_next_one_begins(producer):
    jobs = await producer.enqueue_many([greet(str(number)) for number in range(5)])
    page = await producer.jobs(state="queued", limit=3)
    assert [info.arguments for info in page.jobs] == [("0",), ("1",), ("2",)]
    await jobs[1].abort()
    page = await producer.jobs(state="queued", limit=3, cursor=page.next)
    assert [info.arguments for info in page.jobs] == [("3",), ("4",)]
    await producer.abort_where(everything=True)


async def test_jobs_that_run_that_wait_for_a_limit_and_that_have_ended(producer, run_worker):
    enough = asyncio.Event()
    await run_worker(linger, one_at_a_time, greet, refuse, ctx={"enough": enough})
    running = await producer.enqueue(linger("Ada"))
    limited = await producer.enqueue_many([one_at_a_time(), one_at_a_time()])
    (waiting,) = await until(producer, 1, state="waiting")
    assert {*await until(producer, 2, state="running"), waiting} == {running.job_id, *(job.job_id for job in limited)}
    worker = (await producer.jobs(state="running", task=linger)).jobs[0].worker
    assert worker is not None
    greeted, refused = await producer.enqueue(greet("Grace")), await producer.enqueue(refuse("Alan"))
    assert await greeted.result() == "Hello, Grace!"
    await refused.wait()
    assert await ids(producer, state="succeeded") == [greeted.job_id]
    assert await ids(producer, state="failed") == await ids(producer, state="dead") == [refused.job_id]
    enough.set()
    await asyncio.gather(running.wait(), *(job.wait() for job in limited))


async def test_jobs_are_found_by_what_they_are(producer):
    ada = await producer.enqueue(greet("Ada"), limit_key="acme", queue="low")
    alan = await producer.enqueue(linger("Alan"), fair_key="ada & co", queue="low")
    assert await ids(producer, task="gr*", queue="low") == [ada.job_id]
    assert await ids(producer, task=linger, queue="low") == [alan.job_id]
    assert await ids(producer, key="acme", queue="low") == [ada.job_id]
    assert await ids(producer, key="ada & co", queue="low") == [alan.job_id]
    await producer.abort_where(queue="low")


async def test_failures_are_found_by_the_words_of_their_error(producer, run_worker):
    await run_worker(refuse)
    ada, alan = await producer.enqueue_many([refuse("Ada"), refuse("Alan")])
    await asyncio.gather(ada.wait(), alan.wait())
    assert await ids(producer, error="NOT ada") == [ada.job_id]
    assert sorted(await ids(producer, error="valueerror")) == sorted([ada.job_id, alan.job_id])


async def test_an_id_is_looked_up_whatever_has_become_of_the_job(producer, run_worker):
    job = await producer.enqueue(greet("Ada"))
    assert (await producer.jobs(id=job.job_id)).jobs[0].state is JobState.QUEUED
    await run_worker(greet)
    await job.wait()
    assert (await producer.jobs(id=job.job_id)).jobs[0].state is JobState.SUCCEEDED
    assert (await producer.jobs(id="no such job")).jobs == ()


async def test_what_cannot_be_decoded_is_listed_as_such(producer, redis):
    job = await producer.enqueue(greet("Ada"))
    await redis.set(f"arq:job:{job.job_id}", b"not what it was")
    (info,) = (await producer.jobs()).jobs
    assert (info.job_id, info.task) == (job.job_id, None)
    assert "no job" in info.unreadable
    page = await producer.jobs(task="greet")
    assert (page.jobs, page.unreadable) == ((), 1)
    await job.abort()


async def test_counts(producer):
    await producer.enqueue_many([greet("Ada"), greet("Grace")])
    await producer.enqueue(greet("Alan"), delay=60)
    counts = await producer.job_counts()
    assert (counts.queued, counts.later, counts.running, counts.dead) == (2, 1, 0, 0)
    await producer.abort_where(everything=True)


@pytest.mark.leaves_keys("arq:result:*")
def test_from_synchronous_code(redis_url):
    with BlockingProducer(redis_url) as producer:
        job = producer.enqueue(greet("Ada"), delay=60)
        assert [info.job_id for info in producer.jobs(state="scheduled").jobs] == [job.job_id]
        job.abort()
