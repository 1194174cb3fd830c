"""Producer and worker on fakeredis: a user's own tests need no server, and the scripts have a second opinion."""

import asyncio

import fakeredis
import pytest
from arq.connections import ArqRedis

from common import Context, RetryPolicy, every, fixed, task
from common.errors import JobCancelled
from producer import Producer
from producer import client as producer_client
from workers.worker import Worker


@task(retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def second_time(ctx: Context, a: int) -> int:
    if ctx.attempt == 1:
        raise ConnectionError
    return a * ctx.attempt


@pytest.fixture
def connected_to_fake(monkeypatch):
    """Every producer opens a connection to one fake server."""
    server = fakeredis.FakeServer()

    async def open_fake(settings, *, name=None):
        return fakeredis.FakeAsyncRedis(server=server)

    monkeypatch.setattr(producer_client, "open_client", open_fake)
    return server


async def test_a_job_goes_all_the_way(connected_to_fake):
    fake = fakeredis.FakeAsyncRedis(server=connected_to_fake)
    pool = ArqRedis(connection_pool=fake.connection_pool)
    worker = Worker([second_time], redis_pool=pool, handle_signals=False, burst=True, poll_delay=0.05)
    async with Producer() as producer:
        jobs = await producer.enqueue_many(second_time(n) for n in range(20))
        async with asyncio.timeout(30):
            await worker.async_run()
        assert [await job.result(timeout=10) for job in jobs] == [2 * n for n in range(20)]
    assert worker.jobs_complete == 20
    assert worker.jobs_retried == 20
    await worker.close()
    await fake.aclose()


async def test_a_result_is_pushed_to_who_waits(connected_to_fake):
    async with Producer() as producer:
        job = await producer.enqueue(second_time(1))
        waiting = asyncio.create_task(job.result(timeout=30))
        async with asyncio.timeout(30):
            while not await producer.store.client.exists("barque:waiters"):
                await asyncio.sleep(0)
            assert await job.abort()
        with pytest.raises(JobCancelled):
            await waiting


@task
async def tells(ctx: Context) -> int:
    for number in range(3):
        ctx.progress(number + 1, 3)
        await ctx.emit(number)
    return 3


async def test_progress_and_items_reach_who_follows(connected_to_fake):
    fake = fakeredis.FakeAsyncRedis(server=connected_to_fake)
    pool = ArqRedis(connection_pool=fake.connection_pool)
    worker = Worker([tells], redis_pool=pool, handle_signals=False, burst=True, poll_delay=0.05)
    async with Producer() as producer:
        job = await producer.enqueue(tells())
        watching = asyncio.create_task(last_progress(job))
        async with asyncio.timeout(30):
            await worker.async_run()
            assert [item.value async for item in job.stream(int)] == [0, 1, 2]
            assert await watching == 3
        assert (await job.progress()).fraction == 1.0
    await worker.close()
    await fake.aclose()


async def last_progress(job) -> float:
    done = 0
    async for progress in job.watch():
        done = progress.done
    return done


@every(1)
@task
async def beat(ctx: Context) -> None: ...


async def test_schedules_tick_and_are_changed(connected_to_fake):
    fake = fakeredis.FakeAsyncRedis(server=connected_to_fake)
    worker = Worker([beat], redis_pool=ArqRedis(connection_pool=fake.connection_pool), handle_signals=False)
    async with Producer() as producer:
        running = asyncio.create_task(worker.async_run())
        async with asyncio.timeout(30):
            while not (found := await producer.schedules.list()) or not found[0].runs:
                await asyncio.sleep(0.01)
        assert (found[0].name, found[0].declared, found[0].versions) == ("beat", True, 1)
        assert await producer.schedules.pause("beat")
        added = await producer.schedules.add("more", second_time(1), every(3600))
        assert added.next_run is not None
        assert [each.name for each in await producer.schedules.list()] == ["more", "beat"]
        assert await producer.schedules.remove("more")
        running.cancel()
        await asyncio.wait({running})
    await worker.close()
    await fake.aclose()


@task(retry=RetryPolicy(max_attempts=1))
async def fails_once(ctx: Context) -> str:
    if not ctx.state.get("mended"):
        raise LookupError("not yet")
    return "well"


async def test_a_dead_letter_is_replayed(connected_to_fake):
    fake = fakeredis.FakeAsyncRedis(server=connected_to_fake)
    pool = ArqRedis(connection_pool=fake.connection_pool)
    worker = Worker([fails_once], redis_pool=pool, handle_signals=False, burst=True, poll_delay=0.05)
    async with Producer() as producer:
        jobs = await producer.enqueue_many([fails_once(), fails_once()])
        async with asyncio.timeout(30):
            await worker.async_run()
            assert {letter.job_id for letter in (await producer.dead.list()).letters} == {job.job_id for job in jobs}
            assert (await producer.dead.get(jobs[0].job_id)).error.message == "not yet"
            worker.ctx["mended"] = True
            assert await producer.dead.delete(jobs[1].job_id) == 1
            assert (await producer.dead.replay(everything=True)).replayed == 1
            await worker.async_run()
            assert await producer.job(jobs[0].job_id).result(timeout=10) == "well"
            assert await producer.dead.count() == 0
    await worker.close()
    await fake.aclose()
