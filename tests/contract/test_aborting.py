"""arq's Job.abort(): a stock client ends jobs that wait, that are deferred and that run, on either engine."""

import asyncio

import pytest
from arq import func
from arq.constants import abort_jobs_ss
from arq.jobs import Job, JobStatus, SerializationError

pytestmark = pytest.mark.leaves_keys("arq:result:*")


async def greet(ctx):
    return "hello"


async def test_aborting_a_running_job_cancels_it(make_worker, running, arq_redis):
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def slow(ctx):
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    job = await arq_redis.enqueue_job("slow")
    worker = make_worker([func(slow, name="slow")], allow_abort_jobs=True)
    async with running(worker):
        await started.wait()
        assert await job.status() is JobStatus.in_progress
        assert await job.abort(timeout=10, poll_delay=0.01) is True
    assert cancelled.is_set()
    assert (worker.jobs_complete, worker.jobs_failed, worker.jobs_retried) == (0, 1, 0)
    assert await job.status() is JobStatus.complete
    with pytest.raises(asyncio.CancelledError):
        await job.result()
    assert await arq_redis.exists(abort_jobs_ss) == 0


@pytest.mark.parametrize("deferred", [None, 3600], ids=["waiting", "deferred"])
async def test_aborting_a_job_that_has_not_started_keeps_it_from_running(make_worker, arq_redis, deferred):
    ran = []

    async def note(ctx):
        ran.append(ctx["job_id"])

    job = await arq_redis.enqueue_job("note", _defer_by=deferred)
    with pytest.raises(asyncio.TimeoutError):
        await job.abort(timeout=0, poll_delay=0.01)  # no worker is there to answer yet
    worker = make_worker([func(note, name="note")], allow_abort_jobs=True)
    await worker.async_run()
    assert ran == []
    assert worker.jobs_failed == 1
    with pytest.raises(asyncio.CancelledError):
        await job.result()
    assert await arq_redis.exists(abort_jobs_ss) == 0


async def test_a_worker_that_does_not_allow_aborts_runs_the_job(make_worker, arq_redis):
    job = await arq_redis.enqueue_job("greet")
    with pytest.raises(asyncio.TimeoutError):
        await job.abort(timeout=0, poll_delay=0.01)
    assert await make_worker([greet]).run_check() == 1
    assert await job.result() == "hello"


async def test_aborting_a_job_that_ended_changes_nothing(make_worker, arq_redis):
    job = await arq_redis.enqueue_job("greet")
    await make_worker([greet], allow_abort_jobs=True).run_check()
    assert await job.abort(timeout=5) is False
    assert await job.result() == "hello"
    await arq_redis.delete(abort_jobs_ss)  # arq leaves it there


async def test_aborting_a_job_nobody_knows_says_false(arq_redis):
    assert await Job("nobody", arq_redis).abort(timeout=5) is False
    await arq_redis.delete(abort_jobs_ss)


async def test_a_job_that_ends_well_in_spite_of_the_abort_succeeded(make_worker, running, arq_redis):
    started = asyncio.Event()

    async def stubborn(ctx):
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "finished anyway"

    job = await arq_redis.enqueue_job("stubborn")
    worker = make_worker([func(stubborn, name="stubborn")], allow_abort_jobs=True)
    async with running(worker):
        await started.wait()
        assert await job.abort(timeout=10, poll_delay=0.01) is False
    assert await job.result() == "finished anyway"
    assert worker.jobs_complete == 1


async def test_in_msgpack_an_abort_is_told_in_words(make_worker, msgpack_redis):
    """A CancelledError has no form there, so arq's client raises its SerializationError instead."""
    job = await msgpack_redis.enqueue_job("greet")
    with pytest.raises(asyncio.TimeoutError):
        await job.abort(timeout=0, poll_delay=0.01)
    pair = {"job_serializer": msgpack_redis.job_serializer, "job_deserializer": msgpack_redis.job_deserializer}
    await make_worker([greet], allow_abort_jobs=True, **pair).async_run()
    with pytest.raises(SerializationError):
        await job.result()
    assert (await job.info()).success is False
