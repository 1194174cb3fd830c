"""An attempt has a time limit: the worker's, the task's own, or the job's own."""

import asyncio

import pytest

from common import NEVER, Context, RetryPolicy, fixed, task
from common.errors import TaskTimedOut

cleaned_up = asyncio.Event()


@task(timeout=0.05, retry=NEVER)
async def too_slow(ctx: Context) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        cleaned_up.set()


@task(timeout=0.05, retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def slow_at_first(ctx: Context) -> int:
    if ctx.attempt == 1:
        await asyncio.Event().wait()
    return ctx.attempt


@task(retry=NEVER)
async def patient(ctx: Context) -> None:
    await asyncio.Event().wait()


async def test_an_attempt_past_its_timeout_is_cancelled_and_the_job_fails(producer, run_worker):
    cleaned_up.clear()
    await run_worker(too_slow)
    job = await producer.enqueue(too_slow())
    with pytest.raises(TaskTimedOut, match=r"the attempt ran past its timeout of 0.05 s") as raised:
        await job.result(timeout=10)
    assert isinstance(raised.value, TimeoutError)
    assert cleaned_up.is_set(), "its finally ran"


async def test_a_timeout_is_tried_again_as_any_error_is(producer, run_worker):
    await run_worker(slow_at_first)
    job = await producer.enqueue(slow_at_first())
    assert await job.result(timeout=10) == 2


async def test_one_job_may_have_less_time_than_its_task(producer, run_worker):
    await run_worker(patient)
    job = await producer.enqueue(patient(), timeout=0.05)
    with pytest.raises(TaskTimedOut):
        await job.result(timeout=10)


async def test_a_task_that_says_nothing_has_the_workers_limit(producer, run_worker):
    await run_worker(patient, job_timeout=0.05)
    job = await producer.enqueue(patient())
    with pytest.raises(TaskTimedOut):
        await job.result(timeout=10)
