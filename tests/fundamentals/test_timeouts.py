"""An attempt has a time limit: the worker's, the task's own, or the job's own. And a job may have a deadline."""

import asyncio
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from common import NEVER, Context, RetryPolicy, Snooze, fixed, task
from common.codec import Extras, encode_job
from common.errors import TaskFailed, TaskTimedOut
from common.jobs import JobState
from common.redis import keys
from tests.support.log_lines import lines

__all__ = ["lines"]

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


# --- soft: told, and left to come to an end by itself


@task(soft_timeout=0.05, timeout=3600, retry=NEVER)
async def looks_now_and_then(ctx: Context) -> str:
    assert ctx.time_left > 3000
    while not ctx.stopping:
        await asyncio.sleep(0.001)
    return f"got this far, by {ctx.stopping.why}"


@task(soft_timeout=0.05, retry=RetryPolicy(max_attempts=1))
async def goes_on_another_time(ctx: Context) -> int:
    done = ctx.state.setdefault("done", 0)
    if done < 2:
        await ctx.stopping
        ctx.state["done"] += 1
        raise Snooze(after=0, reason=f"{ctx.state['done']} of 2 parts done")
    return done


@task(soft_timeout=0.05, retry=NEVER)
async def is_interrupted_where_it_likes(ctx: Context) -> str:
    try:
        async with ctx.stopping.limit():
            await asyncio.Event().wait()
    except TimeoutError:
        await asyncio.sleep(0)  # what comes after the block is not cancelled
        return "tidied up"
    return "never here"


@task(retry=NEVER)
async def patient_but_told(ctx: Context) -> str:
    return await ctx.stopping


async def test_a_task_is_told_and_returns_what_it_has(producer, run_worker, lines):
    await run_worker(looks_now_and_then)
    job = await producer.enqueue(looks_now_and_then())
    assert await job.result(timeout=10) == "got this far, by soft_timeout"
    line = await lines.of("job_soft_timeout")
    assert (line["job_id"], line["soft_timeout"], line["log_level"]) == (job.job_id, 0.05, "warning")


async def test_a_long_task_goes_on_in_parts(producer, run_worker, lines):
    await run_worker(goes_on_another_time)
    assert await (await producer.enqueue(goes_on_another_time())).result(timeout=10) == 2
    assert [line["reason"] for line in lines.all("job_snoozed")] == ["1 of 2 parts done", "2 of 2 parts done"]


async def test_a_block_may_be_interrupted_and_what_follows_it_not(producer, run_worker):
    await run_worker(is_interrupted_where_it_likes)
    job = await producer.enqueue(is_interrupted_where_it_likes())
    assert await job.result(timeout=10) == "tidied up"


@task(soft_timeout=0.05, timeout=3600, retry=NEVER)
def blocks_in_parts(ctx: Context) -> bool:
    while not ctx.stopping:
        time.sleep(0.001)
    return ctx.time_left > 3000


async def test_a_plain_def_looks_at_the_same_flag(producer, run_worker):
    await run_worker(blocks_in_parts)
    assert await (await producer.enqueue(blocks_in_parts())).result(timeout=10) is True


async def test_one_job_may_be_told_at_another_time(producer, run_worker):
    await run_worker(patient_but_told)
    job = await producer.enqueue(patient_but_told(), soft_timeout=0.05)
    assert await job.result(timeout=10) == "soft_timeout"


async def test_a_worker_that_stops_tells_its_tasks_too(producer, run_worker):
    begun = asyncio.Event()
    left = []

    @task(name="told_at_the_end", retry=NEVER)
    async def told_at_the_end(ctx: Context) -> str:
        begun.set()
        why = await ctx.stopping
        left.append(ctx.time_left)
        return why

    worker = await run_worker(told_at_the_end, job_completion_wait=60, job_timeout=3600)
    job = await producer.enqueue(told_at_the_end())
    await begun.wait()
    worker.handle_sig_wait_for_completion(signal.SIGTERM)
    assert await job.result(timeout=10) == "shutdown"
    assert 0 < left[0] <= 60, "it is given back at the end of the grace period"
    async with asyncio.timeout(20):
        await worker._ended.wait()  # it says goodbye, and leaves nothing of itself behind


# --- hard, and nevertheless


