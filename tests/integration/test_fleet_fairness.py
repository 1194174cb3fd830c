"""Two worker processes, one of which is killed: a customer's few jobs are served among another's thousands."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from common.tasks import Call
from producer import Producer

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.leaves_keys

TASKS = """
import redis.asyncio
from common import Context, task
from common.settings import load_settings

client = redis.asyncio.from_url(load_settings().redis_url)

@task(name="note", keep_result=0)
async def note(ctx: Context, customer: str) -> None:
    await client.rpush("started", customer)
"""


async def test_a_customers_few_jobs_are_served_among_anothers_thousands_on_a_fleet(redis_url, redis, tmp_path):
    (tmp_path / "fair_tasks.py").write_text(TASKS)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
    env = inherited | {
        "BARQUE_REDIS_URL": redis_url,
        "BARQUE_TASKS": "fair_tasks",
        "BARQUE_CONCURRENCY": "5",
        "BARQUE_LEASE": "1",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
    }

    async def start(*options: str) -> asyncio.subprocess.Process:
        command = (sys.executable, "-m", "cli", "worker", *options)
        return await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=env)

    async with Producer(redis_url) as producer:
        await producer.enqueue_many((Call("note", "big") for _ in range(6000)), fair_key="big")
        killed = await start()
        while await redis.llen("started") < 100:
            await asyncio.sleep(0.01)
        killed.kill()
        await killed.wait()
        before = await redis.llen("started")
        await producer.enqueue_many((Call("note", "small") for _ in range(10)), fair_key="small")
        others = [await start("--burst") for _ in range(2)]
        assert await asyncio.gather(*(process.wait() for process in others)) == [0, 0]
    started = await redis.lrange("started", 0, -1)
    # Those that ran when their worker was killed run again.
    assert 6000 <= started.count(b"big") <= 6000 + 5
    assert started.count(b"small") == 10
    last = max(place for place, customer in enumerate(started) if customer == b"small")
    assert last - before < 150, "among the first that were started once they were there"
    left = [key async for key in redis.scan_iter("barque:*:arq:queue*")]
    assert [key for key in left if not key.startswith(b"barque:wake:")] == []
