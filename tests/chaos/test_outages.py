"""What a worker does when its server goes: an acknowledged job is run to an outcome, and none is lost."""

import asyncio

import pytest
from arq.connections import RedisSettings

from common import Context, task
from common.embedded import EmbeddedServer
from producer import Producer
from tests.support.running import producer, run_worker
from workers.worker import Worker

__all__ = ["producer", "run_worker"]

signals: dict[str, asyncio.Event] = {}
ran: list[int] = []


@pytest.fixture(autouse=True)
async def nothing_ran_yet():
    ran.clear()
    signals.update(gate=asyncio.Event(), started=asyncio.Event())


@task
async def note(ctx: Context, n: int) -> int:
    ran.append(n)
    return n


@task
async def hold(ctx: Context, n: int) -> int:
    signals["started"].set()
    await signals["gate"].wait()
    ran.append(n)
    return n


async def kill_connections(redis, *, but: str = "barque-test") -> None:
    """Cut every client off, the tests' own apart."""
    for client in await redis.client_list():
        if client["name"] != but:
            await redis.client_kill_filter(_id=client["id"])


@pytest.mark.leaves_keys("arq:result:*")
async def test_an_outcome_that_met_a_broken_connection_is_sent_again_and_recorded_once(producer, run_worker, redis):
    worker = await run_worker(hold)
    job = await producer.enqueue(hold(1))
    async with asyncio.timeout(20):
        await signals["started"].wait()
        await kill_connections(redis)
        signals["gate"].set()
        while not await redis.exists(f"arq:result:{job.job_id}"):
            await asyncio.sleep(0)
        while worker.jobs_complete == 0:
            await asyncio.sleep(0)
    assert ran == [1]
    assert (worker.jobs_complete, worker.jobs_failed) == (1, 0)


@pytest.mark.leaves_keys("arq:result:*")
async def test_jobs_go_on_while_connections_are_cut_again_and_again(producer, run_worker, redis):
    await run_worker(note, max_jobs=20, lease=2)
    jobs = await producer.enqueue_many(note(n) for n in range(3000))
    for _ in range(5):
        await kill_connections(redis)
        await asyncio.sleep(0.05)
    async with asyncio.timeout(60):
        while not all(await redis.mget([f"arq:result:{job.job_id}" for job in jobs])):
            await asyncio.sleep(0.01)
    # At least once: a claim whose reply was lost is run again when its lease ends.
    assert set(ran) == set(range(3000))
    assert await redis.zcard("arq:queue") == 0


async def test_a_server_killed_and_restarted_mid_work_loses_nothing(tmp_path):
    with EmbeddedServer(tmp_path, config={"appendfsync": "always"}) as server:
        async with Producer(server.url) as producer:
            worker = Worker(
                [note, hold],
                redis_settings=RedisSettings.from_dsn(server.url),
                handle_signals=False,
                poll_delay=0.1,
                lease=2,
                max_jobs=50,
            )
            running = asyncio.create_task(worker.async_run())
            held = await producer.enqueue(hold(-1))
            async with asyncio.timeout(20):
                await signals["started"].wait()
            jobs = await producer.enqueue_many([note(n) for n in range(500)])
            waits = [asyncio.create_task(job.result()) for job in [held, *jobs]]
            await asyncio.sleep(0)
            await asyncio.to_thread(server.kill)
            signals["gate"].set()
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(60):
                done = await asyncio.gather(*waits, return_exceptions=True)
            # Who asked while the server was away was told so; asking again gives the result.
            results = [
                await job.result(timeout=30) if isinstance(answer, Exception) else answer
                for job, answer in zip([held, *jobs], done, strict=True)
            ]
            assert results == [-1, *range(500)]
            assert set(ran) == {-1, *range(500)}
            running.cancel()
            await asyncio.wait({running})
            await worker.close()
