"""`barque worker --processes`: real processes under a real supervisor, while jobs run."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli.fleet_reading import read_targets
from cli.probing import probe
from common import Call
from common.settings import Settings
from tests.support.fleet import RECORD, ran
from tests.support.running import producer

__all__ = ["producer"]

# A process that is killed leaves its report to run out.
pytestmark = pytest.mark.leaves_keys("arq:result:*", "test:notes", "barque:worker:*", "barque:workers")

ROOT = Path(__file__).parents[2]

TASKS = (
    RECORD
    + """
import os, time

@task(retry=NEVER)
async def whose(ctx: Context, number: int, seconds: float = 0.0) -> list[int]:
    await note(ctx, "start", number)
    await asyncio.sleep(seconds)
    return [os.getpid(), ctx.attempt]

@task(retry=RetryPolicy(max_attempts=5))
async def again(ctx: Context, number: int, seconds: float) -> list[int]:
    await note(ctx, "start", number)
    await asyncio.sleep(seconds)
    return [os.getpid(), ctx.attempt]

@task(retry=RetryPolicy(max_attempts=5))
async def blocks(ctx: Context) -> int:
    if ctx.attempt == 1:
        time.sleep(3600)
    return ctx.attempt

@task(retry=NEVER)
async def cores(ctx: Context) -> int:
    return len(os.sched_getaffinity(0))
"""
)


class Supervised:
    """A supervisor, and what it and its processes have logged so far."""

    def __init__(self, popen: subprocess.Popen, log: Path) -> None:
        self.popen = popen
        self._log = log

    def lines(self, event: str) -> list[dict]:
        whole = self._log.read_text().rpartition("\n")[0]  # the last line may be in the middle of being written
        found = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    async def logs(self, event: str, times: int = 1) -> list[dict]:
        async with asyncio.timeout(60):
            while len(found := self.lines(event)) < times:
                assert self.popen.poll() is None, self._log.read_text()
                await asyncio.sleep(0.02)
        return found

    async def ends(self) -> int:
        return await asyncio.to_thread(self.popen.wait, 60)

    def pids(self) -> set[int]:
        """Return the processes that have been started and have not ended."""
        ended = {line["pid"] for name in ("ended", "died") for line in self.lines(f"worker_process_{name}")}
        return {line["pid"] for line in self.lines("worker_process_started")} - ended

    def page(self, path: str) -> str:
        url = self.lines("worker_metrics")[0]["url"].replace("/metrics", path)
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read().decode()


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def gone(pids: set[int]) -> None:
    async with asyncio.timeout(60):
        while any(map(lives, pids)):
            await asyncio.sleep(0.02)


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """The socket that a service tells how it stands."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


@pytest.fixture
def supervise(redis_url, tmp_path):
    started: list[Supervised] = []

    def start(*options: str, tasks: str = TASKS, **settings: object) -> Supervised:
        (tmp_path / "supervised_tasks.py").write_text(tasks)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
        defaults = {"BARQUE_TASKS": "supervised_tasks", "BARQUE_REDIS_URL": redis_url, "BARQUE_KEEP_RESULT": "60"}
        given = {f"BARQUE_{name.upper()}": str(value) for name, value in settings.items()}
        path = os.pathsep.join([str(tmp_path), str(ROOT)])
        with (tmp_path / "log").open("wb") as log, (tmp_path / "out").open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, "-m", "cli", "worker", "--log-format", "json", *options],
                cwd=tmp_path, stdout=out, stderr=log, env=kept | {"PYTHONPATH": path} | defaults | given,
            )  # fmt: skip
        started.append(Supervised(popen, tmp_path / "log"))
        return started[-1]

    yield start
    for one in started:
        left = one.pids()
        one.popen.kill()
        one.popen.wait()
        for pid in filter(lives, left):
            os.kill(pid, signal.SIGKILL)


def counted(page: str) -> Counter:
    found: Counter = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = (sample.labels.get(name) for name in ("task", "outcome", "le", "state"))
            found[sample.name, *filter(None, labels)] += sample.value
    return found


async def attempts(supervised: Supervised, at_least: int) -> Counter:
    """Return the figures once so many attempts are in them: a batch is counted after its results are there."""
    async with asyncio.timeout(30):
        while True:
            found = counted(await asyncio.to_thread(supervised.page, "/metrics"))
            if found["barque_attempts_total", "whose", "succeeded"] >= at_least:
                return found
            await asyncio.sleep(0.02)


