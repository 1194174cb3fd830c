"""A worker process that is told to stop ends by itself, whatever its tasks, hooks, threads or the server do.

And one that is not told goes on, whatever a task does to the process.
"""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common.embedded import EmbeddedServer
from common.tasks import Call
from producer import Producer

ROOT = Path(__file__).parents[2]

# Times are made short, so that the last resort comes soon: what is held here is that it comes at all.
PROGRAM = """
import asyncio, json, sys, threading, time
from common import Context, NEVER, task
from common.settings import load_settings
import workers.backstop, workers.engine, workers.executor, workers.leaving
from workers.settings import worker_options
from workers.worker import Worker

workers.engine._LAST_CHANCE, workers.engine._RECORDING = 1.0, 0.5
workers.executor._CANCEL_AGAIN = 0.1
workers.leaving.LEAVING = workers.backstop.LEAVING = 2.0

@task(name="ok")
async def ok(ctx: Context) -> str:
    return "ok"

@task(name="in_threads", retry=NEVER)
async def in_threads(ctx: Context) -> None:
    print("begun", flush=True)
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 3600) for _ in range(40)))

@task(name="own_thread", retry=NEVER)
async def own_thread(ctx: Context) -> None:
    threading.Thread(target=time.sleep, args=(3600,)).start()
    print("begun", flush=True)

@task(name="spin", retry=NEVER)
async def spin(ctx: Context) -> None:
    print("begun", flush=True)
    while True:
        pass

@task(name="swallow", retry=NEVER)
async def swallow(ctx: Context) -> None:
    print("begun", flush=True)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def leave() -> None:
    sys.exit(3)

@task(name="exits", retry=NEVER)
async def exits(ctx: Context) -> None:
    await asyncio.wait_for(leave(), 5)

async def hang(ctx) -> None:
    print("begun", flush=True)
    await asyncio.sleep(3600)

options = worker_options(load_settings()) | {"functions": [ok, in_threads, own_thread, spin, swallow, exits]}
options |= {name: hang for name in sys.argv[1:]}
Worker(**options).run()
"""


class Running:
    """A worker process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def begun(self) -> None:
        async with asyncio.timeout(30):
            assert await self.process.stdout.readline() == b"begun\n", (await self.process.stderr.read()).decode()

    async def ends(self) -> tuple[int, str]:
        """Tell it to stop; return its exit code and what it logged."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(40):
            _, log = await self.process.communicate()
        return self.process.returncode, log.decode()


@asynccontextmanager
async def a_worker(url: str, *hooks: str, **pipes):
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE} | pipes
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        *hooks,
        env=inherited | {"PYTHONPATH": str(ROOT), "BARQUE_REDIS_URL": url, "BARQUE_SHUTDOWN_GRACE": "0.1"},
        **pipes,
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def server(tmp_path):
    """A server of the test's own: it is stopped, and what a worker that was killed leaves goes with it."""
    with EmbeddedServer(tmp_path / "server") as embedded:
        yield embedded


@pytest.fixture
async def producer(server):
    async with Producer(server.url) as opened:
        yield opened


@pytest.mark.parametrize("name", ["in_threads", "swallow"])
async def test_busy_threads_and_swallowed_cancellations_do_not_keep_the_process(server, producer, name):
    async with a_worker(server.url) as worker:
        job = await producer.enqueue(Call(name))
        await worker.begun()
        code, log = await worker.ends()
    assert code == 0, log
    assert "worker_stopped" in log
    assert (await job.status()).value == "queued", "it was given back"


@pytest.mark.parametrize("hook", ["after_job_end", "on_job_end", "on_shutdown"])
async def test_a_hook_that_hangs_does_not_keep_the_process(server, producer, hook):
    async with a_worker(server.url, hook) as worker:
        job = await producer.enqueue(Call("ok"))
        if hook == "on_shutdown":
            assert await job.result(timeout=30) == "ok"
        else:
            await worker.begun()
        code, log = await worker.ends()
    assert code == 0, log
    assert await job.result(timeout=30) == "ok"


async def test_a_server_that_hangs_does_not_keep_the_process(server, producer):
    async with a_worker(server.url) as worker:
        assert await (await producer.enqueue(Call("ok"))).result(timeout=30) == "ok"
        os.kill(server.pid, signal.SIGSTOP)
        try:
            code, log = await worker.ends()
        finally:
            os.kill(server.pid, signal.SIGCONT)
    assert code == 0, log


async def test_a_loop_without_an_await_is_ended_by_force_and_said_where(server, producer):
    async with a_worker(server.url) as worker:
        await producer.enqueue(Call("spin"))
        await worker.begun()
        code, log = await worker.ends()
    assert code == 1, log
    assert "worker_did_not_stop" in log
    assert "in spin" in log


async def test_a_thread_of_a_tasks_own_is_ended_by_force(server, producer):
    async with a_worker(server.url) as worker:
        await producer.enqueue(Call("own_thread"))
        await worker.begun()
        code, log = await worker.ends()
    assert code == 0, log
    assert "process_ended_by_force" in log


async def test_an_exit_in_a_task_that_a_job_started_ends_the_job_and_not_the_worker(server, producer):
    async with a_worker(server.url) as worker:
        leaving = await producer.enqueue(Call("exits"))
        await leaving.wait(timeout=30)
        assert (await leaving.info()).error.type == "builtins.SystemExit"
        assert await (await producer.enqueue(Call("ok"))).result(timeout=30) == "ok"
        code, log = await worker.ends()
    assert code == 0
    # From Python 3.12 on wait_for has no inner task, and the exit is the job's own.
    assert ("exit_in_a_task" in log) == (sys.version_info < (3, 12))


async def test_a_log_whose_reader_is_gone_costs_no_job(server, producer):
    reading, writing = os.pipe()
    async with a_worker(server.url, stderr=writing) as worker:
        os.close(writing)
        assert await (await producer.enqueue(Call("ok"))).result(timeout=30) == "ok"
        os.close(reading)
        for _ in range(3):
            assert await (await producer.enqueue(Call("ok"))).result(timeout=30) == "ok"
        assert worker.process.returncode is None
