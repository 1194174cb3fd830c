"""producer/results.py: where one result was waited for, the next one is asked for together with its job."""

import asyncio

import pytest

from common.errors import JobNotFound, RedisUnavailable, ResultTimeout
from common.redis import keys
from common.redis.store import Finish
from common.result_codec import Result, encode_result
from common.tasks import Call
from producer import Producer
from producer import results as results_module

QUEUE = "arq:queue"


@pytest.fixture
def no_slow_look(monkeypatch):
    """Nothing but a push may bring a result."""
    monkeypatch.setattr(results_module, "_LOOK_EVERY", 3600.0)


@pytest.fixture
async def producer(redis_url, keyspace, no_slow_look):
    async with Producer(redis_url, answer_within=30) as producer:
        yield producer


@pytest.fixture
def end(store):
    """Claim what is due and end it, as a worker does."""
    claims = 0

    async def end(value: object = "done", *, keep_ms: int = 60_000) -> None:
        nonlocal claims
        claims += 1
        claim = await store.claim([QUEUE], most=10, lease_ms=60_000, worker="w", number=claims)
        assert claim.jobs
        for job in claim.jobs:
            result = Result(
                job.job_id, "t", QUEUE, success=True, value=value, attempt=1, enqueued_ms=1, started_ms=1, finished_ms=1
            )
            await store.complete([QUEUE], [Finish(job, encode_result(result), keep_ms)])

    return end


async def registered(redis, job) -> None:
    async with asyncio.timeout(30):
        while not await redis.hexists(keys.WAITERS, job.job_id):
            await asyncio.sleep(0)


async def one_waited_for(producer, redis, end) -> None:
    job = await producer.enqueue(Call("t"))
    assert not await redis.hexists(keys.WAITERS, job.job_id), "who never waited is not expected to"
    waiting = asyncio.create_task(job.result())
    await registered(redis, job)
    await end()
    assert await waiting == "done"


@pytest.fixture
def asked(producer, monkeypatch) -> list[str]:
    """The jobs whose results were asked for apart from their enqueue."""
    found = []
    really = producer.results._ask

    async def ask(job_id, future, within) -> None:
        found.append(job_id)
        await really(job_id, future, within)

    monkeypatch.setattr(producer.results, "_ask", ask)
    return found


async def test_after_one_was_waited_for_the_next_is_asked_for_with_its_job(producer, redis, end, asked):
    await one_waited_for(producer, redis, end)
    asked.clear()
    for number in range(5):
        job = await producer.enqueue(Call("t"))
        assert await redis.hexists(keys.WAITERS, job.job_id)
        waiting = asyncio.create_task(job.result())
        await end(number)
        async with asyncio.timeout(30):
            assert await waiting == number
    assert asked == []
    assert not await redis.exists(keys.WAITERS)


@pytest.mark.parametrize("keep_ms", [0, 60_000])
async def test_a_result_that_came_before_anybody_waited_is_kept_for_who_does(producer, redis, end, asked, keep_ms):
    await one_waited_for(producer, redis, end)
    asked.clear()
    job = await producer.enqueue(Call("t"))
    await end("early", keep_ms=keep_ms)
    async with asyncio.timeout(30):
        while producer.results._early is None:
            await asyncio.sleep(0)
        assert await job.result() == "early"
        assert asked == []
        again = producer.job(job.job_id)
        assert await again.result() == "early", "whoever asks once more is told by the server"


async def test_a_result_that_came_long_before_anybody_waited_is_asked_for(producer, redis, end, asked, monkeypatch):
    """The job may have been replayed meanwhile, by this producer or another one."""
    await one_waited_for(producer, redis, end)
    asked.clear()
    job = await producer.enqueue(Call("t"))
    await end("at first")
    async with asyncio.timeout(30):
        while producer.results._early is None:
            await asyncio.sleep(0)
        monkeypatch.setattr(results_module, "_EARLY_FOR", -1.0)
        await redis.delete(keys.RESULT + job.job_id)
        with pytest.raises(JobNotFound):
            await job.result()
    assert asked == [job.job_id]


