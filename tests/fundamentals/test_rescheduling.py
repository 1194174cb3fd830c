"""A job that waits can be given another time: sooner, later, at once. One that runs or has ended says so instead."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from common import Context, RetryPolicy, fixed, task
from common.errors import ConfigurationError, JobNotFound, JobNotWaiting
from common.jobs import JobState

signals: dict[str, asyncio.Event] = {}


@task
async def greet(ctx: Context, name: str) -> str:
    return f"Hello, {name}"


@task
async def wait_for_the_gate(ctx: Context) -> None:
    signals["running"].set()
    await signals["gate"].wait()


@task(retry=RetryPolicy(max_attempts=2, backoff=fixed(3600)))
async def second_time_lucky(ctx: Context) -> int:
    if ctx.attempt == 1:
        signals["running"].set()
        raise ConnectionError("not yet")
    return ctx.attempt


@pytest.fixture(autouse=True)
async def nothing_happened_yet():
    signals.update(running=asyncio.Event(), gate=asyncio.Event())


async def test_a_job_that_was_to_run_in_an_hour_runs_now(producer, run_worker):
    await run_worker(greet)
    job = await producer.enqueue(greet("Ada"), delay=3600)
    assert await job.status() is JobState.SCHEDULED
    await job.reschedule(delay=0)
    assert await job.result(timeout=10) == "Hello, Ada"


async def test_a_job_that_waits_for_a_worker_is_put_off(producer):
    job = await producer.enqueue(greet("Ada"))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    due = await job.reschedule(at=tomorrow)
    assert abs(due - tomorrow) < timedelta(seconds=1)
    assert await job.status() is JobState.SCHEDULED
    assert (await job.info()).due_at == due
    await job.abort()


async def test_a_job_between_two_attempts_need_not_wait_for_its_backoff(producer, run_worker):
    await run_worker(second_time_lucky)
    job = await producer.enqueue(second_time_lucky())
    async with asyncio.timeout(10):
        await signals["running"].wait()
        while await job.status() is not JobState.SCHEDULED:
            await asyncio.sleep(0.01)
    await job.reschedule(delay=0)
    assert await job.result(timeout=10) == 2  # the first attempt stays counted


async def test_a_job_that_runs_cannot_be_rescheduled(producer, run_worker):
    await run_worker(wait_for_the_gate)
    job = await producer.enqueue(wait_for_the_gate())
    async with asyncio.timeout(10):
        await signals["running"].wait()
    with pytest.raises(JobNotWaiting, match="a worker has it"):
        await job.reschedule(delay=60)
    signals["gate"].set()
    await job.result(timeout=10)
    with pytest.raises(JobNotWaiting, match="it has succeeded"):
        await job.reschedule(delay=60)


async def test_a_job_that_was_aborted_stays_so(producer):
    job = await producer.enqueue(greet("Ada"), delay=3600)
    await job.abort()
    with pytest.raises(JobNotWaiting, match="it was aborted"):
        await job.reschedule(delay=0)


async def test_a_job_that_never_was_cannot_be_rescheduled(producer):
    with pytest.raises(JobNotFound, match="no-such-job cannot be rescheduled"):
        await producer.job("no-such-job").reschedule(delay=60)


async def test_a_job_is_not_put_off_past_its_own_end(producer):
    job = await producer.enqueue(greet("Ada"), expires=60)
    with pytest.raises(ConfigurationError, match=r"expires at .* before it would be due"):
        await job.reschedule(delay=3600)
    assert await job.status() is JobState.QUEUED
    await job.abort()


@pytest.mark.parametrize(
    "when",
    [{}, {"delay": 5, "at": datetime.now(UTC)}, {"at": datetime.now(UTC).replace(tzinfo=None)}, {"delay": -1}],
)
async def test_when_has_to_be_said_once_and_clearly(when, producer):
    with pytest.raises(ConfigurationError):
        await producer.job("any").reschedule(**when)
