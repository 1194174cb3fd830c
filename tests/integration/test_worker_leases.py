"""A worker's leases: renewed whatever its event loop does, given up when they are lost."""

import asyncio
import time

import pytest
import structlog

from common import NEVER, Context, RetryPolicy, fixed, task
from tests.support.running import producer, run_worker

__all__ = ["producer", "run_worker"]

pytestmark = pytest.mark.leaves_keys("arq:result:*")

started: asyncio.Queue[int]
ended: asyncio.Queue[str]
gate: asyncio.Event


@pytest.fixture(autouse=True)
async def signals():
    global started, ended, gate
    started, ended, gate = asyncio.Queue(), asyncio.Queue(), asyncio.Event()


@pytest.fixture
def lines():
    with structlog.testing.capture_logs() as captured:
        yield captured


@task(retry=RetryPolicy(max_attempts=3, backoff=fixed(0)))
async def hold(ctx: Context) -> int:
    started.put_nowait(ctx.attempt)
    try:
        await gate.wait()
    except asyncio.CancelledError:
        ended.put_nowait("cancelled")
        raise
    return ctx.attempt


@task(retry=NEVER)
async def block(ctx: Context, seconds: float) -> int:
    started.put_nowait(ctx.attempt)
    time.sleep(seconds)  # on purpose: the event loop stands still
    return ctx.attempt


def lease_of(job) -> str:
    return f"arq:in-progress:{job.job_id}"


async def test_a_lease_is_renewed_while_the_job_runs(producer, run_worker, redis):
    await run_worker(hold, lease=1)
    job = await producer.enqueue(hold())
    await started.get()
    first = await redis.get(lease_of(job))
    score = await redis.zscore(job.queue, job.job_id)
    async with asyncio.timeout(20):
        while await redis.zscore(job.queue, job.job_id) == score:
            await asyncio.sleep(0.01)
    assert await redis.get(lease_of(job)) == first
    gate.set()
    assert await job.result(timeout=10) == 1


async def test_a_lease_is_renewed_while_a_task_blocks_the_event_loop(producer, run_worker, redis):
    await run_worker(block, hold, lease=1)
    neighbour = await producer.enqueue(hold())
    await started.get()
    blocking = await producer.enqueue(block(2.5))
    assert await blocking.result(timeout=20) == 1
    gate.set()
    assert await neighbour.result(timeout=10) == 1, "it kept its lease, and no other attempt was made"
    assert started.qsize() == 1, "only the blocking task's own start"


async def test_an_attempt_that_lost_its_lease_is_cancelled_and_what_it_says_later_is_refused(
    producer, run_worker, redis, lines
):
    await run_worker(hold, lease=1)
    job = await producer.enqueue(hold())
    await started.get()
    await redis.set(lease_of(job), "another-worker:2:1")
    async with asyncio.timeout(20):
        assert await ended.get() == "cancelled"
        while not any(line["event"] == "job_lost" for line in lines):
            await asyncio.sleep(0)
    assert await redis.get(lease_of(job)) == b"another-worker:2:1"
    assert await redis.exists(f"arq:result:{job.job_id}") == 0
    (line,) = [line for line in lines if line["event"] == "job_lost"]
    assert (line["job_id"], line["log_level"], line["attempt"]) == (job.job_id, "warning", 1)
    await redis.delete(lease_of(job))
    gate.set()
    await redis.zadd(job.queue, {job.job_id: 1.5})  # the end of a lease
    assert await job.result(timeout=20) == 2


async def test_an_outcome_that_comes_after_the_lease_is_lost_is_refused_and_logged_as_lost(
    producer, run_worker, redis, lines
):
    await run_worker(hold, lease=3600)  # not renewed in this test's time: the loss shows at the end
    job = await producer.enqueue(hold())
    await started.get()
    await redis.set(lease_of(job), "another-worker:2:1")
    gate.set()
    async with asyncio.timeout(20):
        while not any(line["event"].startswith("job_") for line in lines):
            await asyncio.sleep(0)
    assert [line["event"] for line in lines if line["event"].startswith("job_")] == ["job_lost"]
    assert await redis.exists(f"arq:result:{job.job_id}") == 0
    assert await redis.exists(f"arq:job:{job.job_id}") == 1
    await redis.delete(lease_of(job))
    assert await job.abort()


async def test_a_dead_workers_job_is_taken_over_when_its_lease_ends(producer, run_worker, redis):
    from common.redis.store import Store

    job = await producer.enqueue(hold())
    claimed = await Store(redis).claim((job.queue,), most=1, lease_ms=200, worker="dead", number=1)
    assert [taken.job_id for taken in claimed.jobs] == [job.job_id]
    gate.set()
    await run_worker(hold)
    assert await job.result(timeout=20) == 2


async def test_a_stock_clients_wish_to_abort_is_seen_with_the_next_renewal(producer, run_worker, redis):
    await run_worker(hold, lease=1)
    job = await producer.enqueue(hold())
    await started.get()
    await redis.zadd("arq:abort", {job.job_id: 1})  # and nobody is told
    async with asyncio.timeout(20):
        assert await ended.get() == "cancelled"
    await job.wait(timeout=10)
    assert (await job.status()).value == "cancelled"
    assert await redis.exists("arq:abort") == 0
