"""A job can be ended before its time: at once if it waits, by cancelling its coroutine if it runs."""

import asyncio

import pytest

from common import Context, task
from common.errors import JobCancelled
from common.jobs import JobState

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
