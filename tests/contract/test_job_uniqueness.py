"""arq's chapter "Job uniqueness": one job of an id until it ended and its result is gone."""

import asyncio

import pytest
from arq import func


async def greet(ctx):
    return "hello"


@pytest.mark.leaves_keys("arq:result:*")
async def test_an_id_is_taken_while_queued_while_running_and_while_its_result_is_kept(make_worker, running, arq_redis):
    started, finish = asyncio.Event(), asyncio.Event()

    async def slow(ctx):
        started.set()
        await finish.wait()

    job = await arq_redis.enqueue_job("slow", _job_id="backup")
    assert await arq_redis.enqueue_job("slow", _job_id="backup") is None
    worker = make_worker([func(slow, name="slow")])
    async with running(worker):
        await started.wait()
        assert await arq_redis.enqueue_job("slow", _job_id="backup") is None
        finish.set()
        await job.result(timeout=10, poll_delay=0.01)
        assert await arq_redis.enqueue_job("slow", _job_id="backup") is None
    assert worker.jobs_complete == 1


async def test_an_id_is_free_at_once_where_results_are_not_kept(make_worker, arq_redis):
    worker = make_worker([func(greet, keep_result=0)])
    for number in (1, 2):
        assert await arq_redis.enqueue_job("greet", _job_id="backup") is not None
        assert await worker.run_check() == number


async def test_an_id_is_taken_while_its_job_waits_for_a_retry(make_worker, arq_redis):
    from arq import Retry

    answers = []

    async def again(ctx):
        answers.append(await ctx["redis"].enqueue_job("again", _job_id="one"))
        if ctx["job_try"] < 3:
            raise Retry(0.01)

    await arq_redis.enqueue_job("again", _job_id="one")
    await make_worker([func(again, name="again", keep_result=0)]).run_check()
    assert answers == [None, None, None]


async def test_of_many_who_enqueue_one_id_at_once_one_succeeds(make_worker, arq_redis):
    jobs = await asyncio.gather(*(arq_redis.enqueue_job("greet", _job_id="one") for _ in range(20)))
    assert sum(job is not None for job in jobs) == 1
    assert await make_worker([func(greet, keep_result=0)]).run_check() == 1
