"""arq's chapters on enqueueing and deferring: due times, queues, expiry, and what a client reads of a job."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from arq import func
from arq.jobs import Job, JobStatus
from arq.worker import JobExecutionFailed

pytestmark = pytest.mark.leaves_keys("arq:result:*")


async def greet(ctx, who="you"):
    return f"hello {who}"


async def test_a_job_deferred_by_a_time_does_not_start_before_it(make_worker, arq_redis):
    job = await arq_redis.enqueue_job("greet", _defer_by=0.15)
    due = (await job.info()).score
    assert await job.status() is JobStatus.deferred
    await make_worker([greet]).run_check()
    done = await job.result_info()
    assert done.start_time.timestamp() * 1000 >= due - 2  # the clocks' own rounding


async def test_a_job_deferred_until_a_moment_does_not_start_before_it(make_worker, arq_redis):
    moment = datetime.now(UTC) + timedelta(milliseconds=150)
    job = await arq_redis.enqueue_job("greet", _defer_until=moment)
    await make_worker([greet]).run_check()
    assert (await job.result_info()).start_time >= moment - timedelta(milliseconds=2)


async def test_jobs_start_in_the_order_they_are_due(make_worker, arq_redis):
    order = []

    async def note(ctx, name):
        order.append(name)

    now = datetime.now(UTC)
    for name, seconds in [("b", -10), ("c", -5), ("a", -20)]:
        await arq_redis.enqueue_job("note", name, _defer_until=now + timedelta(seconds=seconds))
    await make_worker([func(note, name="note")], max_jobs=1).run_check()
    assert order == ["a", "b", "c"]


async def test_a_worker_serves_its_own_queue_only(make_worker, arq_redis):
    here = await arq_redis.enqueue_job("greet", _queue_name="here")
    there = await arq_redis.enqueue_job("greet", _queue_name="there")
    assert await make_worker([greet], queue_name="here").run_check() == 1
    assert await here.status() is JobStatus.complete
    assert await there.status() is JobStatus.queued
    assert (await here.result_info()).queue_name == "here"
    assert await make_worker([greet], queue_name="there").run_check() == 1


async def test_what_a_job_enqueues_goes_to_its_workers_queue(make_worker, arq_redis):
    async def parent(ctx):
        await ctx["redis"].enqueue_job("greet")

    await arq_redis.enqueue_job("parent", _queue_name="own")
    assert await make_worker([func(parent, name="parent"), greet], queue_name="own").run_check() == 2


async def test_a_job_that_expired_before_its_start_fails(make_worker, arq_redis, until):
    job = await arq_redis.enqueue_job("greet", _job_id="late", _expires=0.001)

    async def expired():
        return not await arq_redis.exists("arq:job:late")

    await until(expired)
    worker = make_worker([greet])
    await worker.async_run()
    assert (worker.jobs_complete, worker.jobs_failed) == (0, 1)
    with pytest.raises(JobExecutionFailed, match="job expired"):
        await job.result()


async def test_job_try_sets_the_number_of_the_first_attempt(make_worker, arq_redis):
    async def which(ctx):
        return ctx["job_try"]

    job = await arq_redis.enqueue_job("which", _job_try=3)
    await make_worker([func(which, name="which")]).run_check()
    assert await job.result() == 3
    assert (await job.result_info()).job_try == 3


async def test_job_try_past_the_limit_fails(make_worker, arq_redis):
    job = await arq_redis.enqueue_job("greet", _job_try=6)
    worker = make_worker([greet])
    await worker.async_run()
    assert worker.jobs_failed == 1
    with pytest.raises(JobExecutionFailed, match="max 5 retries exceeded"):
        await job.result()


async def test_what_a_client_reads_of_a_job_through_its_life(make_worker, running, arq_redis):
    started, finish = asyncio.Event(), asyncio.Event()

    async def slow(ctx, a, *, b):
        started.set()
        await finish.wait()
        return a + b

    job = await arq_redis.enqueue_job("slow", 1, b=2, _job_id="one")
    assert await job.status() is JobStatus.queued
    async with running(make_worker([func(slow, name="slow")])):
        await started.wait()
        assert await job.status() is JobStatus.in_progress
        info = await job.info()
        assert (info.function, info.args, info.kwargs) == ("slow", (1,), {"b": 2})
        assert [(queued.job_id, queued.function) for queued in await arq_redis.queued_jobs()] == [("one", "slow")]
        finish.set()
        assert await job.result(timeout=10, poll_delay=0.01) == 3
    assert await job.status() is JobStatus.complete
    assert await arq_redis.queued_jobs() == []
    done = await job.info()
    assert (done.function, done.args, done.kwargs, done.job_try) == ("slow", (1,), {"b": 2}, 1)
    assert (done.success, done.result, done.score, done.queue_name) == (True, 3, None, "arq:queue")
    assert info.enqueue_time == done.enqueue_time <= done.start_time <= done.finish_time
    [listed] = await arq_redis.all_job_results()
    assert (listed.job_id, listed.result) == ("one", 3)
    assert await Job("other", arq_redis).status() is JobStatus.not_found
