"""A job can be ended before its time: at once if it waits, by cancelling its coroutine if it runs."""

import asyncio
import time
from datetime import timedelta

import msgspec
import pytest
from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job as ArqJob

from common import Call, Context, RetryPolicy, fixed, task
from common.errors import ConfigurationError, JobCancelled
from common.jobs import JobState
from producer import BlockingProducer

signals: dict[str, asyncio.Event] = {}


@task
async def endless(ctx: Context) -> None:
    signals["running"].set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        signals["cancelled"].set()
        raise


@pytest.fixture(autouse=True)
async def nothing_happened_yet():
    signals.update(running=asyncio.Event(), cancelled=asyncio.Event())


async def test_a_waiting_job_ends_at_once(producer):
    job = await producer.enqueue(endless())
    assert await job.abort()
    assert await job.status() is JobState.CANCELLED
    with pytest.raises(JobCancelled, match="was aborted"):
        await job.result(timeout=10)


async def test_a_running_job_has_its_coroutine_cancelled(producer, run_worker):
    await run_worker(endless)
    job = await producer.enqueue(endless())
    async with asyncio.timeout(10):
        await signals["running"].wait()
    assert await job.abort()
    assert signals["cancelled"].is_set()
    with pytest.raises(JobCancelled):
        await job.result(timeout=10)


async def test_a_job_that_has_ended_cannot_be_aborted(producer, run_worker):
    quick = task(name="quick")(_quick)
    await run_worker(quick)
    job = await producer.enqueue(quick())
    assert await job.result(timeout=10) == "done"
    assert not await job.abort()
    assert await job.result() == "done"


async def _quick(ctx: Context) -> str:
    return "done"


async def test_a_job_that_never_was_cannot_be_aborted(producer):
    assert not await producer.job("no-such-job").abort()


@task(retry=RetryPolicy(max_attempts=5, backoff=fixed(3600)))
async def unlucky(ctx: Context) -> None:
    signals["running"].set()
    raise ConnectionError("not yet")


async def test_a_job_that_waits_for_its_next_attempt_ends_at_once(producer, run_worker):
    await run_worker(unlucky)
    job = await producer.enqueue(unlucky())
    async with asyncio.timeout(10):
        await signals["running"].wait()
        while await job.status() is not JobState.SCHEDULED:
            await asyncio.sleep(0.01)
    assert await job.abort()
    assert await job.status() is JobState.CANCELLED


async def test_a_job_that_is_due_tomorrow_ends_at_once(producer):
    job = await producer.enqueue(endless(), delay=86400)
    assert await job.abort()
    with pytest.raises(JobCancelled):
        await job.result(timeout=10)


async def test_what_is_enqueued_under_the_id_afterwards_is_another_job(producer, run_worker):
    """Of arq's clients, too, which leave a wish behind where they find no job (its issues 485, 394, 405)."""
    await run_worker(task(name="again", keep_result=0)(_again))

    async def it_ran():
        async with asyncio.timeout(10):
            await signals["running"].wait()
            while await producer.job("mine").status() is not JobState.UNKNOWN:
                await asyncio.sleep(0.01)
        signals["running"].clear()

    for _ in range(3):
        assert not await producer.job("mine").abort()
        await producer.enqueue(Call("again"), job_id="mine")
        await it_ran()
    stock = await create_pool(
        RedisSettings.from_dsn(producer.settings.redis_url),
        job_serializer=msgspec.msgpack.encode,
        job_deserializer=msgspec.msgpack.decode,
    )
    try:
        for _ in range(3):
            assert not await ArqJob("mine", stock).abort(timeout=10)
            wish = await stock.zscore("arq:abort", "mine")
            while time.time() * 1000 < wish + 1:  # within one millisecond nobody could tell which came first
                await asyncio.sleep(0)
            await stock.enqueue_job("again", _job_id="mine")
            await it_ran()
    finally:
        await stock.aclose()


