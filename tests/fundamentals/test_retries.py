"""A failed attempt is tried again, as often and as late as the task says."""

import pytest

from common import NEVER, Context, Retry, RetryPolicy, fixed, task
from common.errors import TaskFailed

AT_ONCE = RetryPolicy(max_attempts=3, backoff=fixed(0))


@task(retry=AT_ONCE)
async def third_time_lucky(ctx: Context) -> int:
    if ctx.attempt < 3:
        raise ConnectionError("not yet")
    return ctx.attempt


@task(retry=AT_ONCE)
async def never_lucky(ctx: Context) -> None:
    raise ConnectionError(f"attempt {ctx.attempt} of {ctx.max_attempts}")


@task(retry=NEVER)
async def only_once(ctx: Context) -> None:
    raise ConnectionError("once")


@task(retry=RetryPolicy(max_attempts=3, backoff=fixed(0), fail_on=(ValueError,)))
async def some_errors_are_final(ctx: Context) -> None:
    raise ValueError(f"attempt {ctx.attempt}")


@task(retry=RetryPolicy(max_attempts=3, backoff=fixed(3600)))
async def asks_for_it(ctx: Context) -> str:
    if ctx.attempt == 1:
        raise Retry(after=0, reason="the shop is closed")
    return "open"


@task(retry=RetryPolicy(max_attempts=1))
async def asks_in_vain(ctx: Context) -> None:
    try:
        raise ConnectionError("no route")
    except ConnectionError as error:
        raise Retry(after=0) from error


async def test_an_error_is_tried_again(producer, run_worker):
    await run_worker(third_time_lucky)
    job = await producer.enqueue(third_time_lucky())
    assert await job.result(timeout=10) == 3


async def test_after_the_last_attempt_the_last_error_is_the_jobs(producer, run_worker):
    await run_worker(never_lucky)
    job = await producer.enqueue(never_lucky())
    with pytest.raises(TaskFailed, match="ConnectionError: attempt 3 of 3") as raised:
        await job.result(timeout=10)
    assert raised.value.attempts == 3


@pytest.mark.parametrize("final", [only_once, some_errors_are_final])
async def test_some_failures_are_final(final, producer, run_worker):
    await run_worker(final)
    job = await producer.enqueue(final())
    with pytest.raises(TaskFailed) as raised:
        await job.result(timeout=10)
    assert raised.value.attempts == 1


async def test_a_task_may_ask_for_another_attempt_and_say_when(producer, run_worker):
    await run_worker(asks_for_it)
    job = await producer.enqueue(asks_for_it())
    assert await job.result(timeout=10) == "open"


async def test_when_no_attempt_is_left_the_cause_of_the_retry_is_the_error(producer, run_worker):
    await run_worker(asks_in_vain)
    job = await producer.enqueue(asks_in_vain())
    with pytest.raises(TaskFailed, match="ConnectionError: no route"):
        await job.result(timeout=10)
