"""A worker that stops: what it runs goes back at once, the attempt not counted, the order kept."""

import asyncio

import pytest

from common import NEVER, Context, task
from common.redis.store import Store
from tests.support.running import producer, run_worker

__all__ = ["producer", "run_worker"]

pytestmark = pytest.mark.leaves_keys("arq:result:*")

started: asyncio.Queue[str]
gate: asyncio.Event


@pytest.fixture(autouse=True)
async def signals():
    global started, gate
    started, gate = asyncio.Queue(), asyncio.Event()


@task(retry=NEVER)
async def hold(ctx: Context, name: str) -> tuple[str, int]:
    started.put_nowait(name)
    await gate.wait()
    return name, ctx.attempt


async def stop(worker) -> None:
    """Cancel the worker, as its process being told to end does."""
    worker.main_task.cancel()
    await asyncio.wait({worker.main_task})


async def test_running_jobs_are_released_in_their_order_and_the_attempt_does_not_count(producer, run_worker, keyspace):
    jobs = await producer.enqueue_many(hold(str(n)) for n in range(5))
    first = await run_worker(hold)
    for _ in jobs:
        await started.get()
    await stop(first)
    left = await keyspace.dump()
    assert left["arq:queue"] == {job.job_id: "now" for job in jobs}
    assert not [key for key in left if key.startswith(("arq:in-progress", "arq:result"))]
    assert {left[key] for key in left if key.startswith("arq:retry")} == {b"0"}, "none counts; there is a history"
    gate.set()
    await run_worker(hold, max_jobs=1)
    assert [await job.result(timeout=10) for job in jobs] == [(str(n), 1) for n in range(5)]
    assert [await started.get() for _ in jobs] == [str(n) for n in range(5)]


async def test_jobs_that_were_being_claimed_when_it_stopped_are_released_too(
    producer, run_worker, keyspace, monkeypatch
):
    claim = Store.claim
    claimed, let_through = asyncio.Event(), asyncio.Event()

    async def held_up(self, *args, **kwargs):
        answer = await claim(self, *args, **kwargs)
        if answer.jobs:
            claimed.set()
            await let_through.wait()
        return answer

    monkeypatch.setattr(Store, "claim", held_up)
    job = await producer.enqueue(hold("a"))
    worker = await run_worker(hold)
    async with asyncio.timeout(10):
        await claimed.wait()
    worker.main_task.cancel()
    await asyncio.sleep(0)
    let_through.set()
    await asyncio.wait({worker.main_task})
    left = await keyspace.dump()
    assert left["arq:queue"] == {job.job_id: "now"}
    assert not [key for key in left if key.startswith(("arq:in-progress", "arq:retry"))]


async def test_with_a_grace_period_running_jobs_end_and_no_new_one_is_begun(producer, run_worker):
    running = await producer.enqueue(hold("running"))
    worker = await run_worker(hold, max_jobs=1, job_completion_wait=60)
    assert await started.get() == "running"
    waiting = await producer.enqueue(hold("waiting"))
    worker.handle_sig_wait_for_completion(15)
    gate.set()
    assert await running.result(timeout=10) == ("running", 1)
    await asyncio.wait({worker.main_task})
    assert started.empty()
    assert await waiting.abort()


async def test_past_the_grace_period_the_rest_is_released(producer, run_worker, keyspace):
    job = await producer.enqueue(hold("a"))
    worker = await run_worker(hold, job_completion_wait=0.05)
    await started.get()
    worker.handle_sig_wait_for_completion(15)
    await asyncio.wait({worker.main_task})
    left = await keyspace.dump()
    assert left["arq:queue"] == {job.job_id: "now"}
    assert not [key for key in left if key.startswith("arq:in-progress")]
    assert left[f"arq:retry:{job.job_id}"] == b"0"


async def test_a_second_signal_releases_at_once(producer, run_worker):
    job = await producer.enqueue(hold("a"))
    worker = await run_worker(hold, job_completion_wait=3600)
    await started.get()
    worker.handle_sig_wait_for_completion(15)
    await asyncio.sleep(0)
    worker.handle_sig_wait_for_completion(15)
    async with asyncio.timeout(30):
        await asyncio.wait({worker.main_task})
    assert (await job.info()).attempt == 0
    assert await job.abort()


async def test_a_task_that_will_not_be_cancelled_does_not_keep_the_worker(producer, run_worker, monkeypatch, redis):
    monkeypatch.setattr("workers.engine._LAST_CHANCE", 0.05)

    @task(name="stubborn", retry=NEVER)
    async def stubborn(ctx: Context) -> str:
        started.put_nowait("stubborn")
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                started.put_nowait("ignored")
        return "ended"

    job = await producer.enqueue(stubborn())
    worker = await run_worker(stubborn)
    assert await started.get() == "stubborn"
    async with asyncio.timeout(30):
        await stop(worker)
    assert await started.get() == "ignored"
    gate.set()
    await redis.delete(f"arq:in-progress:{job.job_id}", f"arq:retry:{job.job_id}")
    assert await job.abort()


async def test_it_takes_its_report_and_health_key_along(producer, run_worker, redis):
    worker = await run_worker(hold, health_check_interval=1)
    gate.set()
    await (await producer.enqueue(hold("a"))).result(timeout=10)
    assert [report.worker for report in await producer.inspector.workers()] == [worker.worker_id]
    await worker.close()
    assert await producer.inspector.workers() == []
    assert [key async for key in redis.scan_iter("barque:*")] == []
    assert [key async for key in redis.scan_iter("*health*")] == []
