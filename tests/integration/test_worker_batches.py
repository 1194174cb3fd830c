"""Batches in worker processes of their own: nothing is lost when one dies in the middle of a run."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from common.tasks import Call
from producer import Producer

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.leaves_keys

TASKS = """
import json, os, pathlib, signal
from common import BatchContext, task

def note(**said):
    with open("runs", "a") as runs:
        runs.write(json.dumps(said) + "\\n")

@task(name="deadly", batch=10, within=0.5)
async def deadly(ctx: BatchContext, numbers: list[int]) -> list[int]:
    note(worker=ctx.worker, numbers=numbers, attempts=[job.attempt for job in ctx.jobs])
    if not pathlib.Path("killed").exists():
        pathlib.Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return [number * number for number in numbers]

@task(name="shared", batch=10, within=0.05)
async def shared(ctx: BatchContext, numbers: list[int]) -> list[int]:
    note(worker=ctx.worker, numbers=numbers)
    return numbers

@task(name="holds_the_loop", batch=2, within=0.05)
async def holds_the_loop(ctx: BatchContext, numbers: list[int]) -> list[int]:
    import time
    note(numbers=numbers)
    while not pathlib.Path("over").exists():
        time.sleep(0.02)
    return numbers
"""


class Fleet:
    """Worker processes, what their runs have noted, and what they logged."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.processes: list[asyncio.subprocess.Process] = []
        (folder / "batch_tasks.py").write_text(TASKS)

    async def start(self) -> asyncio.subprocess.Process:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
        settings = {"REDIS_URL": self.url, "LEASE": "1", "TASKS": "batch_tasks", "LOG_FORMAT": "json"}
        settings = {f"BARQUE_{name}": value for name, value in settings.items()}
        with (self.folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cli", "worker"),
                cwd=self.folder,
                env=inherited | settings | {"PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}"},
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def runs(self) -> list[dict]:
        noted = self.folder / "runs"
        return [json.loads(line) for line in noted.read_text().splitlines()] if noted.exists() else []

    def logged(self, event: str) -> list[dict]:
        lines = [line for line in (self.folder / "log").read_text().splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if line["event"] == event]

    async def end(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def fleet(redis_url, tmp_path):
    made = Fleet(redis_url, tmp_path)
    yield made
    await made.end()


async def test_a_worker_that_dies_in_a_run_loses_none_of_its_jobs(redis_url, fleet):
    async with Producer(redis_url) as producer:
        jobs = await producer.enqueue_many(Call("deadly", number) for number in range(30))
        first = await fleet.start()
        assert await first.wait() == -signal.SIGKILL
        await fleet.start()
        assert [await job.result(timeout=60) for job in jobs] == [number * number for number in range(30)]
    (dead, *others) = fleet.runs()
    # Each ran once, but for those of the run in which the worker died: they ran again, as their second attempt.
    times = Counter(number for run in fleet.runs() for number in run["numbers"])
    assert {number for number, count in times.items() if count == 2} == set(dead["numbers"])
    assert max(times.values()) == 2
    second = {n for run in others for n, attempt in zip(run["numbers"], run["attempts"], strict=True) if attempt == 2}
    assert second >= set(dead["numbers"])


async def test_each_job_of_a_fleet_is_in_one_run_of_at_most_so_many(redis_url, fleet):
    for _ in range(2):
        await fleet.start()
    async with Producer(redis_url) as producer:
        jobs = await producer.enqueue_many(Call("shared", number) for number in range(500))
        assert [await job.result(timeout=60) for job in jobs] == list(range(500))
    assert sorted(number for run in fleet.runs() for number in run["numbers"]) == list(range(500))
    assert max(len(run["numbers"]) for run in fleet.runs()) <= 10


async def test_a_run_that_holds_the_event_loop_is_named(redis_url, fleet):
    await fleet.start()
    async with Producer(redis_url) as producer:
        jobs = await producer.enqueue_many(Call("holds_the_loop", number) for number in range(2))
        async with asyncio.timeout(60):
            while not fleet.logged("event_loop_blocked"):
                await asyncio.sleep(0.02)
        (fleet.folder / "over").touch()
        assert [await job.result(timeout=60) for job in jobs] == [0, 1]
    (line,) = fleet.logged("event_loop_blocked")
    assert (line["task"], line["batch"]) == ("holds_the_loop", 2)
    assert "batch_tasks.py" in line["place"]
