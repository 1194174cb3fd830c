"""arq's chapter "Health checks": the key, its words, its time to live, and what reads it."""

import asyncio
import re

import pytest
from arq import func
from arq.worker import async_check_health

pytestmark = pytest.mark.leaves_keys("arq:result:*")

WORDS = re.compile(
    r"[A-Z][a-z]{2}-\d\d \d\d:\d\d:\d\d j_complete=(\d+) j_failed=(\d+) j_retried=(\d+) j_ongoing=(\d+) queued=(\d+)"
)


async def greet(ctx):
    return "hello"


async def test_the_key_is_there_while_the_worker_lives_and_not_after(
    make_worker, running, arq_redis, redis_settings, until
):
    async def there():
        return await arq_redis.exists("arq:queue:health-check")

    assert await async_check_health(redis_settings) == 1
    async with running(make_worker([greet], health_check_interval=30)):
        await until(there)
        assert await async_check_health(redis_settings) == 0
        assert 25 < await arq_redis.ttl("arq:queue:health-check") <= 31
    assert await async_check_health(redis_settings) == 1


async def test_it_tells_what_the_worker_did_and_does(make_worker, running, arq_redis, until):
    started = asyncio.Event()

    async def slow(ctx):
        started.set()
        await asyncio.Event().wait()

    async def explode(ctx):
        raise ValueError

    for name in ("greet", "greet", "explode"):
        await arq_redis.enqueue_job(name)
    worker = make_worker(
        [greet, func(explode, name="explode"), func(slow, name="slow", keep_result=0)], health_check_interval=0.02
    )
    worker.burst = True
    await worker.async_run()
    await arq_redis.delete("arq:queue:health-check")  # what it said while the last of these ran
    await arq_redis.enqueue_job("slow", _job_id="slow")

    async def words():
        value = await arq_redis.get("arq:queue:health-check")
        found = value and WORDS.fullmatch(value.decode())
        return found if found and found[4] == "1" else None

    async with running(worker):
        await started.wait()
        assert (await until(words)).groups() == ("2", "1", "0", "1", "1")
    waits = ("arq:queue", "arq:job:slow", "arq:retry:slow", "barque:wake:arq:queue", "barque:attempts:slow")
    await arq_redis.delete(*waits)


async def test_it_stands_under_the_queue_or_where_it_is_told(make_worker, running, arq_redis, redis_settings, until):
    async with running(make_worker([greet], queue_name="own")):
        await until(lambda: arq_redis.exists("own:health-check"))
        assert await async_check_health(redis_settings, queue_name="own") == 0
    async with running(make_worker([greet], health_check_key="elsewhere")):
        await until(lambda: arq_redis.exists("elsewhere"))
        assert await async_check_health(redis_settings, health_check_key="elsewhere") == 0


async def test_a_worker_that_is_started_again_says_so_at_once(make_worker_of, running, arq_redis, until):
    """As `arq --watch` does at each reload; arq's own worker stays silent for the rest of its interval."""
    worker = make_worker_of("barque", [greet])
    for _ in range(2):
        async with running(worker):
            await until(lambda: arq_redis.exists("arq:queue:health-check"))