async def test_all_are_replaced_while_jobs_run_none_is_run_twice_and_one_page_counts_them(
    systemd, supervise, producer, redis, redis_url, monkeypatch
):
    supervised = supervise("--processes", "2", metrics_port=0, concurrency=20)
    await supervised.logs("worker_process_ready", 2)
    before = supervised.pids()

    jobs = await producer.enqueue_many(Call("whose", n, seconds=0.5) for n in range(60))
    first = await attempts(supervised, 1)
    supervised.popen.send_signal(signal.SIGHUP)
    while not supervised.lines("reload_done"):
        jobs += await producer.enqueue_many(Call("whose", n, seconds=0.1) for n in range(len(jobs), len(jobs) + 5))
        await asyncio.sleep(0.1)
    after = supervised.pids()
    assert len(after) == 2
    assert not after & before, "each is another process now"
    jobs += await producer.enqueue_many(Call("whose", n) for n in range(len(jobs), len(jobs) + 20))
    results = [await job.result(timeout=60) for job in jobs]
    assert {attempt for _, attempt in results} == {1}
    assert {pid for pid, _ in results} & before
    assert {pid for pid, _ in results} & after
    assert sorted(line.number for line in await ran(redis)) == list(range(len(jobs))), "none was begun twice"

    found = await attempts(supervised, len(jobs))
    assert found["barque_attempts_total", "whose", "succeeded"] == len(jobs)
    assert (
        found["barque_run_seconds_count", "whose"] == found["barque_run_seconds_bucket", "whose", "+Inf"] == len(jobs)
    )
    # A process that is replaced may have been given jobs as it stopped, and gives them back: those are claimed twice.
    assert found["barque_complete_outcomes_sum",] == found["barque_claim_jobs_sum",] >= len(jobs)
    assert all(found[name] >= first[name] for name in first if name[0].endswith(("_total", "_count")))
    assert (found["barque_concurrency",], found["barque_ready",]) == (40, 1)
    assert found["barque_worker_processes", "ready"] == 2

    host, port = supervised.lines("worker_metrics")[0]["url"].removeprefix("http://").split("/")[0].split(":")
    monkeypatch.setenv("BARQUE_METRICS_PORT", port)
    for pid in (None, supervised.popen.pid):
        well = await asyncio.to_thread(probe, pid=pid, seconds=30.0)
        assert well.is_well(ready=True, at_least=2)
        assert {worker.pid for worker in well.workers} == after
    one = min(after)
    assert [worker.pid for worker in (await asyncio.to_thread(probe, pid=one, seconds=30.0)).workers] == [one]
    monkeypatch.delenv("BARQUE_METRICS_PORT")
    async with asyncio.timeout(30):  # until each has reported
        while (found := await asyncio.to_thread(read_targets, Settings(redis_url=redis_url))) == b"[]\n":
            await asyncio.sleep(0.1)
    assert [group["targets"] for group in json.loads(found)] == [[f"{host}:{port}"]], "scraped once"

    supervised.popen.terminate()
    assert await supervised.ends() == 0
    assert not any(map(lives, after))
    assert supervised.lines("supervisor_stopped")[0]["succeeded"] == len(jobs)
    words = [systemd.recv(1000).split(b"=")[0] for _ in range(4)]
    assert words == [b"READY", b"RELOADING", b"READY", b"STOPPING"]
    with pytest.raises(BlockingIOError):
        systemd.recv(1000)


async def test_a_process_that_is_killed_loses_nothing_and_one_that_does_not_start_replaces_none(
    supervise, producer, redis, tmp_path
):
    supervised = supervise("--processes", "2", lease=1, concurrency=20, shutdown_grace=30)
    await supervised.logs("worker_process_ready", 2)
    victim, other = sorted(supervised.pids())
    jobs = await producer.enqueue_many(Call("again", n, 0.3) for n in range(100))
    async with asyncio.timeout(30):
        while len(await ran(redis)) < 30:
            await asyncio.sleep(0.01)
    os.kill(victim, signal.SIGKILL)
    died = (await supervised.logs("worker_process_died"))[0]
    assert (died["pid"], died["how"]) == (victim, "killed by SIGKILL")
    results = [await job.result(timeout=60) for job in jobs]
    assert len(results) == 100
    assert {line.number for line in await ran(redis)} == set(range(100))
    await supervised.logs("worker_process_ready", 3)

    (tmp_path / "supervised_tasks.py").write_text("def broken(:\n")
    supervised.popen.send_signal(signal.SIGHUP)
    stopped = (await supervised.logs("reload_stopped"))[0]
    assert (stopped["error"], stopped["replaced"], stopped["left"]) == ("exit code 2", 0, 2)
    pids = supervised.pids()
    assert other in pids
    assert (await (await producer.enqueue(Call("whose", 100))).result(timeout=60))[0] in pids

    # The supervisor itself is killed: its processes let their jobs end, and go.
    last = await producer.enqueue(Call("whose", 101, seconds=1.0))
    async with asyncio.timeout(30):
        while (await ran(redis))[-1].number != 101:
            await asyncio.sleep(0.01)
    supervised.popen.kill()
    assert (await last.result(timeout=60))[1] == 1
    await gone(pids)
    assert len(supervised.lines("supervisor_gone")) == 2
    assert len(supervised.lines("worker_stopped")) == 2


