"""Enqueue a job, and wait for what it returns."""

import pytest

from common import Call, Context, task
from common.errors import JobNotFound, ResultTimeout, TaskFailed
from common.jobs import JobState


@task
async def add(ctx: Context, a: int, b: int) -> int:
    return a + b


@task
async def divide(ctx: Context, a: float, b: float) -> float:
    return a / b


async def test_enqueue_a_job_and_wait_for_its_result(producer, run_worker):
    await run_worker(add)
    job = await producer.enqueue(add(1, b=2))
    assert await job.result(timeout=10) == 3


async def test_awaiting_the_job_is_awaiting_its_result(producer, run_worker):
    await run_worker(add)
    assert await (await producer.enqueue(add(1, 2))) == 3


async def test_a_result_can_be_asked_for_again_and_by_someone_else(producer, run_worker):
    await run_worker(add)
    job = await producer.enqueue(add(1, 2))
    assert await job.result(timeout=10) == 3
    assert await job.result() == 3
    assert await producer.job(job.job_id, task=add).result(timeout=10) == 3


async def test_a_call_by_name_needs_no_code_of_the_task(producer, run_worker):
    await run_worker(add)
    job = await producer.enqueue(Call("add", 1, b=2))
    assert await job.result(timeout=10) == 3


async def test_a_job_says_where_it_stands(producer, run_worker):
    job = await producer.enqueue(add(1, 2))
    assert await job.status() is JobState.QUEUED
    await run_worker(add)
    await job.wait(timeout=10)
    assert await job.status() is JobState.SUCCEEDED
    info = await job.info()
    assert (info.task, info.arguments, info.result, info.attempt) == ("add", (1, 2), 3, 1)
    assert info.enqueued_at <= info.finished_at


async def test_what_a_task_raises_reaches_who_waits(producer, run_worker):
    from common import NEVER

    careful = task(name="careful", retry=NEVER)(divide.function)
    await run_worker(careful)
    job = await producer.enqueue(careful(1, 0))
    with pytest.raises(TaskFailed, match="ZeroDivisionError: float division by zero") as raised:
        await job.result(timeout=10)
    assert raised.value.remote_type == "builtins.ZeroDivisionError"
    assert "return a / b" in raised.value.remote_traceback
    assert raised.value.job_id == job.job_id


@pytest.mark.leaves_keys
async def test_waiting_has_a_limit_and_the_job_goes_on(producer):
    job = await producer.enqueue(add(1, 2))
    with pytest.raises(ResultTimeout, match=r"has no result after 0\.05 s; it goes on"):
        await job.result(timeout=0.05)
    assert await job.status() is JobState.QUEUED


async def test_a_job_that_never_was_is_not_waited_for(producer):
    with pytest.raises(JobNotFound):
        await producer.job("no-such-job").result(timeout=10)