@pytest.mark.leaves_keys("arq:result:*", "arq:retry:*")
async def test_a_task_that_does_not_stop_holds_nothing_and_what_it_returns_in_the_end_is_dropped(
    producer, run_worker, redis, monkeypatch, lines
):
    monkeypatch.setattr("workers.executor._CANCEL_AGAIN", 0.01)
    let_go = asyncio.Event()

    @task(name="does_not_stop", timeout=0.05, retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
    async def stubborn(ctx: Context) -> str:
        if ctx.attempt == 2:
            return "the second attempt"
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    worker = await run_worker(stubborn, max_jobs=1)
    job = await producer.enqueue(stubborn())
    assert await job.result(timeout=10) == "the second attempt", "in the only slot there is"
    line = await lines.of("job_did_not_stop")
    assert (line["job_id"], line["reason"], line["running_on"]) == (job.job_id, "timed_out", 1)
    executor = worker._engine.executor
    assert (executor.given_up, executor.running) == (1, 0)
    assert await redis.exists(keys.lease(job.job_id)) == 0

    worker._reports._last = None  # the next heartbeat reports
    await until_reported(producer, given_up=1)

    let_go.set()
    line = await lines.of("job_stopped_late")
    assert (line["job_id"], line["attempt"], line["running_on"]) == (job.job_id, 1, 0)
    assert (await job.info()).result == "the second attempt"
    assert await job.status() is JobState.SUCCEEDED
    assert executor.given_up == 0


async def until_reported(producer, *, given_up: int) -> None:
    async with asyncio.timeout(20):
        while [report.given_up for report in await producer.inspector.workers()] != [given_up]:
            await asyncio.sleep(0.01)


# --- a deadline over all attempts


@task(deadline=0.3, retry=NEVER)
async def never_ends(ctx: Context) -> None:
    assert ctx.time_left <= 0.3
    await asyncio.Event().wait()


@task(deadline=timedelta(hours=1), retry=RetryPolicy(max_attempts=10, backoff=fixed(5000), jitter="none"))
async def cannot_be_in_time(ctx: Context) -> None:
    raise ConnectionError("not yet")


@task(deadline=timedelta(hours=1), retry=NEVER)
async def snoozes_too_long(ctx: Context) -> None:
    raise Snooze(until=datetime.now(tz=UTC) + timedelta(days=1))


@task(deadline=5, retry=NEVER)
async def quick(ctx: Context) -> str:
    return "in time"


async def test_an_attempt_that_runs_is_stopped_at_the_deadline_of_its_job(producer, run_worker):
    await run_worker(never_ends)
    job = await producer.enqueue(never_ends())
    with pytest.raises(TaskTimedOut) as raised:
        await job.result(timeout=10)
    assert raised.value.remote_type == "common.errors.DeadlinePassed"
    # On a machine that is very busy the job is not even begun within 0.3 s.
    assert "was stopped at the job's deadline, 20" in str(raised.value) or "was not begun" in str(raised.value)
    (letter,) = (await producer.dead.list()).letters
    assert letter.reason == "deadline"


async def test_no_retry_is_planned_past_the_deadline(producer, run_worker, lines):
    await run_worker(cannot_be_in_time)
    job = await producer.enqueue(cannot_be_in_time())
    with pytest.raises(TaskFailed, match="ConnectionError: not yet") as raised:
        await job.result(timeout=10)
    assert "Not tried again: the next attempt would begin in 5000 s, past the job's deadline" in str(
        raised.value.remote_traceback
    )
    assert "past the job's deadline" in (await lines.of("job_failed"))["reason"]


async def test_nor_is_a_job_put_off_past_it(producer, run_worker):
    await run_worker(snoozes_too_long)
    job = await producer.enqueue(snoozes_too_long())
    with pytest.raises(TaskTimedOut, match="the task put its job off: the next attempt would begin in 8"):
        await job.result(timeout=10)


@pytest.mark.parametrize("name", ["quick", "plain"])
async def test_no_attempt_begins_after_it(name, producer, run_worker, redis, lines):
    begun = []

    async def plain(ctx) -> None:
        begun.append(1)

    plain.__qualname__ = "plain"
    # As a producer would have enqueued it an hour ago, with five seconds to go.
    extras = {"end": 1_700_000_005_000} if name == "plain" else {}
    payload = encode_job(name, (), {}, enqueued_ms=1_700_000_000_000, extras=Extras(**extras) if extras else None)
    await redis.set(keys.job("late"), payload)
    await redis.zadd("arq:queue", {"late": 1_700_000_000_000})
    await run_worker(quick, plain)
    with pytest.raises(TaskTimedOut) as raised:
        await producer.job("late").result(timeout=10)
    assert raised.value.remote_message == (
        "attempt 1 was not begun: the job's deadline, 2023-11-14T22:13:25.000Z, had passed"
    )
    assert raised.value.attempts == 0
    assert begun == []
    assert (await lines.of("job_timed_out"))["log_level"] == "error"


async def test_one_job_may_have_another_deadline(producer, run_worker):
    await run_worker(quick)
    job = await producer.enqueue(quick(), deadline=datetime.now(tz=UTC) + timedelta(hours=1))
    assert await job.result(timeout=10) == "in time"
