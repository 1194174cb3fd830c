"""arq's chapter "Retrying jobs and cancellation": Retry, tries, and what a stopping worker does to its jobs."""

import asyncio
import signal

import pytest
from arq import Retry, func
from arq.jobs import JobStatus
from arq.worker import FailedJobs, JobExecutionFailed, RetryJob

pytestmark = pytest.mark.leaves_keys("arq:result:*")


class Gate:
    """A job that says when it began and ends when it is let."""

    def __init__(self):
        self.started, self.open = asyncio.Event(), asyncio.Event()
        self.tries = []

    async def job(self, ctx):
        self.tries.append((ctx["job_id"], ctx["job_try"]))
        self.started.set()
        await self.open.wait()
        return "done"

    @property
    def function(self):
        return func(self.job, name="slow")


@pytest.mark.parametrize("defer", [None, 0.02])
async def test_a_job_asks_to_be_retried(make_worker, arq_redis, defer):
    async def stumble(ctx):
        if ctx["job_try"] <= 2:
            raise Retry(defer=defer)
        return ctx["job_try"]

    job = await arq_redis.enqueue_job("stumble")
    worker = make_worker([func(stumble, name="stumble")])
    assert await worker.run_check() == 1
    assert (worker.jobs_complete, worker.jobs_failed, worker.jobs_retried) == (1, 0, 2)
    assert await job.result() == 3


async def test_a_deferred_retry_waits_that_long(make_worker, arq_redis):
    loop = asyncio.get_running_loop()
    times = []

    async def stumble(ctx):
        times.append(loop.time())
        if ctx["job_try"] == 1:
            raise Retry(defer=0.2)

    await arq_redis.enqueue_job("stumble")
    await make_worker([func(stumble, name="stumble")]).run_check()
    assert times[1] - times[0] >= 0.19


async def test_retry_job_runs_it_again(make_worker, arq_redis):
    async def stumble(ctx):
        if ctx["job_try"] == 1:
            raise RetryJob

    await arq_redis.enqueue_job("stumble")
    worker = make_worker([func(stumble, name="stumble")])
    assert await worker.run_check() == 1
    assert worker.jobs_retried == 1


@pytest.mark.parametrize(
    ("of_function", "of_worker", "most"), [({}, {}, 5), ({}, {"max_tries": 2}, 2), ({"max_tries": 3}, {}, 3)]
)
async def test_tries_are_limited(make_worker, arq_redis, of_function, of_worker, most):
    tries = []

    async def stumble(ctx):
        tries.append(ctx["job_try"])
        raise Retry

    job = await arq_redis.enqueue_job("stumble")
    worker = make_worker([func(stumble, name="stumble", **of_function)], **of_worker)
    with pytest.raises(FailedJobs):
        await worker.run_check()
    assert tries == list(range(1, most + 1))
    assert (worker.jobs_failed, worker.jobs_retried) == (1, most)
    with pytest.raises(JobExecutionFailed, match=f"max {most} retries exceeded"):
        await job.result()


async def test_retry_jobs_false_fails_what_asks_for_a_retry(make_worker, arq_redis):
    async def stumble(ctx):
        raise Retry

    job = await arq_redis.enqueue_job("stumble")
    with pytest.raises(FailedJobs, match=r"1 job failed <Retry defer 0\.00s>"):
        await make_worker([func(stumble, name="stumble")]).run_check(retry_jobs=False)
    with pytest.raises(Retry):
        await job.result()


async def test_a_job_that_is_cancelled_from_inside_runs_again(make_worker, arq_redis):
    async def stumble(ctx):
        if ctx["job_try"] == 1:
            raise asyncio.CancelledError

    await arq_redis.enqueue_job("stumble")
    worker = make_worker([func(stumble, name="stumble")])
    assert await worker.run_check() == 1
    assert worker.jobs_retried == 1


async def test_a_worker_that_stops_gives_its_jobs_back(make_worker, running, arq_redis):
    gate = Gate()
    job = await arq_redis.enqueue_job("slow", _job_id="one")
    stopped = make_worker([gate.function])
    async with running(stopped):
        await gate.started.wait()
    assert stopped.jobs_retried == 1
    assert await job.status() is JobStatus.queued
    gate.open.set()
    assert await make_worker([gate.function]).run_check() == 1
    assert await job.result() == "done"
    assert [job_id for job_id, _ in gate.tries] == ["one", "one"]