async def _again(ctx: Context) -> None:
    signals["running"].set()


# Many at once


@task
async def send_mail(ctx: Context, customer: int, subject: str = "") -> None:
    pass


async def test_all_jobs_that_fit_are_aborted(producer):
    mails = await producer.enqueue_many(send_mail(n % 2, subject="news") for n in range(250))
    late = await producer.enqueue(send_mail(0, subject="news"), delay=3600)
    other = await producer.enqueue(endless())

    found = await producer.abort_where(task="send_*", arguments={0: 1}, dry_run=True)
    assert (found.looked_at, found.matched, found.cancelled) == (252, 125, 0)

    with pytest.raises(ConfigurationError, match="has no argument of that name; it takes: "):
        await producer.abort_where(task=send_mail, arguments={"custmer": 1})
    done = await producer.abort_where(task=send_mail, arguments={"customer": 1})
    assert (done.matched, done.cancelled, done.told, done.left) == (125, 125, 0, 0)
    assert [await job.status() for job in mails[:4]] == [JobState.QUEUED, JobState.CANCELLED] * 2
    with pytest.raises(JobCancelled):
        await mails[1].result(timeout=10)

    assert (await producer.abort_where(task="send_mail", state="scheduled")).cancelled == 1
    assert await late.status() is JobState.CANCELLED
    assert (await producer.abort_where(task="send_mail")).cancelled == 125
    assert await other.status() is JobState.QUEUED
    assert (await producer.abort_where(everything=True)).cancelled == 1


async def test_of_those_that_run_the_workers_are_told(producer, run_worker):
    await run_worker(endless)
    job = await producer.enqueue(endless(), metadata={"customer": "ada", "batch": 7})
    waiting = await producer.enqueue(endless(), queue="elsewhere", metadata={"customer": "ada"})
    async with asyncio.timeout(10):
        await signals["running"].wait()
    done = await producer.abort_where(metadata={"customer": "ada"}, state=("running", JobState.QUEUED))
    assert (done.told, done.cancelled) == (1, 0)  # nobody said that there is another queue
    with pytest.raises(JobCancelled):
        await job.result(timeout=10)
    assert (await producer.abort_where(metadata={"batch": 8}, queue="elsewhere")).matched == 0
    assert (await producer.abort_where(queue="elsewhere", older_than=3600)).matched == 0
    assert (await producer.abort_where(queue="elsewhere", older_than=timedelta(0))).cancelled == 1
    assert await waiting.status() is JobState.CANCELLED


async def test_it_says_how_far_it_is(producer):
    await producer.enqueue_many(send_mail(n) for n in range(1000))
    steps = []
    done = await producer.abort_where(task="send_mail", progress=steps.append)
    assert len(steps) > 3
    assert [step.cancelled for step in steps] == sorted(step.cancelled for step in steps)
    assert steps[-1] == done
    assert done.cancelled == 1000


async def test_nobody_aborts_all_by_mistake(producer):
    with pytest.raises(ConfigurationError, match="everything=True"):
        await producer.abort_where()
    with pytest.raises(ConfigurationError, match="everything=True"):
        await producer.abort_where(task="send_mail", everything=True)


@pytest.mark.parametrize(
    "filters",
    [{"task": ""}, {"queue": ""}, {"state": "succeeded"}, {"state": ()}, {"older_than": "1h"}, {"arguments": {1.5: 1}}],
)
async def test_a_filter_that_cannot_be_one_is_refused(filters, producer):
    with pytest.raises(ConfigurationError):
        await producer.abort_where(**filters)


def test_synchronous_code_does_it_too(redis_url):
    with BlockingProducer(redis_url) as producer:
        job = producer.enqueue(send_mail(1), delay=3600)
        assert job.reschedule(delay=60).tzinfo is not None
        assert producer.abort_where(task=send_mail).cancelled == 1
        assert job.status() is JobState.CANCELLED
