"""Worker processes of their own, as a fleet has them, on a test's server; and what their jobs say of when they ran.

    start_workers   `await start_workers(2, SOURCE, lease=…)`: processes that run the tasks of this module's text
    ran             `await ran(redis)`: what jobs recorded with `note`, in the order the server took it

A task records with RECORD in its module: `await note(ctx, "start", n)` leaves a line with the server's own time, in us.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis.asyncio

__all__ = ["RECORD", "Line", "fullest_window", "most_at_once", "ran", "start_workers"]

ROOT = Path(__file__).parents[2]
NOTES = "test:notes"

RECORD = f"""
import asyncio
from common import *

_NOTE = '''
local time = redis.call('TIME')
redis.call('RPUSH', KEYS[1], string.format('%.0f', time[1] * 1000000 + time[2]) .. ' ' .. ARGV[1] .. ' ' .. ARGV[2])
'''

async def note(ctx, what, number):
    await ctx["redis"].eval(_NOTE, 1, "{NOTES}", what, number)
"""


@dataclass(frozen=True)
class Line:
    seconds: float
    what: str
    number: int


async def ran(client: redis.asyncio.Redis) -> list[Line]:
    found = [line.decode().split() for line in await client.lrange(NOTES, 0, -1)]
    return [Line(int(time) / 1e6, what, int(number)) for time, what, number in found]


def fullest_window(starts: Sequence[float], seconds: float) -> int:
    """Return the most starts that any window of this length holds."""
    times = sorted(starts)
    return max(sum(first <= other < first + seconds for other in times) for first in times)


def most_at_once(lines: Sequence[Line]) -> int:
    inside = most = 0
    for line in lines:
        inside += {"start": 1, "end": -1}[line.what]
        most = max(most, inside)
    return most


@pytest.fixture
async def start_workers(redis_url, tmp_path):
    started: list[subprocess.Popen] = []

    async def start(count: int, source: str, **settings: object) -> list[subprocess.Popen]:
        (tmp_path / "fleet_tasks.py").write_text(RECORD + source)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
        given = {f"BARQUE_{name.upper()}": str(value) for name, value in settings.items()}
        defaults = {"BARQUE_TASKS": "fleet_tasks", "BARQUE_REDIS_URL": redis_url, "BARQUE_KEEP_RESULT": "60"}
        defaults["BARQUE_SHUTDOWN_GRACE"] = "2"
        path = os.pathsep.join([str(tmp_path), str(ROOT)])
        log = (tmp_path / "workers.log").open("ab")
        for _ in range(count):
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "cli", "worker"], cwd=tmp_path, stdout=log, stderr=log,
                    env=kept | {"PYTHONPATH": path} | defaults | given,
                )
            )  # fmt: skip
        log.close()
        async with asyncio.timeout(60):
            while (tmp_path / "workers.log").read_text().count('"worker_started"') < len(started):
                assert all(worker.poll() is None for worker in started[-count:]), (tmp_path / "workers.log").read_text()
                await asyncio.sleep(0.05)
        return started[-count:]

    yield start
    for worker in started:
        worker.terminate()
    for worker in started:
        try:
            await asyncio.to_thread(worker.wait, 20)
        finally:
            worker.kill()
            worker.wait()
