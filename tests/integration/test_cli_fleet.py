"""`barque top`, `tail`, `workers` and `queues` as programs: a real server, real workers, and for top a terminal."""

import asyncio
import errno
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios

import pytest
from typer.testing import CliRunner

from cli.main import app
from common import Call
from common.errors import RedisUnavailable
from tests.integration.test_cli import ROOT, barque, end, worker
from tests.support.running import producer
from tests.support.tls import free_port

__all__ = ["barque", "producer"]

pytestmark = pytest.mark.leaves_keys(
    "arq:*", "barque:wake:*", "barque:waiters", "barque:workers", "barque:worker:*", "barque:paused"
)


async def jobs_until(enough: asyncio.Event, producer) -> None:
    while not enough.is_set():
        await producer.gather(*(Call("cli_echo", n) for n in range(5)))
        await (await producer.enqueue(Call("cli_fail"))).wait(timeout=30)
        await asyncio.sleep(0.05)  # as many as a worker tells of, and time for the commands


@pytest.fixture
async def busy(redis_url, producer):
    """A worker that has something to do."""
    async with worker(redis_url) as running:
        enough = asyncio.Event()
        working = asyncio.create_task(jobs_until(enough, producer))
        yield running
        enough.set()
        await working


@pytest.fixture
def invoke(redis_url, monkeypatch):
    """Run a command in this process, in a thread: a process takes longer than all it does here."""
    monkeypatch.setenv("COLUMNS", "80")

    async def invoke(*arguments: str):
        return await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--redis-url", redis_url])

    return invoke


async def test_where_no_worker_lives_workers_fails_and_the_others_say_so(invoke):
    listed, as_json = await invoke("workers"), await invoke("workers", "--json")
    assert (listed.exit_code, listed.stdout, "barque worker" in listed.stderr) == (1, "", True)
    assert (as_json.exit_code, as_json.stdout) == (1, "[]\n")
    (queue,) = json.loads((await invoke("queues", "--json")).stdout)
    assert (queue["queue"], queue["queued"], queue["workers"]) == ("arq:queue", 0, [])
    top = await invoke("top", "--once")
    assert (top.exit_code, "No worker is alive" in top.stdout) == (0, True)


@pytest.mark.parametrize("command", [("workers",), ("queues",), ("top", "--once"), ("tail",)])
async def test_all_of_them_name_a_server_that_is_not_there(command):
    url = f"redis://127.0.0.1:{free_port()}/0"
    ended = await asyncio.to_thread(CliRunner().invoke, app, [*command, "--redis-url", url])
    assert isinstance(ended.exception, RedisUnavailable)
    assert (ended.stdout, str(ended.exception).startswith(f"Redis at {url}: connection refused")) == ("", True)


async def test_one_look_at_a_busy_fleet(invoke, busy, producer):
    await producer.pause(queue="low", reason="why not")
    tasks = {}
    async with asyncio.timeout(60):
        while tasks.keys() != {"cli_echo", "cli_fail"}:  # a slow machine may do neither in a second
            document = json.loads((await invoke("top", "--json")).stdout)
            tasks = {task["task"]: task for task in document["tasks"]}
    assert document["observed"] is True
    assert document["per_second"]["ended"] > 0
    assert document["workers"][0]["worker"] == busy.worker_id
    assert tasks["cli_echo"]["run"]["p95"] > 0
    assert tasks["cli_fail"]["outcomes"].keys() == {"failed"}
    assert document["failures"][0]["error"] == "ValueError: \x1b[31mno [bold]way[/bold]"
    assert {one["queue"]: one["paused"] is not None for one in document["queues"]} == {"arq:queue": False, "low": True}


async def test_where_stdout_is_no_terminal_top_prints_one_look(invoke, busy):
    async with asyncio.timeout(30):
        while (await invoke("workers")).exit_code:  # until it has said that it lives
            pass
    top = await invoke("top")
    assert (top.exit_code, top.stderr) == (0, "")
    assert "WORKERS 1" in top.stdout
    assert max(map(len, top.stdout.splitlines())) <= 80
    assert "\x1b" not in top.stdout