async def test_a_job_given_back_counts_as_a_try_for_arq_and_not_for_barque(make_worker, running, arq_redis, engine):
    gate = Gate()
    await arq_redis.enqueue_job("slow")
    async with running(make_worker([gate.function])):
        await gate.started.wait()
    gate.open.set()
    await make_worker([gate.function]).run_check()
    assert [number for _, number in gate.tries] == {"arq": [1, 2], "barque": [1, 1]}[engine]


async def test_where_jobs_are_not_retried_a_stop_fails_them(make_worker, running, arq_redis):
    gate = Gate()
    job = await arq_redis.enqueue_job("slow")
    worker = make_worker([gate.function], retry_jobs=False)
    async with running(worker):
        await gate.started.wait()
    assert (worker.jobs_failed, worker.jobs_retried) == (1, 0)
    assert await job.status() is JobStatus.complete
    with pytest.raises(asyncio.CancelledError):
        await job.result()


async def test_handle_sig_cancels_main_and_says_so(make_worker, arq_redis):
    gate, told = Gate(), []
    job = await arq_redis.enqueue_job("slow")
    worker = make_worker([gate.function], burst=False, handle_signals=True)
    worker.on_stop = told.append
    task = asyncio.create_task(worker.async_run())
    await gate.started.wait()
    worker.handle_sig(signal.SIGTERM)
    with pytest.raises(asyncio.CancelledError):
        await task
    await worker.close()
    assert signal.SIGTERM in told
    assert await job.status() is JobStatus.queued
    gate.open.set()
    await make_worker([gate.function]).run_check()


async def test_running_jobs_get_the_time_the_worker_grants_them(make_worker, arq_redis):
    gate, told = Gate(), asyncio.Event()
    first = await arq_redis.enqueue_job("slow")
    worker = make_worker([gate.function], burst=False, handle_signals=True, job_completion_wait=20)
    worker.on_stop = lambda _: told.set()
    task = asyncio.create_task(worker.async_run())
    await gate.started.wait()
    worker.handle_sig_wait_for_completion(signal.SIGTERM)
    assert worker.allow_pick_jobs is False
    second = await arq_redis.enqueue_job("slow", _job_id="second")
    gate.open.set()
    await asyncio.wait_for(told.wait(), 10)
    await asyncio.gather(task, return_exceptions=True)
    await worker.close()
    assert await first.result() == "done"
    assert await second.status() is JobStatus.queued
    await make_worker([gate.function]).run_check()


async def test_jobs_that_take_longer_than_granted_are_given_back(make_worker, arq_redis):
    gate, told = Gate(), asyncio.Event()
    job = await arq_redis.enqueue_job("slow")
    worker = make_worker([gate.function], burst=False, handle_signals=True, job_completion_wait=0.05)
    worker.on_stop = lambda _: told.set()
    task = asyncio.create_task(worker.async_run())
    await gate.started.wait()
    worker.handle_sig_wait_for_completion(signal.SIGTERM)
    await asyncio.wait_for(told.wait(), 10)
    await asyncio.gather(task, return_exceptions=True)
    await worker.close()
    assert await job.status() is JobStatus.queued
    assert worker.jobs_retried == 1
    gate.open.set()
    await make_worker([gate.function]).run_check()


async def test_a_worker_whose_main_is_awaited_directly_stops_without_cancelling_its_caller(make_worker_of, arq_redis):
    gate = Gate()
    job = await arq_redis.enqueue_job("slow")
    worker = make_worker_of("barque", [gate.function], burst=False)

    async def host():
        await worker.main()
        return "went on"

    task = asyncio.create_task(host())
    await gate.started.wait()
    worker.handle_sig(signal.SIGTERM)
    assert await asyncio.wait_for(task, 10) == "went on"
    assert await job.status() is JobStatus.queued
    gate.open.set()
    await make_worker_of("barque", [gate.function]).run_check()


async def test_a_program_that_ends_with_its_worker_running_still_gives_the_jobs_back(make_worker_of, arq_redis):
    """asyncio.run() cancels every task of its loop at its end, those of the engine too."""
    gate = Gate()
    job = await arq_redis.enqueue_job("slow")
    worker = make_worker_of("barque", [gate.function], burst=False)
    before = asyncio.all_tasks()
    task = asyncio.create_task(worker.async_run())
    await gate.started.wait()
    for running in asyncio.all_tasks() - before:
        running.cancel()
    await asyncio.wait({task}, timeout=4)
    assert task.done()
    assert await job.status() is JobStatus.queued
    gate.open.set()
    await make_worker_of("barque", [gate.function]).run_check()
    assert [number for _, number in gate.tries] == [1, 1]