async def test_where_one_was_not_waited_for_no_more_are_expected(producer, redis, end):
    await one_waited_for(producer, redis, end)
    expected = await producer.enqueue(Call("t"))
    assert await redis.hexists(keys.WAITERS, expected.job_id)
    for _ in range(3):
        job = await producer.enqueue(Call("t"))
        assert not await redis.hexists(keys.WAITERS, job.job_id)
    await end()
    assert not await redis.exists(keys.WAITERS)
    async with asyncio.timeout(30):
        assert await expected.result() == "done"
        assert await job.result() == "done"


async def test_a_large_result_that_is_pushed_by_name_is_fetched(producer, redis, end):
    await one_waited_for(producer, redis, end)
    large = "x" * 3_000_000
    job = await producer.enqueue(Call("t"))
    waiting = asyncio.create_task(job.result())
    await end(large)
    early = await producer.enqueue(Call("t"))
    await end(large)
    async with asyncio.timeout(30):
        assert await waiting == large
        assert await early.result() == large


async def test_what_was_pushed_while_the_subscription_was_lost_is_asked_for(producer, redis, end):
    await one_waited_for(producer, redis, end)
    early, late = await producer.enqueue(Call("t")), None
    await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await end()
    late = await producer.enqueue(Call("t"))
    waiting = [asyncio.create_task(job.result()) for job in (early, late)]
    async with asyncio.timeout(30):
        assert await waiting[0] == "done"
        await end()
        assert await waiting[1] == "done"


async def test_a_job_that_the_server_refuses_leaves_nobody_waiting(producer, redis, end):
    await one_waited_for(producer, redis, end)
    await redis.set(QUEUE, "no queue")
    with pytest.raises(RedisUnavailable, match="WRONGTYPE"):
        await producer.enqueue(Call("t"))
    async with asyncio.timeout(30):
        while await redis.exists(keys.WAITERS):
            await asyncio.sleep(0)
    await redis.delete(QUEUE)
    job = await producer.enqueue(Call("t"))
    await end()
    assert await job.result() == "done"


async def test_after_a_script_flush_the_job_and_its_result_arrive(producer, redis, end):
    await one_waited_for(producer, redis, end)
    await redis.script_flush()
    job = await producer.enqueue(Call("t"))
    waiting = asyncio.create_task(job.result())
    await registered(redis, job)
    await end()
    async with asyncio.timeout(30):
        assert await waiting == "done"


async def test_the_callers_own_limit_ends_a_wait_that_was_asked_for_with_its_job(producer, redis, end, asked):
    await one_waited_for(producer, redis, end)
    asked.clear()
    job = await producer.enqueue(Call("t"))
    async with asyncio.timeout(30):
        with pytest.raises(ResultTimeout, match=f"job {job.job_id} has no result after 0.01 s; it goes on"):
            await job.result(timeout=0.01)
        assert asked == []
        await end("late")
        assert await job.result(timeout=20) == "late", "whoever waits again is told"


async def test_the_callers_own_limit_ends_a_wait_that_the_server_does_not_answer(producer, redis, end, monkeypatch):
    await one_waited_for(producer, redis, end)
    job = producer.job("another")
    never = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(producer.results._registering, "submit", lambda _: never)
    async with asyncio.timeout(10):  # the producer's own limit is 30
        with pytest.raises(ResultTimeout, match=r"job another has no result after 0\.01 s"):
            await job.result(timeout=0.01)


async def test_a_limit_holds_no_result_that_its_caller_has(producer, redis, end):
    await one_waited_for(producer, redis, end)
    job = await producer.enqueue(Call("t"))
    waiting = asyncio.create_task(job.result(timeout=600))
    await asyncio.sleep(0)
    await end()
    assert await waiting == "done"
    limits = [limit for _, limit in producer.results._limits._new]
    assert len(limits) == 1
    assert limits[0].finished
    assert limits[0]._future is None


@pytest.mark.parametrize(("timeout", "error"), [("5", TypeError), (float("nan"), ValueError)])
async def test_a_limit_that_is_no_number_is_refused_before_anything_waits(producer, timeout, error):
    with pytest.raises(error):
        await producer.job("a").result(timeout=timeout)
    assert producer.results._waiting == {}