async def test_a_worker_that_is_named_tells_what_it_does_now(invoke, busy, producer):
    await producer.pause(queue="low", reason="why not")
    named, unknown = await invoke("workers", busy.worker_id[:6]), await invoke("workers", "no-such")
    assert (named.exit_code, busy.worker_id in named.stdout, "\x1b" in named.stdout) == (0, True, False)
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert "low is paused" in (await invoke("queues")).stdout


async def test_tail_shows_what_was_asked_for_and_ends(invoke, busy):
    lines = await invoke("tail", "--failed", "-n", "2")
    assert (lines.exit_code, lines.stderr, lines.stdout.count("\n")) == (0, "", 2)
    first = lines.stdout.split("\n")[0]
    assert re.fullmatch(r"\d\d:\d\d:\d\d failed +\S+ cli_fail \w{20} ValueError: \\x1b\[31mno .*", first)
    documents = await invoke("tail", "--task", "cli_e*", "--count", "3", "--json")
    assert documents.stdout.count('"task": "cli_echo"') == documents.stdout.count("\n") == 3


async def test_tail_ends_with_ctrl_c_or_when_nobody_reads_any_more(barque, busy):
    interrupted, unread = await barque("tail"), await barque("tail")
    for process in (interrupted, unread):
        await asyncio.wait_for(process.stdout.readline(), 30)
    interrupted.send_signal(signal.SIGINT)
    unread._transport.get_pipe_transport(1).close()
    ended = await end(interrupted)
    assert (ended.code, ended.err) == (130, "")
    assert await asyncio.wait_for(unread.wait(), 30) == 0
    assert await unread.stderr.read() == b""


class Terminal:
    """A terminal of this many columns and lines, with a command in it."""

    def __init__(self, redis_url: str, *arguments: str, size=(80, 24), **environment: str) -> None:
        self.written = b""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
        known = {"PYTHONPATH": str(ROOT), "BARQUE_REDIS_URL": redis_url, "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
            kept.pop(name, None)
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self._environment = kept | known | environment
        self._arguments = arguments

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", *self._arguments, stdin=self._theirs, stdout=self._theirs,
            stderr=self._theirs, env=self._environment,
        )  # fmt: skip
        os.set_blocking(self.ours, False)
        asyncio.get_running_loop().add_reader(self.ours, self._read)
        return self

    async def __aexit__(self, *_) -> None:
        asyncio.get_running_loop().remove_reader(self.ours)
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        os.close(self.ours)
        os.close(self._theirs)

    def _read(self) -> None:
        try:
            self.written += os.read(self.ours, 65536)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EIO}:
                raise

    def press(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    async def shows(self, pattern: bytes) -> None:
        """Wait until this has been written since the last call."""
        async with asyncio.timeout(30):
            while re.search(pattern, self.written) is None:
                await asyncio.sleep(0.01)
        self.written = b""

    async def ends(self) -> int:
        code = await asyncio.wait_for(self.process.wait(), 30)
        self._read()
        return code

    @property
    def is_as_before(self) -> bool:
        return termios.tcgetattr(self._theirs) == self.before


async def test_top_on_a_terminal_obeys_keys_and_gives_it_back(redis_url, busy):
    async with Terminal(redis_url, "top", "--every", "0.2") as terminal:
        await terminal.shows(rb"\x1b\[\?1049h")
        await terminal.shows(rb"TASKS")
        assert not terminal.is_as_before
        terminal.press("s")
        await terminal.shows(rb"sort: p95")
        terminal.press("\t")
        await terminal.shows(rb"Tab queues")
        terminal.press("3")
        await terminal.shows(rb"Tab tasks")
        terminal.press("?")
        await terminal.shows(rb"Rates and percentiles")
        terminal.press("x ")
        await terminal.shows(rb"Space go on")
        terminal.press("q")
        assert await terminal.ends() == 0
        assert b"\x1b[?1049l" in terminal.written
        assert terminal.is_as_before


async def test_top_gives_the_terminal_back_whatever_ends_it(redis_url, busy):
    def terminal() -> Terminal:
        return Terminal(redis_url, "top", size=(40, 8), NO_COLOR="1")

    async with terminal() as interrupted, terminal() as terminated:
        for one, number, code in ((interrupted, signal.SIGINT, 130), (terminated, signal.SIGTERM, 0)):
            await one.shows(rb"q end")
            one.process.send_signal(number)
            assert await one.ends() == code
            assert re.search(rb"\x1b\[3\dm", one.written) is None
            assert one.is_as_before
