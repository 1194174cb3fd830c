"""`barque health`, with real workers: asked at their pages, looked up in Redis, and one that hangs."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cli.probing import Found, probe
from common import NEVER, Context, task
from common.redis import keys
from common.redis.inspect import WorkerReport
from tests.support.fleet import start_workers
from tests.support.running import producer, run_worker

__all__ = ["producer", "run_worker", "start_workers"]

ROOT = Path(__file__).parents[2]
HOST = os.uname().nodename

pytestmark = pytest.mark.leaves_keys("arq:result:*")


@task(retry=NEVER)
async def idle(ctx: Context) -> None:
    pass


IDLE = """
@task(retry=NEVER)
async def idle(ctx: Context) -> None:
    pass
"""


@pytest.fixture
def ask(redis_url, monkeypatch):
    monkeypatch.setenv("BARQUE_REDIS_URL", redis_url)

    async def probed(*, pid: int | None = None, seconds: float = 30.0) -> Found:
        return await asyncio.to_thread(probe, pid=pid, seconds=seconds)

    return probed


async def until(ask, holds, **how) -> Found:
    async with asyncio.timeout(30):
        while not holds(found := await ask(**how)):
            await asyncio.sleep(0.01)
    return found


def command(redis_url: str, *more: str, **settings: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
    return subprocess.run(
        [sys.executable, "-m", "cli", "health", *more],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env=kept | {"BARQUE_REDIS_URL": redis_url} | settings,
    )  # fmt: skip


async def test_without_a_page_it_is_the_report_that_tells(run_worker, ask):
    worker = await run_worker(idle)
    found = await until(ask, lambda found: found.is_well(ready=True, at_least=1))
    assert [(known.name, known.pid, known.alive) for known in found.workers] == [(worker.worker_id, os.getpid(), True)]
    assert found.is_well(ready=True, at_least=1)
    assert not found.is_well(ready=True, at_least=2)
    assert (await ask(pid=os.getpid())).workers == found.workers
    other = await ask(pid=os.getpid() + 1)
    assert other.trouble.startswith(f"no worker process {os.getpid() + 1} on {HOST} has reported")


async def test_a_report_says_why_its_worker_is_not_ready(run_worker, ask, producer):
    await producer.pause(queue="arq:queue", by="ada@ops")
    await run_worker(idle)
    found = await until(ask, lambda found: found.workers and "paused" in found.workers[0].reasons)
    assert found.is_well(ready=False, at_least=1)
    assert not found.is_well(ready=True, at_least=1)
    assert "arq:queue (by ada@ops)" in found.workers[0].reasons["paused"]
    await producer.resume(queue="arq:queue")


async def test_workers_of_other_hosts_are_not_this_ones(ask, redis):
    report = WorkerReport("far-1-abc", "far", 1, "1", ("arq:queue",), 100, 0, 0)
    await redis.set(keys.worker("far-1-abc"), msgspec.json.encode(report))
    await redis.zadd(keys.WORKERS, {"far-1-abc": 9e15})
    found = await ask()
    assert not found.is_well(ready=False, at_least=1)
    assert found.trouble == f"no worker on {HOST} has reported within 15 s; 1 on other hosts have"
    await redis.delete(keys.worker("far-1-abc"), keys.WORKERS)


async def test_a_server_that_is_away_is_no_reason_to_restart_a_worker(ask, monkeypatch):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        monkeypatch.setenv("BARQUE_REDIS_URL", f"redis://:secret@127.0.0.1:{one.getsockname()[1]}/0")
        found = await ask()
    assert found.is_well(ready=False, at_least=1)
    assert not found.is_well(ready=True, at_least=1)
    assert "a restart of theirs would not help" in found.trouble
    assert "secret" not in found.trouble


async def test_one_that_gives_no_answer_neither(ask, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("BARQUE_REDIS_URL", f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        found = await ask(seconds=0.2)
    assert found.unknown
    assert "gave no answer within 0.2 s" in found.trouble


async def test_a_worker_that_hangs_is_told_from_its_neighbour(start_workers, ask, monkeypatch, tmp_path):
    workers = await start_workers(2, IDLE, metrics_port="0", concurrency=2)
    lines = [json.loads(line) for line in (tmp_path / "workers.log").read_text().splitlines()]
    by_port = {int(re.search(r":(\d+)/", line["url"])[1]) for line in lines if line["event"] == "worker_metrics"}
    found = {}
    for port in by_port:
        monkeypatch.setenv("BARQUE_METRICS_PORT", str(port))
        (known,) = (await until(ask, lambda found: found.is_well(ready=True, at_least=1))).workers
        found[known.pid] = port
    assert set(found) == {worker.pid for worker in workers}
    hung, well = workers
    hung.send_signal(signal.SIGSTOP)
    try:
        monkeypatch.setenv("BARQUE_METRICS_PORT", str(found[hung.pid]))
        assert not (await ask(seconds=0.3)).is_well(ready=False, at_least=1)
        monkeypatch.setenv("BARQUE_METRICS_PORT", str(found[well.pid]))
        assert (await ask()).is_well(ready=True, at_least=1)
    finally:
        hung.send_signal(signal.SIGCONT)
    monkeypatch.setenv("BARQUE_METRICS_PORT", str(found[hung.pid]))
    await until(ask, lambda found: found.is_well(ready=True, at_least=1))


async def test_it_is_an_exit_code_a_line_and_a_document(run_worker, ask, redis_url):
    worker = await run_worker(idle)
    await until(ask, lambda found: found.is_well(ready=True, at_least=1))
    well = await asyncio.to_thread(command, redis_url, "--ready")
    assert (well.returncode, well.stdout, well.stderr) == (0, f"{worker.worker_id}: alive, ready\n", "")
    missing = await asyncio.to_thread(command, redis_url, "--json", "--at-least", "2")
    assert missing.returncode == 1
    document = json.loads(missing.stdout)
    assert (document["well"], document["asked"]) == (False, "live")
    assert document["workers"][0]["pid"] == os.getpid()
