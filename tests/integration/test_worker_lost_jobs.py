"""A job that takes its worker down with it is begun as often as it has attempts, and is dead then: real processes."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from common.errors import TaskFailed
from common.tasks import Call
from producer import Producer

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.leaves_keys

TASKS = """
import asyncio, ctypes, os, pathlib, signal, time
from common import Context, RetryPolicy, fixed, task

THRICE = RetryPolicy(max_attempts=3, backoff=fixed(0))

def note(ctx: Context) -> None:
    with open("begun", "a") as begun:
        begun.write(f"{ctx.attempt} {os.getpid()}\\n")

@task(name="killed", retry=THRICE)
async def killed(ctx: Context) -> None:
    note(ctx)
    os.kill(os.getpid(), signal.SIGKILL)  # as a kernel that is out of memory does
    await asyncio.sleep(3600)

@task(name="segfault", retry=THRICE)
async def segfault(ctx: Context) -> None:
    note(ctx)
    ctypes.string_at(0)

@task(name="blocks", retry=THRICE)
async def blocks(ctx: Context) -> None:
    note(ctx)
    while not pathlib.Path("over").exists():
        time.sleep(0.02)

@task(name="killed_in_the_end", retry=THRICE)
async def killed_in_the_end(ctx: Context) -> None:
    note(ctx)
    if ctx.attempt < 3:
        raise ConnectionError("not lost: retried")
    os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(3600)
"""

PLAIN = """
import os, signal
from workers import Worker
from arq import func

async def plain(ctx):
    with open("begun", "a") as begun:
        begun.write(f"{ctx['job_try']} {os.getpid()}\\n")
    os.kill(os.getpid(), signal.SIGKILL)

from arq.connections import RedisSettings
Worker(
    [func(plain, name="plain", max_tries=3)], redis_settings=RedisSettings.from_dsn(os.environ["BARQUE_REDIS_URL"]),
    lease=1, poll_delay=0.05,
).run()
"""


@pytest.fixture
async def fleet(redis_url, tmp_path):
    made = Fleet(redis_url, tmp_path)
    yield made
    await made.end()


class Fleet:
    """Worker processes, and what their jobs have noted."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.processes: list[asyncio.subprocess.Process] = []
        (folder / "lost_tasks.py").write_text(TASKS)

    async def start(self, *command: str) -> asyncio.subprocess.Process:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
        settings = {"REDIS_URL": self.url, "LEASE": "1", "BLOCK_LIMIT": "1", "TASKS": "lost_tasks"}
        settings = {f"BARQUE_{name}": value for name, value in settings.items()}
        with (self.folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *(command or ("-m", "cli", "worker"))),
                cwd=self.folder,
                env=inherited | settings | {"PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}"},
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def begun(self) -> list[int]:
        """Return the numbers of the attempts that began, in order."""
        noted = self.folder / "begun"
        return [int(line.split()[0]) for line in noted.read_text().splitlines()] if noted.exists() else []

    async def end(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def ends_as_lost(producer: Producer, fleet: Fleet, call: Call, *command: str) -> TaskFailed:
    """Run the job, with a new worker for each one it takes down, and return how it failed."""
    job = await producer.enqueue(call)
    ended = asyncio.create_task(job.wait(timeout=60))
    lost = 0
    while not ended.done():
        worker = await fleet.start(*command)
        dead = asyncio.create_task(worker.wait())
        await asyncio.wait({ended, dead}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            lost += 1
            assert lost <= 3, "it takes workers down without an end"
    await ended
    with pytest.raises(TaskFailed) as raised:
        await job.result(timeout=10)
    return raised.value


@pytest.mark.parametrize(("name", "by"), [("killed", signal.SIGKILL), ("segfault", signal.SIGSEGV)])
async def test_a_job_that_kills_its_worker_has_its_attempts_and_no_more(redis_url, fleet, name, by):
    async with Producer(redis_url) as producer:
        error = await ends_as_lost(producer, fleet, Call(name))
        assert fleet.begun() == [1, 2, 3]
        assert [process.returncode for process in fleet.processes[:3]] == [-by] * 3
        assert error.remote_type == "common.errors.JobLost"
        assert "the worker was lost in attempt 3 of 3" in error.remote_message
        assert error.attempts == 3


async def test_only_the_last_attempt_says_how_it_ended(redis_url, fleet):
    async with Producer(redis_url) as producer:
        error = await ends_as_lost(producer, fleet, Call("killed_in_the_end"))
    assert fleet.begun() == [1, 2, 3]
    assert error.remote_type == "common.errors.JobLost"


async def test_a_job_that_holds_its_worker_up_past_the_limit_is_lost_as_often(redis_url, fleet):
    async with Producer(redis_url) as producer:
        job = await producer.enqueue(Call("blocks"))
        for number in range(3):
            await fleet.start()
            async with asyncio.timeout(30):
                while len(fleet.begun()) == number:
                    await asyncio.sleep(0.01)
        await fleet.start()
        with pytest.raises(TaskFailed, match="the worker was lost in attempt 3 of 3") as raised:
            await job.result(timeout=30)
    assert raised.value.remote_type == "common.errors.JobLost"
    assert fleet.begun() == [1, 2, 3]
    (fleet.folder / "over").touch()
    for process in fleet.processes:
        process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        assert [await process.wait() for process in fleet.processes] == [0] * 4, "they come back, and stop in order"
    assert fleet.begun() == [1, 2, 3]


async def test_of_a_plain_function_it_is_told_in_arqs_words(redis_url, fleet):
    async with Producer(redis_url) as producer:
        error = await ends_as_lost(producer, fleet, Call("plain"), "-c", PLAIN)
    assert fleet.begun() == [1, 2, 3]
    assert error.remote_message == "max 3 retries exceeded"
