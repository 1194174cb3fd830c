"""The driver of the chaos suite: what it starts it ends, whatever happens, and its exit code says how it went."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.driver.__main__ import main
from tests.chaos.driver.processes import ROOT, Process
from tests.chaos.driver.progress import quiet
from tests.chaos.driver.proxy import Proxy
from tests.chaos.driver.scenarios import SCENARIOS
from tests.chaos.driver.trial import ChaosError, Trial

ENDLESS = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


async def test_a_process_is_frozen_thawed_and_ended_though_frozen(tmp_path):
    process = Process("p", ENDLESS, folder=tmp_path, settings={})
    try:
        process.freeze()
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        process.thaw()
        os.waitid(os.P_PID, process.pid, os.WCONTINUED)
        assert process.exit_code is None
        assert not process.died
        process.freeze()
    finally:
        process.end()
    assert process.exit_code == -signal.SIGKILL
    process.end()  # twice does no harm


async def test_a_process_that_ends_unasked_has_died(tmp_path):
    process = Process("p", [sys.executable, "-c", "raise SystemExit('my last words')"], folder=tmp_path, settings={})
    try:
        process._process.wait(20)
        assert process.died
        assert "my last words" in process.last_words()
    finally:
        process.end()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a stranger's end by a pidfd: Linux")
def test_no_process_outlives_a_driver_that_is_killed(tmp_path):
    program = (
        "import sys, pathlib\n"
        "from tests.chaos.driver.processes import Process\n"
        "p = Process('p', [sys.executable, '-c', 'import time; time.sleep(600)'], "
        "folder=pathlib.Path(sys.argv[1]), settings={})\n"
        "p.freeze()\n"
        "print(p.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as driver:
        child = int(driver.stdout.readline())
        handle = os.pidfd_open(child)
        driver.kill()
    try:
        assert select.select([handle], [], [], 20)[0], "the frozen child lives on"
    finally:
        os.close(handle)


async def test_a_trial_that_fails_leaves_nothing_behind():
    trial = Trial("on_purpose", SCENARIOS["killed_workers"].short, progress=quiet)

    async def fail():
        async with trial:
            trial.start_worker(tasks="no_such_module")
            await trial.ready()

    with pytest.raises(ChaosError, match="worker1 ended by itself, code 2"):
        await fail()
    assert not trial._folder.exists()
    assert not trial.server.running


async def test_a_wait_in_vain_says_where_it_stands():
    plan = SCENARIOS["killed_workers"].short
    async with Trial("on_purpose", plan, progress=quiet) as trial:
        with pytest.raises(ChaosError, match="on_purpose: waited for a miracle, in vain; 0 acknowledged, 0 done"):
            await trial.until(lambda: False, "a miracle", patience=0)


async def test_the_proxy_passes_holds_back_and_cuts():
    async def shout(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy, asyncio.timeout(20):
        proxy.delay = 0.01
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"one\ntwo\n")
        assert await reader.readline() == b"ONE\n"
        assert await reader.readline() == b"TWO\n"
        proxy.go_deaf()
        writer.write(b"three\n")
        answer = asyncio.ensure_future(reader.readline())
        done, _ = await asyncio.wait({answer}, timeout=0.1)
        assert not done
        proxy.heal()
        assert await answer == b"THREE\n"
        proxy.cut()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


@pytest.mark.parametrize("words", [["no_such_scenario"], ["--jobs", "0"], ["--rounds", "-1"]])
def test_a_command_line_that_is_wrong(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "make chaos" in capsys.readouterr().err


def test_the_command_line_from_end_to_end(tmp_path, capsys):
    files = tmp_path / "new" / "verdict.json", tmp_path / "new" / "verdict.md"
    words = ["killed_server", "--short", "--jobs", "50", "--json", str(files[0]), "--markdown", str(files[1])]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "0 lost" in shown.out
    assert "killed_server: SIGKILL the server" in shown.err
    (verdict,) = json.loads(files[0].read_text())["verdicts"]
    assert verdict["ok"]
    assert verdict["acknowledged"] >= 50
    assert "| killed_server |" in files[1].read_text()


def test_a_server_that_cannot_be_started_is_exit_code_2(capsys):
    assert main(["killed_server", "--short", "--server", str(Path(__file__))]) == 2
    assert "is not a Valkey or Redis server" in capsys.readouterr().err
