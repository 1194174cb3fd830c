"""arq's chapter "Job results": what is kept, for how long, and what a waiting client gets."""

import asyncio

import pytest
from arq import func
from arq.jobs import ResultNotFound, SerializationError

pytestmark = pytest.mark.leaves_keys("arq:result:*")


async def answer(ctx):
    return 42


async def test_results_are_kept_as_long_as_the_worker_says(make_worker, arq_redis):
    await arq_redis.enqueue_job("answer", _job_id="one")
    await make_worker([answer], keep_result=50.5).run_check()
    assert 50_000 < await arq_redis.pttl("arq:result:one") <= 50_500


@pytest.mark.parametrize(
    ("of_function", "of_worker", "expected"),
    [
        ({}, {}, 3600),
        ({"keep_result": 60}, {}, 60),
        ({"keep_result": 0}, {}, None),
        ({}, {"keep_result": 0}, None),
        ({"keep_result": 60}, {"keep_result": 0}, 60),
        ({}, {"keep_result_forever": True}, "forever"),
        ({"keep_result_forever": True}, {}, "forever"),
        ({"keep_result_forever": True, "keep_result": 60}, {}, "forever"),
        ({"keep_result": 60}, {"keep_result_forever": True}, "forever"),
        ({"keep_result_forever": False}, {"keep_result_forever": True}, 3600),
        ({"keep_result_forever": False, "keep_result": 60}, {"keep_result_forever": True}, 60),
    ],
)
async def test_which_setting_says_how_long_a_result_is_kept(make_worker, arq_redis, of_function, of_worker, expected):
    await arq_redis.enqueue_job("answer", _job_id="one")
    await make_worker([func(answer, **of_function)], **of_worker).run_check()
    left = await arq_redis.ttl("arq:result:one")
    if expected is None:
        assert left == -2
    elif expected == "forever":
        assert left == -1
    else:
        assert expected - 5 < left <= expected


async def test_a_failure_is_kept_like_a_result(make_worker, arq_redis):
    async def explode(ctx):
        raise ValueError("no")

    await arq_redis.enqueue_job("explode", _job_id="one")
    await make_worker([func(explode, name="explode", keep_result=60)]).async_run()
    assert 55 < await arq_redis.ttl("arq:result:one") <= 60


async def test_waiting_for_a_result_nobody_keeps_says_so(make_worker, arq_redis):
    job = await arq_redis.enqueue_job("answer")
    await make_worker([answer], keep_result=0).run_check()
    with pytest.raises(ResultNotFound, match="Is the worker function configured to keep result"):
        await job.result()


async def test_waiting_for_a_result_can_time_out(arq_redis):
    job = await arq_redis.enqueue_job("answer", _job_id="one")
    with pytest.raises(asyncio.TimeoutError):
        await job.result(timeout=0.01, poll_delay=0.01)
    await arq_redis.delete("arq:queue", "arq:job:one")


async def test_an_exception_can_be_a_result(make_worker, arq_redis):
    async def give(ctx):
        return TypeError("returned")

    job = await arq_redis.enqueue_job("give")
    worker = make_worker([func(give, name="give")])
    assert await worker.run_check() == 1
    result = await job.result()
    assert isinstance(result, TypeError)


async def test_an_exception_of_the_job_is_raised_where_its_result_is_awaited(make_worker, arq_redis):
    async def explode(ctx):
        raise LookupError("nothing there", 7)

    job = await arq_redis.enqueue_job("explode")
    await make_worker([func(explode, name="explode")]).async_run()
    with pytest.raises(LookupError) as raised:
        await job.result()
    assert raised.value.args == ("nothing there", 7)
    assert (await job.info()).success is False


async def test_a_result_that_cannot_be_written_reaches_the_client_as_such(make_worker, arq_redis):
    async def give(ctx):
        return lambda: None

    job = await arq_redis.enqueue_job("give")
    await make_worker([func(give, name="give")]).async_run()
    with pytest.raises(SerializationError, match="unable to serialize result"):
        await job.result()
    assert (await job.info()).success is False


async def test_an_exception_that_cannot_be_written_reaches_the_client_as_such(make_worker, arq_redis):
    class Local(Exception):
        pass

    async def explode(ctx):
        raise Local

    job = await arq_redis.enqueue_job("explode")
    await make_worker([func(explode, name="explode")]).async_run()
    with pytest.raises(SerializationError, match="unable to serialize result"):
        await job.result()


async def test_a_job_that_runs_too_long_fails_with_a_timeout(make_worker, arq_redis):
    cancelled = []

    async def hang(ctx):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(ctx["job_id"])
            raise

    by_worker = await arq_redis.enqueue_job("hang", _job_id="by-worker")
    await make_worker([func(hang, name="hang")], job_timeout=0.05).async_run()
    by_function = await arq_redis.enqueue_job("hang", _job_id="by-function")
    worker = make_worker([func(hang, name="hang", timeout=0.05)])
    await worker.async_run()
    for job in (by_worker, by_function):
        with pytest.raises(asyncio.TimeoutError):
            await job.result()
    assert cancelled == ["by-worker", "by-function"]
    assert (worker.jobs_failed, worker.jobs_retried) == (1, 0)


async def test_nothing_but_results_stays_in_redis(make_worker, arq_redis):
    for number in range(30):
        await arq_redis.enqueue_job("answer", _job_id=f"job-{number}")
    worker = make_worker([answer])
    await worker.run_check()
    assert sorted(await arq_redis.keys("*")) == sorted(
        [b"arq:queue:health-check", *(f"arq:result:job-{number}".encode() for number in range(30))]
    )
    await worker.close()
    assert len(await arq_redis.keys("*")) == 30
