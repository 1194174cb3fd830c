"""A worker process and its signals: at a terminal, as a person expects; elsewhere, as a supervisor does."""

import asyncio
import fcntl
import os
import pty
import signal
import sys
import termios
from pathlib import Path

import pytest

from common.embedded import EmbeddedServer
from common.tasks import Call
from producer import Producer

ROOT = Path(__file__).parents[2]
CTRL_C = b"\x03"

TASKS = """
import asyncio, pathlib
from common import Context, NEVER, task

@task(name="until_told", retry=NEVER)
async def until_told(ctx: Context) -> int:
    print("begun", flush=True)
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
    return ctx.attempt

@task(name="silent")
async def silent(ctx: Context) -> int:
    return ctx.attempt

@task(name="stubborn", retry=NEVER)
async def stubborn(ctx: Context) -> None:
    print("begun", flush=True)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("cancelled", flush=True)
"""


class Running:
    """A worker process, and what it has shown so far."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, master: int) -> None:
        self.process = process
        self.folder = folder
        self.text = ""
        self._master: int | None = master
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def let_jobs_end(self) -> None:
        (self.folder / "go").touch()

    def close_terminal(self) -> None:
        if self._master is not None:
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)
            self._master = None
        self._changed.set()

    async def shows(self, words: str) -> None:
        """Return when it has shown these words."""
        async with asyncio.timeout(30):
            while words not in self.text:
                assert self._master is not None, f"it ended; it showed:\n{self.text}"
                self._changed.clear()
                await self._changed.wait()

    async def ends(self) -> int:
        """Return its exit code, once it has ended and all it showed is read."""
        async with asyncio.timeout(30):
            code = await self.process.wait()
            while self._master is not None:
                self._changed.clear()
                await self._changed.wait()
        return code

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # a terminal whose last program has ended
            data = b""
        self.text += data.decode(errors="replace").replace("\r\n", "\n")
        if data:
            self._changed.set()
        else:
            self.close_terminal()


def take_terminal() -> None:
    """Make standard input the controlling terminal of a new session, as a shell's window does."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may do so under nohup
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def server(tmp_path):
    with EmbeddedServer(tmp_path / "server") as embedded:
        yield embedded


@pytest.fixture
async def producer(server):
    async with Producer(server.url) as opened:
        yield opened


@pytest.fixture
async def start(server, tmp_path):
    """`worker = await start(…)`: a `barque worker`, at a terminal or not."""
    (tmp_path / "signal_tasks.py").write_text(TASKS)
    running: list[Running] = []

    async def start_one(*options: str, terminal: bool, before=None) -> Running:
        master, slave = pty.openpty() if terminal else os.pipe()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", "worker", "--tasks", "signal_tasks", *options,
            cwd=tmp_path,
            env=inherited | {"PYTHONPATH": str(ROOT), "BARQUE_REDIS_URL": server.url, "NO_COLOR": "1"},
            stdin=slave if terminal else asyncio.subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
            preexec_fn=before or (take_terminal if terminal else None),
        )  # fmt: skip
        os.close(slave)
        worker = Running(process, tmp_path, master)
        running.append(worker)
        return worker

    yield start_one
    for worker in running:
        if worker.process.returncode is None:
            worker.process.kill()
        await worker.process.wait()
        worker.close_terminal()


async def with_a_job(producer, start, name: str = "until_told", **options):
    job = await producer.enqueue(Call(name))
    worker = await start("--shutdown-grace", "60", **options)
    await worker.shows("begun\n")
    return worker, job


async def test_the_first_ctrl_c_lets_jobs_end_and_says_how_to_hurry(producer, start):
    worker, job = await with_a_job(producer, start, terminal=True)
    worker.press(CTRL_C)
    await worker.shows("Stopping: 1 job may still end, within 60 s. Ctrl-C again gives back what runs.\n")
    assert worker.process.returncode is None
    worker.let_jobs_end()
    assert await worker.ends() == 0
    assert await job.result(timeout=10) == 1
    assert "Traceback" not in worker.text


async def test_the_second_ctrl_c_gives_jobs_back_and_the_attempt_does_not_count(producer, start):
    worker, job = await with_a_job(producer, start, terminal=True)
    worker.press(CTRL_C)
    await worker.shows("Ctrl-C again gives back")
    worker.press(CTRL_C)
    await worker.shows("Giving 1 job back, for other workers to run. Ctrl-C again ends this one without that.\n")
    assert await worker.ends() == 0
    info = await job.info()
    assert (info.state.value, info.attempt) == ("queued", 0)
    assert "Traceback" not in worker.text
    worker.let_jobs_end()
    await start("--burst", terminal=False)
    assert await job.result(timeout=30) == 1, "its first attempt still"


async def test_the_third_ctrl_c_ends_the_process_there_and_then(producer, start):
    worker, job = await with_a_job(producer, start, "stubborn", terminal=True)
    worker.press(CTRL_C)
    await worker.shows("Ctrl-C again gives back")
    worker.press(CTRL_C)
    await worker.shows("cancelled")  # and swallowed: the stop takes seconds now
    worker.press(CTRL_C)
    assert await worker.ends() == 130
    assert "Ended at once." in worker.text
    assert (await job.status()).value == "running", "its lease runs out"


