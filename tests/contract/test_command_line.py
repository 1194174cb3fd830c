"""arq's own command line on Barque: `arq workers.WorkerSettings`, run as a process."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from arq.jobs import JobStatus

ROOT = Path(__file__).parents[2]
ARQ = Path(sys.executable).with_name("arq")

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:wake:*")

TASKS = """
import asyncio, pathlib
from common import task

@task
async def which_loop(ctx) -> str:
    return type(asyncio.get_running_loop()).__module__

@task
async def hold(ctx, flag: str) -> str:
    pathlib.Path(flag + ".begun").touch()
    while not pathlib.Path(flag).exists():
        await asyncio.sleep(0.01)
    return "held"
"""

OWN_SETTINGS = """
import os
from arq.connections import RedisSettings
from workers.entry import install
install()

async def double(ctx, number):
    return number * 2

class WorkerSettings:
    functions = [double]
    redis_settings = RedisSettings.from_dsn(os.environ["BARQUE_REDIS_URL"])
"""


class Process:
    def __init__(self, process):
        self.process = process
        self.lines = []
        self._grown = asyncio.Condition()
        self._readers = [asyncio.create_task(self._read(stream)) for stream in (process.stdout, process.stderr)]

    async def _read(self, stream):
        while line := await stream.readline():
            async with self._grown:
                self.lines.append(line.decode().rstrip())
                self._grown.notify_all()

    async def says(self, text, times=1):
        async with asyncio.timeout(30), self._grown:
            await self._grown.wait_for(lambda: sum(text in line for line in self.lines) >= times)

    async def ends(self):
        async with asyncio.timeout(30):
            await asyncio.gather(*self._readers)
            return await self.process.wait()


@pytest.fixture
def app(tmp_path):
    (tmp_path / "contract_app.py").write_text(TASKS)
    (tmp_path / "own_app.py").write_text(OWN_SETTINGS)
    (tmp_path / "plain_tasks.py").write_text("async def plain(ctx):\n    pass\n")
    return tmp_path


@pytest.fixture
def start(app, redis_url):
    @asynccontextmanager
    async def run(*arguments, settings="workers.WorkerSettings", command=(str(ARQ),), **environment):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
        process = await asyncio.create_subprocess_exec(
            *command,
            settings,
            *arguments,
            cwd=app,
            env=inherited
            | {"PYTHONPATH": f"{ROOT}{os.pathsep}{app}", "BARQUE_REDIS_URL": redis_url, "BARQUE_TASKS": "contract_app"}
            | environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        running = Process(process)
        try:
            yield running
        finally:
            if process.returncode is None:
                process.kill()
            await running.ends()

    return run


async def begun(flag):
    """Whether `hold` runs: a job that is claimed and has not begun yet goes back to the queue at once."""
    return Path(f"{flag}.begun").exists()


@pytest.mark.parametrize("command", [(str(ARQ),), (sys.executable, "-m", "arq")], ids=["script", "module"])
async def test_burst_runs_what_a_stock_producer_enqueued_on_barques_engine(start, msgpack_redis, command):
    job = await msgpack_redis.enqueue_job("which_loop")
    async with start("--burst", command=command) as arq:
        assert await arq.ends() == 0
    assert await job.result(timeout=20) == "uvloop"
    assert any('"event":"job_succeeded"' in line and '"task":"which_loop"' in line for line in arq.lines)


async def test_check_says_by_its_exit_code_whether_a_worker_lives(start):
    async with start("--check") as check:
        assert await check.ends() == 1
    async with start() as arq:
        await arq.says("worker_started")
        # The key is written as soon as the worker runs; a check that comes sooner may ask again.
        for _ in range(20):
            async with start("--check") as check:
                if await check.ends() == 0:
                    break
        else:
            pytest.fail("the worker never showed")
        arq.process.send_signal(signal.SIGTERM)
        assert await arq.ends() == 0
    async with start("--check") as check:
        assert await check.ends() == 1


async def test_sigterm_lets_running_jobs_end_and_exits_cleanly(start, msgpack_redis, until, tmp_path):
    flag = tmp_path / "flag"
    job = await msgpack_redis.enqueue_job("hold", str(flag))
    async with start() as arq:
        await until(lambda: begun(flag))
        arq.process.send_signal(signal.SIGTERM)
        await arq.says("worker_stopping")
        later = await msgpack_redis.enqueue_job("which_loop", _job_id="later")
        flag.touch()
        assert await arq.ends() == 0
    assert await job.result(timeout=20) == "held"
    assert await later.status() is JobStatus.queued
    await msgpack_redis.delete("arq:queue", "arq:job:later")


@pytest.mark.parametrize("grace", ["0", "0.1"])
async def test_jobs_that_outlast_the_grace_go_back_to_the_queue(start, msgpack_redis, until, tmp_path, grace):
    flag = tmp_path / "never"
    job = await msgpack_redis.enqueue_job("hold", str(flag), _job_id="one")
    async with start(BARQUE_SHUTDOWN_GRACE=grace) as arq:
        await until(lambda: begun(flag))
        arq.process.send_signal(signal.SIGTERM)
        assert await arq.ends() == 0
    assert await job.status() is JobStatus.queued
    assert await msgpack_redis.get("arq:retry:one") == b"0", "the attempt is not counted"
    await msgpack_redis.delete("arq:queue", "arq:job:one", "arq:retry:one", "barque:attempts:one")


async def test_watch_reloads_the_worker_when_a_file_changes(start, app, msgpack_redis):
    pytest.importorskip("watchfiles")
    watched = app / "watched"
    watched.mkdir()
    async with start("--watch", str(watched)) as arq:
        await arq.says("worker_started")
        # The watch begins at some moment after the worker's start: touch until it is seen.
        for number in range(100):
            (watched / f"{number}.py").touch()
            if any("reloading arq worker" in line for line in arq.lines):
                break
            await asyncio.sleep(0.2)
        await arq.says("worker_started", times=2)
        job = await msgpack_redis.enqueue_job("which_loop")
        assert await job.result(timeout=20, poll_delay=0.02)
        arq.process.send_signal(signal.SIGTERM)
        assert await arq.ends() == 0


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"BARQUE_CONCURRENCY": "many"}, "BARQUE_CONCURRENCY"),
        ({"BARQUE_TASKS": "no_such_module"}, "no module named 'no_such_module'"),
        ({"BARQUE_TASKS": "plain_tasks"}, "BARQUE_TASKS: plain_tasks has no @task; decorate a function with"),
        ({"BARQUE_TASKS": ""}, "BARQUE_TASKS: name at least one module"),
    ],
)
@pytest.mark.parametrize("command", [(str(ARQ),), (sys.executable, "-m", "arq")], ids=["script", "module"])
async def test_a_wrong_setting_is_one_readable_line(start, environment, words, command):
    async with start(command=command, **environment) as arq:
        assert await arq.ends() == 2
    [line] = arq.lines
    assert line.startswith("barque: ")
    assert words in line


async def test_a_server_that_refuses_is_one_readable_line(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
        port = taken.getsockname()[1]
        async with start(BARQUE_REDIS_URL=f"redis://127.0.0.1:{port}/0", BARQUE_START_WAIT="0") as arq:
            assert await arq.ends() == 1
    said = [line for line in arq.lines if line.startswith("barque: ")]
    assert len(said) == 1
    assert str(port) in said[0]
    assert not any("Traceback" in line for line in arq.lines)


async def test_a_settings_class_of_ones_own_runs_on_barque(start, arq_redis):
    job = await arq_redis.enqueue_job("double", 4)
    async with start("--burst", settings="own_app.WorkerSettings", BARQUE_ACCEPT_PICKLE="true") as arq:
        assert await arq.ends() == 0
    assert await job.result(timeout=20) == 8
    assert any("job_succeeded" in line for line in arq.lines), "its log lines go where arq's went"
