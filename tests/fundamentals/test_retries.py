"""A failed attempt is tried again, as often and as late as the task says; or put off, or dropped."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from common import NEVER, Context, Discard, Retry, RetryPolicy, RetryRule, Snooze, fixed, task
from common.errors import JobCancelled, JobDiscarded, TaskFailed
from common.jobs import JobState
from tests.support.log_lines import lines, until

__all__ = ["lines"]

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


# --- by kind of error


class AlreadyPaid(Exception): ...


BY_KIND = RetryPolicy(
    max_attempts=5,
    backoff=fixed(3600),
    rules={
        ConnectionError: RetryRule(backoff=fixed(0), max_attempts=3),
        PermissionError: "fail",
        AlreadyPaid: "ignore",
    },
)


@task(retry=BY_KIND)
async def charge(ctx: Context, error: str) -> str:
    raise {"gone": ConnectionResetError, "refused": PermissionError, "paid": AlreadyPaid}[error](f"it is {error}")


@pytest.mark.parametrize(("error", "attempts"), [("gone", 3), ("refused", 1)])
async def test_each_kind_of_error_has_a_rule_of_its_own(error, attempts, producer, run_worker):
    await run_worker(charge)
    job = await producer.enqueue(charge(error))
    with pytest.raises(TaskFailed, match=f"it is {error}") as raised:
        await job.result(timeout=10)
    assert raised.value.attempts == attempts


async def test_an_error_may_be_as_good_as_success(producer, run_worker, lines):
    await run_worker(charge)
    job = await producer.enqueue(charge("paid"))
    assert await job.result(timeout=10) is None
    assert await job.status() is JobState.SUCCEEDED
    line = await lines.of("job_succeeded")
    assert line["reason"].startswith("ignored ")
    assert line["reason"].endswith("AlreadyPaid: it is paid")


# --- limits on attempts and time


@task(retry=RetryPolicy(max_attempts=100, backoff=fixed(3600), jitter="none", max_time=timedelta(minutes=30)))
async def only_so_long(ctx: Context) -> None:
    raise ConnectionError("not yet")


async def test_no_attempt_is_planned_past_the_time_a_job_has(producer, run_worker, lines):
    await run_worker(only_so_long)
    job = await producer.enqueue(only_so_long())
    with pytest.raises(TaskFailed, match="ConnectionError: not yet") as raised:
        await job.result(timeout=10)
    assert raised.value.attempts == 1
    why = (await lines.of("job_failed"))["reason"]
    assert re.fullmatch(r"the next attempt would begin 36\d\d s after the job was first due, past max_time=1800 s", why)
    assert f"Not tried again: {why}" in raised.value.remote_traceback


@pytest.mark.parametrize("attempts", [1, 4])
async def test_one_job_may_have_more_or_fewer_attempts_than_its_task(attempts, producer, run_worker):
    await run_worker(never_lucky)
    job = await producer.enqueue(never_lucky(), max_attempts=attempts)
    with pytest.raises(TaskFailed, match=f"attempt {attempts} of {attempts}") as raised:
        await job.result(timeout=10)
    assert raised.value.attempts == attempts


# --- Retry-After


class TooManyRequests(Exception):
    """As httpx and requests raise it: the answer hangs on the exception."""

    def __init__(self, retry_after: str) -> None:
        super().__init__("429 Too Many Requests")
        self.response = SimpleNamespace(status_code=429, headers={"Retry-After": retry_after})


@task(retry=RetryPolicy(backoff=fixed(0), jitter="none"))
async def call_an_api(ctx: Context, retry_after: str) -> int:
    if ctx.attempt == 1:
        raise TooManyRequests(retry_after)
    return ctx.attempt


@pytest.mark.leaves_keys("arq:queue", "arq:job:*", "arq:retry:*", "barque:attempts:*")
async def test_a_server_that_asks_to_wait_is_left_alone_for_as_long(producer, run_worker, lines):
    await run_worker(call_an_api)
    job = await producer.enqueue(call_an_api("1800"))
    assert (await lines.of("job_retried"))["retry_in_ms"] == 1_800_000
    due = (await job.info()).due_at
    assert due > datetime.now(tz=UTC) + timedelta(minutes=20)


async def test_what_cannot_be_read_is_no_reason_to_wait(producer, run_worker):
    await run_worker(call_an_api)
    assert await (await producer.enqueue(call_an_api("any time now"))).result(timeout=10) == 2


# --- not now


opens_at = asyncio.Event()


@task(retry=NEVER)
async def wait_for_the_shop(ctx: Context) -> int:
    if not opens_at.is_set():
        raise Snooze(after=0.01, reason="closed")
    return ctx.attempt


@task
async def tomorrow(ctx: Context) -> None:
    raise Snooze(until=datetime.now(tz=UTC) + timedelta(days=1))


async def test_a_snoozed_job_comes_back_and_the_attempt_was_none(producer, run_worker, lines):
    opens_at.clear()
    await run_worker(wait_for_the_shop)
    job = await producer.enqueue(wait_for_the_shop())
    for _ in range(3):
        line = await lines.of("job_snoozed")
        assert (line["job_id"], line["attempt"], line["reason"], line["log_level"]) == (job.job_id, 1, "closed", "info")
    opens_at.set()
    assert await job.result(timeout=10) == 1, "with NEVER there is one attempt, and this is it"


@pytest.mark.leaves_keys("arq:queue", "arq:job:*", "arq:retry:*", "barque:attempts:*")
async def test_a_job_may_be_snoozed_until_a_moment(producer, run_worker, lines):
    await run_worker(tomorrow)
    job = await producer.enqueue(tomorrow())
    await lines.of("job_snoozed")
    info = await job.info()
    assert (info.state, info.attempt) == (JobState.SCHEDULED, 0)
    assert info.due_at > datetime.now(tz=UTC) + timedelta(hours=23)


async def test_a_plain_function_may_snooze_too(producer, run_worker):
    seen = []

    async def plain(ctx) -> int:
        seen.append(ctx["job_try"])
        if len(seen) < 3:
            raise Snooze(after=0)
        return len(seen)

    worker = await run_worker(plain)
    await until(lambda: worker._engine is not None)
    job = await worker.pool.enqueue_job("test_a_plain_function_may_snooze_too.<locals>.plain")
    assert await job.result(timeout=10) == 3
    assert seen == [1, 1, 1]


# --- not at all


@task
async def send_a_reminder(ctx: Context, customer: int) -> None:
    raise Discard(f"customer {customer} is gone")


async def test_a_discarded_job_ends_at_once_and_leaves_no_dead_letter(producer, run_worker, lines):
    await run_worker(send_a_reminder)
    job = await producer.enqueue(send_a_reminder(7))
    with pytest.raises(JobDiscarded, match="was discarded by its task: customer 7 is gone") as raised:
        await job.result(timeout=10)
    assert raised.value.reason == "customer 7 is gone"
    assert isinstance(raised.value, JobCancelled), "whoever treats it as cancelled needs to know no more"
    assert await job.status() is JobState.CANCELLED
    assert (await job.info()).error.message == "customer 7 is gone"
    assert await producer.dead.count() == 0
    line = await lines.of("job_discarded")
    assert (line["reason"], line["log_level"], "error" in line) == ("customer 7 is gone", "info", False)