async def test_without_a_job_ctrl_c_ends_it_and_says_no_more_than_that(start):
    worker = await start(terminal=True)
    await worker.shows("worker_started")
    worker.press(CTRL_C)
    assert await worker.ends() == 0
    assert "Stopping: no job is running.\n" in worker.text
    assert "Ctrl-C again" not in worker.text


async def test_the_words_are_shown_though_the_log_goes_to_a_file(producer, start):
    worker, _ = await with_a_job(producer, start, terminal=True)
    second = await start("--log-file", "log.jsonl", "--shutdown-grace", "60", terminal=True)
    async with asyncio.timeout(30):
        while "worker_started" not in read(second.folder / "log.jsonl"):
            await asyncio.sleep(0.01)
    second.press(CTRL_C)
    assert await second.ends() == 0
    assert second.text.endswith("Stopping: no job is running.\n")
    assert "worker_" not in second.text
    worker.let_jobs_end()


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def test_a_terminal_that_is_closed_stops_it_in_order(producer, start):
    worker, job = await with_a_job(producer, start, terminal=True)
    worker.close_terminal()
    worker.process.send_signal(signal.SIGHUP)  # the shell passes it on, too
    worker.let_jobs_end()
    assert await job.result(timeout=30) == 1
    async with asyncio.timeout(30):
        assert await worker.process.wait() == 0


async def test_what_was_started_to_outlive_its_terminal_does(producer, start):
    def outlive() -> None:
        take_terminal()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does

    worker, first = await with_a_job(producer, start, terminal=True, before=outlive)
    worker.close_terminal()
    worker.process.send_signal(signal.SIGHUP)
    worker.let_jobs_end()
    assert await first.result(timeout=30) == 1
    assert await (await producer.enqueue(Call("silent"))).result(timeout=30) == 1
    assert worker.process.returncode is None


async def test_elsewhere_a_term_lets_jobs_end_and_nobody_is_spoken_to(producer, start):
    worker, job = await with_a_job(producer, start, terminal=False)
    worker.process.send_signal(signal.SIGTERM)
    await worker.shows('"how":"within 60 s"')
    worker.let_jobs_end()
    assert await worker.ends() == 0
    assert await job.result(timeout=10) == 1
    assert "Stopping:" not in worker.text


async def test_past_the_grace_period_the_rest_is_given_back(producer, start):
    job = await producer.enqueue(Call("until_told"))
    worker = await start("--shutdown-grace", "0.1", terminal=False)
    await worker.shows("begun\n")
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ends() == 0
    assert "job_released" in worker.text
    info = await job.info()
    assert (info.state.value, info.attempt) == ("queued", 0)


async def test_a_second_and_a_third_term(producer, start):
    worker, job = await with_a_job(producer, start, "stubborn", terminal=False)
    worker.process.send_signal(signal.SIGTERM)
    await worker.shows('"how":"within 60 s"')
    worker.process.send_signal(signal.SIGTERM)
    await worker.shows('"how":"at once"')
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ends() == 143
    assert "process_ended_at_once" in worker.text
    assert (await job.status()).value == "running"


async def test_a_signal_after_the_grace_period_does_not_begin_it_anew(producer, start):
    job = await producer.enqueue(Call("stubborn"))
    worker = await start("--shutdown-grace", "0.1", terminal=False)
    await worker.shows("begun\n")
    worker.process.send_signal(signal.SIGTERM)
    await worker.shows("cancelled")
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ends() == 0
    assert worker.text.count('"how":"within 0.1 s"') == 1
    assert worker.text.count('"how":"at once"') == 1
    assert (await job.status()).value == "queued"


async def test_ctrl_c_reaches_several_processes_once_and_one_speaks_for_all(producer, start):
    job = await producer.enqueue(Call("until_told"))
    worker = await start("--processes", "2", "--shutdown-grace", "60", terminal=True)
    await worker.shows("begun\n")
    worker.press(CTRL_C)
    await worker.shows(" jobs that run may still end, within 60 s. Ctrl-C again gives back what runs.\n")
    worker.let_jobs_end()
    assert await worker.ends() == 0
    assert await job.result(timeout=10) == 1, "its first attempt: nobody was told twice"
    assert worker.text.count("Stopping ") == 1
    assert "Traceback" not in worker.text


async def test_the_third_ctrl_c_ends_several_processes_there_and_then(producer, start):
    job = await producer.enqueue(Call("stubborn"))
    worker = await start("--processes", "2", "--shutdown-grace", "60", terminal=True)
    await worker.shows("begun\n")
    worker.press(CTRL_C)
    await worker.shows("Ctrl-C again gives back")
    worker.press(CTRL_C)
    await worker.shows("cancelled")
    worker.press(CTRL_C)
    assert await worker.ends() == 130
    assert (await job.status()).value == "running", "its lease runs out"


async def test_a_terminal_that_is_closed_stops_several_processes_and_is_no_reload(producer, start):
    job = await producer.enqueue(Call("until_told"))
    log = ("--log-file", "log.jsonl")
    worker = await start("--processes", "2", "--shutdown-grace", "60", *log, terminal=True)
    await worker.shows("begun\n")
    worker.close_terminal()
    worker.process.send_signal(signal.SIGHUP)  # the shell passes it on, too
    worker.let_jobs_end()
    assert await job.result(timeout=30) == 1
    async with asyncio.timeout(30):
        assert await worker.process.wait() == 0
    assert "reload" not in read(worker.folder / "log.jsonl")
