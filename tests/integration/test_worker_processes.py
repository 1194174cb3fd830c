"""The processes of a worker process: they end with it however it ends, and what is sent to all is the worker's."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from common import Call
from common.embedded import EmbeddedServer
from producer import Producer

ROOT = Path(__file__).parents[2]

HEAVY = """
import os, sys, time
from pathlib import Path
from common import NEVER, Context, task


@task(cpu=True, retry=NEVER)
def busy(ctx: Context, begun: Path, until: Path) -> str:
    begun.write_text(str(os.getpid()))
    while not until.exists():
        time.sleep(0.001)
    return __name__


@task(cpu=True, retry=NEVER)
def endless(ctx: Context, begun: Path) -> None:
    begun.write_text(str(os.getpid()))
    sum(range(10**15))  # holds the interpreter: no other thread of the process gets a turn


@task(cpu=True, retry=NEVER)
def pid(ctx: Context) -> int:
    print("said by", os.getpid(), flush=True)
    return os.getpid()


if __name__ == "__main__":
    from arq.connections import RedisSettings
    from workers import Worker

    Worker([busy], redis_settings=RedisSettings.from_dsn(os.environ["BARQUE_REDIS_URL"])).run()
"""


def runs(process_id) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def until(holds) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


async def read(path: Path) -> str:
    await until(lambda: path.exists() and path.read_text())
    return path.read_text()


@pytest.fixture
def server(tmp_path):
    """A server of the test's own: what a worker that was killed leaves goes with it."""
    with EmbeddedServer(tmp_path / "server") as embedded:
        yield embedded


@pytest.fixture
async def producer(server):
    async with Producer(server.url) as opened:
        yield opened


@pytest.fixture
async def start(server, tmp_path):
    (tmp_path / "heavy.py").write_text(HEAVY)
    started = []

    async def start(*command, **settings):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(command or ("-m", "arq", "workers.WorkerSettings")),
            env=inherited
            | {"PYTHONPATH": str(ROOT), "BARQUE_REDIS_URL": server.url, "BARQUE_TASKS": "heavy"}
            | settings,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("name", ["busy", "endless"])
async def test_no_process_outlives_a_worker_that_is_killed(start, producer, tmp_path, name):
    worker = await start(BARQUE_COMPUTE_PROCESSES="2")
    idle = await (await producer.enqueue(Call("pid"))).result(timeout=60)
    arguments = [tmp_path / "begun", tmp_path / "never"][: 2 if name == "busy" else 1]
    await producer.enqueue(Call(name, *arguments))
    working = int(await read(tmp_path / "begun"))
    # The one that is idle has been given it; another one is started for the next.
    assert working == idle
    other = await (await producer.enqueue(Call("pid"))).result(timeout=60)
    assert other != working
    worker.kill()
    await worker.wait()
    await until(lambda: not runs(working) and not runs(other))


async def test_a_signal_to_all_of_them_lets_a_job_end_within_the_grace_period(start, producer, tmp_path):
    worker = await start(BARQUE_SHUTDOWN_GRACE="60")
    job = await producer.enqueue(Call("busy", tmp_path / "begun", tmp_path / "go"))
    working = int(await read(tmp_path / "begun"))
    for process in (working, worker.pid):  # as systemd and docker stop do, and Ctrl-C in a group
        os.kill(process, signal.SIGTERM)
        os.kill(working, signal.SIGINT)
    (tmp_path / "go").touch()
    assert await job.result(timeout=60) == "heavy"
    log, _ = await worker.communicate()
    assert worker.returncode == 0, log
    assert not runs(working)


async def test_a_job_that_does_not_end_is_killed_with_its_worker_and_given_back(start, producer, tmp_path):
    worker = await start(BARQUE_SHUTDOWN_GRACE="0.1")
    job = await producer.enqueue(Call("endless", tmp_path / "begun"))
    working = int(await read(tmp_path / "begun"))
    worker.terminate()
    log, _ = await worker.communicate()
    assert worker.returncode == 0, log
    assert not runs(working)
    assert (await job.status()).value == "queued"


async def test_a_task_of_the_main_program_is_found_in_a_process_too(start, producer, tmp_path):
    await start(str(tmp_path / "heavy.py"))
    (tmp_path / "go").touch()
    job = await producer.enqueue(Call("busy", tmp_path / "begun", tmp_path / "go"))
    assert await job.result(timeout=60) == "__mp_main__"


async def test_what_a_task_prints_comes_out_where_the_worker_prints(start, producer):
    worker = await start()
    process = await (await producer.enqueue(Call("pid"))).result(timeout=60)
    worker.terminate()
    log, _ = await worker.communicate()
    assert f"said by {process}\n".encode() in log
