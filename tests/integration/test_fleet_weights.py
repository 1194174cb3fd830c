"""Two worker processes that serve queues by weight: what the whole fleet starts has the shares."""

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
async def note(ctx: Context) -> None:
    await client.rpush("started", ctx.queue)
"""


async def test_the_jobs_that_a_fleet_starts_have_the_shares_of_their_queues(redis_url, redis, tmp_path):
    async with Producer(redis_url) as producer:
        for queue in ("low", "default", "high"):
            await producer.enqueue_many([Call("note") for _ in range(600)], queue=queue)
    (tmp_path / "noting_tasks.py").write_text(TASKS)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
    env = inherited | {
        "BARQUE_REDIS_URL": redis_url,
        "BARQUE_QUEUES": "high=6,default=3,low=1",
        "BARQUE_TASKS": "noting_tasks",
        "BARQUE_CONCURRENCY": "6",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
    }
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-m", "cli", "worker", "--burst", cwd=tmp_path, env=env)
        for _ in range(2)
    ]
    assert await asyncio.gather(*(process.wait() for process in processes)) == [0, 0]
    started = await redis.lrange("started", 0, -1)
    assert len(started) == 1800, "each ran once"
    # As long as all three have jobs. The last ones of each process may be noted in any order.
    first = started[:800]
    assert first.count(b"high") == pytest.approx(480, abs=25)
    assert first.count(b"default") == pytest.approx(240, abs=25)
    assert first.count(b"low") == pytest.approx(80, abs=25)