async def test_a_process_that_has_had_its_jobs_is_replaced_and_none_of_them_is_run_twice(supervise, producer, redis):
    supervised = supervise("--processes", "1", "--max-jobs", "10")
    await supervised.logs("worker_process_ready")
    # The first runs on while another process takes over.
    jobs = await producer.enqueue_many(Call("whose", n, seconds=0.0 if n else 2.0) for n in range(11))
    started = await supervised.logs("worker_process_started", 2)
    assert "BARQUE_MAX_JOBS" in started[1]["why"]
    await supervised.logs("worker_process_ended")
    jobs += await producer.enqueue_many(Call("whose", n) for n in range(11, 15))
    results = [await job.result(timeout=60) for job in jobs]
    first, second = (line["pid"] for line in started)
    assert results == [[first, 1]] * 11 + [[second, 1]] * 4
    assert len(await ran(redis)) == 15
    assert not supervised.lines("worker_process_died")
    supervised.popen.send_signal(signal.SIGINT)
    assert await supervised.ends() == 0


async def test_a_process_that_hangs_is_ended_and_its_job_runs_again(supervise, producer):
    supervised = supervise("--max-jobs", "1000", block_limit=1, lease=1, metrics_port=0)
    await supervised.logs("worker_process_ready")
    job = await producer.enqueue(Call("blocks"))
    hung = (await supervised.logs("worker_process_hung"))[0]
    assert "event_loop_blocked" in hung["why"]
    assert await job.result(timeout=60) == 2
    found = counted(await asyncio.to_thread(supervised.page, "/metrics"))
    assert found["barque_worker_process_kills_total",] == found["barque_worker_process_deaths_total",] == 1
    supervised.popen.terminate()
    assert await supervised.ends() == 0


async def test_a_burst_ends_when_all_have_and_the_counts_are_added_up(supervise, producer, tmp_path):
    jobs = await producer.enqueue_many(Call("whose", n, seconds=0.05) for n in range(40))
    pinned = [await producer.enqueue(Call("cores")) for _ in range(2)]
    options = ["--cpu-affinity"] if hasattr(os, "sched_setaffinity") else []
    supervised = supervise("--processes", "2", "--burst", "--json", *options, concurrency=1)
    assert await supervised.ends() == 0
    assert {(await job.result(timeout=60))[1] for job in jobs} == {1}
    if options:
        assert [await job.result(timeout=60) for job in pinned] == [1, 1]
    counts = json.loads((tmp_path / "out").read_text())
    assert counts == {"succeeded": 42, "retried": 0, "failed": 0}


async def test_tasks_that_are_not_there_are_said_once_and_end_it(supervise, tmp_path):
    supervised = supervise("--processes", "3", "--tasks", "no_such_tasks")
    assert await supervised.ends() == 2
    (line,) = [line for line in (tmp_path / "log").read_text().splitlines() if "no_such_tasks" in line]
    assert line.startswith("barque: BARQUE_TASKS: ")
    assert len(supervised.lines("worker_process_started")) == 1


async def test_code_that_changes_is_run_and_code_that_is_broken_waits_for_the_next_change(
    supervise, producer, redis, tmp_path
):
    source = "from common import *\n@task(retry=NEVER)\nasync def version(ctx: Context) -> int:\n    return {}\n"
    tasks = tmp_path / "supervised_tasks.py"
    supervised = supervise("--reload", tasks=source.format(1))
    await supervised.logs("worker_process_ready")
    assert await (await producer.enqueue(Call("version"))).result(timeout=60) == 1

    async def change(text: str, event: str, times: int = 1) -> None:
        # The watch begins at some moment after the first process is ready; a file changes as often as it is written.
        async with asyncio.timeout(60):
            while len(supervised.lines(event)) < times:
                if not supervised.lines("code_changed") or tasks.read_text() != text:
                    tasks.write_text(text)
                await asyncio.sleep(0.2)

    await change(source.format(2), "worker_process_ready", 2)
    assert supervised.lines("code_changed")[0]["files"] == ["supervised_tasks.py"]
    await supervised.logs("worker_process_ended")
    assert await (await producer.enqueue(Call("version"))).result(timeout=60) == 2

    await change("def version(:\n", "code_does_not_start")
    assert "supervised_tasks" in (tmp_path / "log").read_text()
    assert supervised.popen.poll() is None
    ready = len(supervised.lines("worker_process_ready"))
    await change(source.format(3), "worker_process_ready", ready + 1)
    assert await (await producer.enqueue(Call("version"))).result(timeout=60) == 3
    supervised.popen.terminate()
    assert await supervised.ends() == 0
