"""The attempts a job has had: `JobInfo.attempts`, one timeline of all of them, whatever became of each."""

import asyncio
import logging
import signal

import pytest

from common import NEVER, Context, Discard, RetryPolicy, Snooze, fixed, task
from common.errors import BarqueError, TaskFailed
from common.jobs import JobState
from common.secret import Secret
from common.settings import Settings
from producer import Producer
from tests.support.log_lines import lines

__all__ = ["lines"]

AT_ONCE = RetryPolicy(max_attempts=3, backoff=fixed(0))


@task(retry=AT_ONCE)
async def third_time_lucky(ctx: Context) -> int:
    if ctx.attempt < 3:
        raise ConnectionError(f"no route, attempt {ctx.attempt}")
    return ctx.attempt


@task(retry=AT_ONCE)
async def never_lucky(ctx: Context) -> None:
    raise ConnectionError("no route")


@task
async def plain(ctx: Context) -> str:
    return "well"


@task(timeout=0.05, retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def slow_at_first(ctx: Context) -> None:
    if ctx.attempt == 1:
        await asyncio.sleep(3600)


@task
async def put_off(ctx: Context) -> str:
    looks = ctx.state["looks"] = ctx.state.get("looks", 0) + 1
    if looks < 3:
        raise Snooze(after=0, reason="the report is not there yet")
    return "there"


@task
async def put_off_for_long(ctx: Context) -> None:
    raise Snooze(after=3600)


@task
async def dropped(ctx: Context) -> None:
    raise Discard("nobody needs it")


@task(retry=RetryPolicy(max_attempts=80, backoff=fixed(0)))
async def many_times(ctx: Context) -> None:
    if ctx.attempt < 61:
        raise ConnectionError("no route")


@task(cpu=True, keep_logs=5)
def computes(ctx: Context) -> int:
    ctx.log.warning("counted", sheep=3)
    return 3


def told(info):
    return [(attempt.number, attempt.outcome) for attempt in info.attempts]


async def test_each_attempt_is_told_of_the_oldest_first(producer, run_worker):
    worker = await run_worker(third_time_lucky)
    job = await producer.enqueue(third_time_lucky())
    await job.result(timeout=30)
    info = await job.info()
    assert told(info) == [(1, "retried"), (2, "retried"), (3, "succeeded")]
    first, second, last = info.attempts
    assert {attempt.worker for attempt in info.attempts} == {worker.worker_id}
    assert first.started_at <= first.finished_at <= second.started_at
    assert (first.error.type, first.error.message) == ("builtins.ConnectionError", "no route, attempt 1")
    assert first.retry_in == 0
    assert first.timing.steps == 1
    assert (last.started_at, last.finished_at, last.error) == (info.started_at, info.finished_at, None)


async def test_of_an_earlier_error_is_kept_where_it_was_raised(producer, run_worker):
    await run_worker(never_lucky)
    job = await producer.enqueue(never_lucky())
    with pytest.raises(TaskFailed):
        await job.result(timeout=30)
    first, _, last = (await job.info()).attempts
    (frame,) = first.error.traceback.splitlines()
    assert frame.startswith('  File "')
    assert frame.endswith(", in never_lucky")
    assert "raise ConnectionError" not in first.error.traceback, "the frames without their source"
    assert "raise ConnectionError" in last.error.traceback, "the last one's is whole"


async def test_a_job_that_succeeds_at_once_keeps_nothing_but_its_result(producer, run_worker, redis):
    await run_worker(plain)
    job = await producer.enqueue(plain())
    await job.result(timeout=30)
    assert told(await job.info()) == [(1, "succeeded")]
    assert await redis.exists(f"barque:attempts:{job.job_id}") == 0


async def test_one_that_ran_past_its_timeout(producer, run_worker):
    await run_worker(slow_at_first)
    job = await producer.enqueue(slow_at_first())
    await job.result(timeout=30)
    info = await job.info()
    assert told(info) == [(1, "timed_out"), (2, "succeeded")]
    assert info.attempts[0].error.type == "builtins.TimeoutError"


async def test_one_that_its_task_put_off_has_the_number_of_the_next(producer, run_worker, redis):
    await run_worker(put_off, keep_result=60)
    job = await producer.enqueue(put_off())
    assert await job.result(timeout=30) == "there"
    info = await job.info()
    assert told(info) == [(1, "snoozed"), (1, "snoozed"), (1, "succeeded")]
    assert info.attempts[0].reason == "the report is not there yet"
    assert 0 < await redis.pttl(f"barque:attempts:{job.job_id}") <= 60_000, "it goes with the result"


async def test_one_that_its_worker_gave_back(producer, run_worker, lines):
    begun = asyncio.Event()

    @task(name="long")
    async def long(ctx: Context) -> str:
        if begun.is_set():
            return "done elsewhere"
        begun.set()
        await asyncio.sleep(3600)
        return ""

    leaves = await run_worker(long)
    job = await producer.enqueue(long())
    await asyncio.wait_for(begun.wait(), 30)
    leaves.handle_sig(signal.SIGTERM)
    await lines.of("job_released")
    waiting = await job.info()
    assert told(waiting) == [(1, "released")]
    assert waiting.attempts[0].worker == leaves.worker_id
    await run_worker(long)
    assert await job.result(timeout=30) == "done elsewhere"
    assert told(await job.info()) == [(1, "released"), (1, "succeeded")]


async def test_one_whose_worker_was_lost(producer, run_worker):
    job = await producer.enqueue(third_time_lucky())
    await claim_and_die(producer, job)
    assert told(await job.info()) == [(1, "lost")], "known before anybody claims the job again"
    await run_worker(third_time_lucky)
    assert await job.result(timeout=30) == 3
    info = await job.info()
    assert told(info) == [(1, "lost"), (2, "retried"), (3, "succeeded")]
    lost = info.attempts[0]
    assert (lost.started_at, lost.worker, lost.error) == (None, None, None)
    assert lost.finished_at <= info.attempts[1].started_at, "when its lease ended"


async def test_one_whose_workers_were_all_lost_ends_with_the_last_of_them(producer, run_worker):
    job = await producer.enqueue(third_time_lucky())
    for _ in range(3):
        await claim_and_die(producer, job)
    await run_worker(third_time_lucky)
    with pytest.raises(TaskFailed, match="JobLost"):
        await job.result(timeout=30)
    assert told(await job.info()) == [(1, "lost"), (2, "lost"), (3, "lost")]


async def test_one_that_runs_now(producer, run_worker):
    begun, go_on = asyncio.Event(), asyncio.Event()

    @task(name="runs")
    async def runs(ctx: Context) -> None:
        begun.set()
        await go_on.wait()

    worker = await run_worker(runs)
    job = await producer.enqueue(runs())
    await asyncio.wait_for(begun.wait(), 30)
    (attempt,) = (await job.info()).attempts
    assert (attempt.number, attempt.outcome, attempt.worker) == (1, "running", worker.worker_id)
    go_on.set()
    await job.result(timeout=30)


async def test_one_that_waits_for_its_first_has_none(producer):
    job = await producer.enqueue(plain(), delay=60)
    assert (await job.info()).attempts == ()
    await job.abort()


async def test_one_that_is_aborted_while_it_waits_keeps_those_it_had(producer, run_worker, lines):
    await run_worker(put_off_for_long)
    job = await producer.enqueue(put_off_for_long())
    await lines.of("job_snoozed")
    await until_state(job, JobState.SCHEDULED)
    assert await job.abort()
    info = await job.info()
    assert (info.state, told(info)) == (JobState.CANCELLED, [(1, "snoozed")])


async def test_one_that_was_dropped(producer, run_worker):
    await run_worker(dropped)
    job = await producer.enqueue(dropped())
    with pytest.raises(BarqueError):
        await job.result(timeout=30)
    assert told(await job.info()) == [(1, "discarded")]


async def test_fifty_are_kept_and_it_is_known_how_many_there_were(producer, run_worker):
    await run_worker(many_times)
    job = await producer.enqueue(many_times())
    await job.result(timeout=30)
    info = await job.info()
    assert (info.attempts_dropped, len(info.attempts)) == (10, 51)
    assert told(info)[0] == (11, "retried")
    assert told(info)[-1] == (61, "succeeded")


async def test_an_id_that_is_enqueued_again_begins_a_history_of_its_own(producer, run_worker):
    await run_worker(third_time_lucky, plain, keep_result=0)
    first = await producer.enqueue(third_time_lucky(), job_id="nightly")
    await first.result(timeout=30)
    again = await producer.enqueue(plain(), job_id="nightly", delay=3600)
    assert again.is_new
    assert (await again.info()).attempts == ()
    await again.abort()


async def test_a_dead_letter_has_it_and_a_replayed_job_begins_anew(producer, run_worker):
    await run_worker(never_lucky, keep_result=0)
    job = await producer.enqueue(never_lucky())
    with pytest.raises(TaskFailed):
        await job.result(timeout=30)
    letter = await producer.dead.get(job.job_id)
    assert [(attempt.number, attempt.outcome) for attempt in letter.history] == [
        (1, "retried"), (2, "retried"), (3, "failed"),
    ]  # fmt: skip
    assert letter.history[-1].finished_at == letter.died_at
    await producer.dead.replay(job.job_id, delay=3600)
    assert (await job.info()).attempts == ()
    await job.abort()


class TestLogs:
    """`@task(keep_logs=…)`: the last lines of each attempt are kept with it."""

    async def test_each_attempt_has_its_own(self, producer, run_worker):
        @task(retry=AT_ONCE, keep_logs=2)
        async def talks(ctx: Context) -> None:
            ctx.log.info("begun")
            ctx.log.warning("asking", host="shop", tries=ctx.attempt)
            logging.getLogger("library").warning("slow: %d ms", 700)
            if ctx.attempt == 1:
                raise ConnectionError("no route")

        await run_worker(talks)
        job = await producer.enqueue(talks())
        await job.result(timeout=30)
        info = await job.info()
        assert told(info) == [(1, "retried"), (2, "succeeded")]
        first, last = info.attempts
        assert [line.level for line in first.logs] == ["warning", "warning"]
        assert [line.text for line in last.logs][1] == "slow: 700 ms"
        assert "tries=2" in last.logs[0].text
        assert info.logs == first.logs + last.logs
        assert first.started_at <= first.logs[0].at <= last.logs[0].at

    async def test_a_plain_def_and_the_threads_it_runs_in(self, producer, run_worker):
        @task(keep_logs=5)
        def blocks(ctx: Context) -> None:
            ctx.log.warning("in a thread")

        await run_worker(blocks)
        job = await producer.enqueue(blocks())
        await job.result(timeout=30)
        (line,) = (await job.info()).logs
        assert "in a thread" in line.text

    async def test_a_task_in_a_process(self, producer, run_worker):
        await run_worker(computes)
        job = await producer.enqueue(computes())
        assert await job.result(timeout=30) == 3
        (line,) = (await job.info()).logs
        assert "counted" in line.text
        assert "sheep=3" in line.text

    async def test_of_a_job_that_fails_they_are_in_its_dead_letter_too(self, producer, run_worker):
        @task(retry=NEVER, keep_logs=5)
        async def fails(ctx: Context) -> None:
            ctx.log.warning("on the way")
            raise ConnectionError("no route")

        await run_worker(fails, keep_result=0)
        job = await producer.enqueue(fails())
        with pytest.raises(TaskFailed):
            await job.result(timeout=30)
        (attempt,) = (await producer.dead.get(job.job_id)).history
        assert "on the way" in attempt.logs[0].text

    async def test_a_setting_says_it_for_all_tasks_and_a_task_for_itself(self, redis_url, producer, run_worker):
        @task
        async def loud(ctx: Context) -> None:
            ctx.log.warning("heard")

        @task(keep_logs=0)
        async def quiet(ctx: Context) -> None:
            ctx.log.warning("not kept")

        await run_worker(loud, quiet, settings=Settings(redis_url=redis_url, keep_logs=5))
        jobs = [await producer.enqueue(each()) for each in (loud, quiet)]
        for job in jobs:
            await job.result(timeout=30)
        assert [len((await job.info()).logs) for job in jobs] == [1, 0]

    async def test_a_job_that_logs_nothing_or_keeps_no_result_leaves_nothing(self, producer, run_worker, redis):
        @task(keep_logs=5)
        async def silent(ctx: Context) -> None:
            pass

        @task(keep_logs=5, keep_result=0)
        async def unkept(ctx: Context) -> None:
            ctx.log.warning("into the void")

        await run_worker(silent, unkept)
        for each in (silent, unkept):
            await (await producer.enqueue(each())).result(timeout=30)
        assert await redis.keys("barque:attempts:*") == []


class TestSigned:
    """With BARQUE_SIGNING_KEYS workers sign what they tell; what they did not is shown as what it is."""

    KEYS = Secret("a:" + "0123456789abcdef" * 2)

    async def test_what_somebody_else_wrote_is_not_taken_for_a_workers_word(self, redis_url, redis, run_worker):
        settings = Settings(redis_url=redis_url, signing_keys=self.KEYS)
        await run_worker(third_time_lucky, settings=settings)
        async with Producer(settings=settings) as producer:
            job = await producer.enqueue(third_time_lucky())
            await job.result(timeout=30)
            assert told(await job.info()) == [(1, "retried"), (2, "retried"), (3, "succeeded")]
            key = f"barque:attempts:{job.job_id}"
            theirs = (await redis.lindex(key, 0)).replace(b"no route", b"your f**")
            await redis.lset(key, 0, theirs)
            info = await job.info()
            assert told(info) == [(0, "unreadable"), (2, "retried"), (3, "succeeded")]
            assert info.attempts[0].error.type == "common.errors.SignatureRefused"


async def claim_and_die(producer, job) -> None:
    """Take the job as a worker does that is gone a moment later."""
    await producer.store.claim(("arq:queue",), most=1, lease_ms=1, worker="gone", number=1)
    await until_state(job, JobState.QUEUED)


async def until_state(job, state: JobState) -> None:
    async with asyncio.timeout(30):
        while await job.status() is not state:
            await asyncio.sleep(0.005)
