"""A queue can be emptied: all that wait in it end as cancelled, and what runs goes on. See docs/control.md."""

import asyncio

import pytest

from common import ConcurrencyLimit, Context, RetryPolicy, fixed, task
from common.errors import ConfigurationError, JobCancelled
from common.jobs import JobState
from producer import BlockingProducer

signals: dict[str, asyncio.Event] = {}


@task(limits=[ConcurrencyLimit(1)])
async def linger(ctx: Context) -> str:
    signals["running"].set()
    await signals["gate"].wait()
    return "done"


@task(retry=RetryPolicy(max_attempts=2, backoff=fixed(3600)))
async def try_again(ctx: Context) -> None:
    signals["tried"].set()
    raise ConnectionError("not yet")


@task
async def greet(ctx: Context, name: str) -> str:
    return f"Hello, {name}"


@pytest.fixture(autouse=True)
async def nothing_happened_yet():
    signals.update(running=asyncio.Event(), gate=asyncio.Event(), tried=asyncio.Event())


async def test_all_that_wait_end_as_cancelled_and_who_waits_is_told(producer):
    due = await producer.enqueue(greet("Ada"))
    later = await producer.enqueue(greet("Grace"), delay=3600)
    urgent = await producer.enqueue(greet("Alan"), priority="high")
    tenants = [await producer.enqueue(greet("Edsger"), fair_key="tu/e") for _ in range(3)]
    elsewhere = await producer.enqueue(greet("Barbara"), queue="another", delay=3600)
    waiting = asyncio.create_task(due.result(timeout=30))
    done = await producer.purge("arq:queue")
    assert (done.cancelled, done.told, done.left) == (6, 0, 0)
    with pytest.raises(JobCancelled):
        await waiting
    for job in (due, later, urgent, *tenants):
        assert await job.status() is JobState.CANCELLED
    assert await elsewhere.status() is JobState.SCHEDULED
    assert (await producer.purge("arq:queue")).cancelled == 0
    await elsewhere.abort()


async def test_what_runs_goes_on_and_what_waits_for_its_turn_ends(producer, run_worker):
    await run_worker(linger, try_again)
    running = await producer.enqueue(linger())
    async with asyncio.timeout(30):
        await signals["running"].wait()
        limited = await producer.enqueue(linger())
        while not (await producer.jobs(state="waiting")).jobs:
            await asyncio.sleep(0.01)
        failing = await producer.enqueue(try_again())
        await signals["tried"].wait()
        while await failing.status() is not JobState.SCHEDULED:
            await asyncio.sleep(0.01)
    assert (await producer.purge("arq:queue")).cancelled == 2
    assert await limited.status() is await failing.status() is JobState.CANCELLED
    signals["gate"].set()
    assert await running.result(timeout=30) == "done"


async def test_jobs_that_nobody_can_decode_end_too(producer, redis):
    job = await producer.enqueue(greet("Ada"))
    await redis.set(f"arq:job:{job.job_id}", b"no job")
    assert (await producer.purge("arq:queue")).cancelled == 1
    assert await job.status() is JobState.CANCELLED


@pytest.mark.leaves_keys
async def test_without_results_nothing_is_left(producer, redis):
    await producer.enqueue_many([greet(str(number)) for number in range(250)])
    steps = []
    done = await producer.purge("arq:queue", keep_results=False, progress=steps.append)
    assert done.cancelled == 250
    assert [step.cancelled for step in steps] == sorted(step.cancelled for step in steps)
    assert len(steps) > 1
    assert await redis.dbsize() == 0


async def test_a_queue_has_to_be_named(producer):
    with pytest.raises(ConfigurationError, match="queue="):
        await producer.purge("")


@pytest.mark.leaves_keys("arq:result:*")
def test_from_synchronous_code(redis_url):
    with BlockingProducer(redis_url) as producer:
        producer.enqueue(greet("Ada"))
        assert producer.purge("arq:queue").cancelled == 1
