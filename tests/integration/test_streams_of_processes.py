"""A stream and a progress over worker processes that are killed: whole at the end, whoever emitted it."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from common.tasks import Call
from tests.support.running import producer

__all__ = ["producer"]

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.leaves_keys(
    "arq:result:*",
    "barque:progress:*",
    "barque:stream:*",
    "barque:watchers:*",
    "barque:worker*",
    "*:health-check",
    "barque:wake:*",
)

TASKS = """
import asyncio, pathlib
from common import Context, task

@task(name="long_answer")
async def long_answer(ctx: Context, words: int) -> int:
    for number in range(words):
        await ctx.emit([ctx.attempt, number])
        ctx.progress(number + 1, words)
        if number == 2:
            while not pathlib.Path("go").exists():
                await asyncio.sleep(0.01)
    return ctx.attempt
"""


@pytest.fixture
async def start(tmp_path, redis_url):
    """Start worker processes; kill what is left of them."""
    (tmp_path / "their_tasks.py").write_text(TASKS)
    started: list[asyncio.subprocess.Process] = []
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
    settings = {"BARQUE_REDIS_URL": redis_url, "BARQUE_TASKS": "their_tasks", "BARQUE_LEASE": "1"}

    async def run() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli", "worker"),
            cwd=tmp_path,
            env=kept | settings | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
            stderr=asyncio.subprocess.DEVNULL,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_worker_leaves_no_half_of_an_answer(producer, start, tmp_path):
    first = await start()
    job = await producer.enqueue(Call("long_answer", 6))
    seen: list[tuple[int, int, list[int]]] = []
    text: list[int] = []

    async def read() -> None:
        async for item in job.stream(list[int]):
            seen.append((item.attempt, item.number, item.value))
            if item.number == 1:
                text.clear()
            text.append(item.value[1])
            if item.attempt == 1 and item.number == 3:
                first.send_signal(signal.SIGKILL)
                await first.wait()
                (tmp_path / "go").touch()
                await start()

    async with asyncio.timeout(120):
        await read()
        assert await job.result() == 2
    assert seen == [(1, n + 1, [1, n]) for n in range(3)] + [(2, n + 1, [2, n]) for n in range(6)]
    assert text == list(range(6))
    assert [(item.attempt, item.value[1]) async for item in job.stream()] == [(2, n) for n in range(6)]
    progress = await job.progress()
    assert (progress.done, progress.attempt) == (6, 2)


async def test_many_jobs_on_several_processes_each_have_their_own_stream(producer, start, tmp_path):
    (tmp_path / "go").touch()
    await asyncio.gather(start(), start())
    async with asyncio.timeout(120):
        jobs = await producer.enqueue_many(Call("long_answer", 5) for _ in range(40))
        read = await asyncio.gather(*(values(job) for job in jobs))
    assert read == [[[1, n] for n in range(5)]] * 40


async def values(job) -> list:
    return [item.value async for item in job.stream()]
