"""Testing tasks: a sandbox in this process, whose worker runs when it is told to and whose clock jumps."""

import asyncio
import itertools
import os
import re
import subprocess
import sys
import textwrap
import time
from datetime import timedelta
from pathlib import Path

import pytest

from common import Context, RateLimit, RetryPolicy, every, fixed, lifespan, task
from common.errors import ConfigurationError, TaskFailed
from producer import BlockingProducer, Producer
from workers.testing import Ran, Sandbox

HOUR = 3600


@task
async def double(ctx: Context, n: int) -> int:
    return 2 * n


@task(retry=RetryPolicy(max_attempts=5, backoff=fixed(6 * HOUR), jitter="none"))
async def stubborn(ctx: Context, succeeds_at: int) -> int:
    if ctx.attempt < succeeds_at:
        raise ConnectionError("not yet")
    return ctx.attempt


async def test_a_job_runs_when_the_test_says_so():
    async with Sandbox([double]) as sandbox:
        job = await sandbox.enqueue(double(21))
        assert [info.arguments for info in await sandbox.waiting(double)] == [(21,)]
        assert await sandbox.run() == Ran(succeeded=1, retried=0, failed=0)
        assert await job.result(timeout=10) == 42
        assert await sandbox.waiting() == []


async def test_time_is_moved_ahead():
    async with Sandbox([double]) as sandbox:
        began = sandbox.now
        job = await sandbox.enqueue(double(1), delay=HOUR)
        assert (await sandbox.run()).attempts == 0
        assert (await sandbox.advance(minutes=59)).attempts == 0
        assert (await sandbox.advance(timedelta(minutes=1))).succeeded == 1
        assert await job.result(timeout=10) == 2
        assert timedelta(hours=1) <= sandbox.now - began < timedelta(hours=1, minutes=1)


async def test_a_day_of_retries_takes_no_time():
    async with Sandbox([stubborn]) as sandbox:
        job = await sandbox.enqueue(stubborn(5))
        assert await sandbox.advance(hours=23) == Ran(succeeded=0, retried=4, failed=0)
        assert await sandbox.advance(hours=2) == Ran(succeeded=1, retried=0, failed=0)
        assert await job.result(timeout=10) == 5


async def test_everything_is_run_to_its_end():
    async with Sandbox([double, stubborn]) as sandbox:
        await sandbox.enqueue(stubborn(3))
        await sandbox.enqueue(double(1), delay=10 * 24 * HOUR)
        assert await sandbox.drain() == Ran(succeeded=2, retried=2, failed=0)


async def test_one_call_is_run_to_its_end():
    async with Sandbox([stubborn]) as sandbox:
        assert await sandbox.call(stubborn(4)) == 4
        with pytest.raises(TaskFailed, match="not yet"):
            await sandbox.call(stubborn(9))


@every(HOUR)
@task(name="hourly")
async def hourly(ctx: Context) -> None:
    ticks.append(time.time())


ticks: list[float] = []


async def test_schedules_tick_as_time_passes():
    ticks.clear()
    async with Sandbox([hourly]) as sandbox:
        began = sandbox.now.timestamp()
        assert (await sandbox.advance(days=1)).succeeded in {24, 25}
    assert all(0 < later - before - HOUR + 60 < 120 for before, later in itertools.pairwise(ticks))
    assert began < ticks[0] <= began + HOUR + 60


@task(limits=[RateLimit(1, per=HOUR)])
async def limited(ctx: Context, n: int) -> int:
    order.append(n)
    return n


order: list[int] = []


async def test_limits_hold_back_until_their_time():
    order.clear()
    async with Sandbox([limited]) as sandbox:
        for n in range(4):
            await sandbox.enqueue(limited(n))
        assert (await sandbox.run()).succeeded == 1
        assert (await sandbox.advance(hours=1, minutes=5)).succeeded == 1
        assert (await sandbox.drain()).succeeded == 2
    assert order == [0, 1, 2, 3]


async def test_code_under_test_opens_producers_of_its_own():
    async def handler() -> str:
        async with Producer() as producer:
            return (await producer.enqueue(double(4))).job_id

    async with Sandbox([double]) as sandbox:
        job_id = await handler()
        assert [info.job_id for info in await sandbox.waiting()] == [job_id]
        await sandbox.run()
        assert await sandbox.producer.job(job_id).result(timeout=10) == 8


async def test_synchronous_code_does_too():
    def view() -> str:
        with BlockingProducer() as producer:
            return producer.enqueue(double(4)).job_id

    async with Sandbox([double]) as sandbox:
        job_id = await asyncio.to_thread(view)
        assert (await sandbox.run()).succeeded == 1
        assert await sandbox.producer.job(job_id).result(timeout=10) == 8


async def test_a_worker_runs_beside_code_that_waits_for_results():
    async with Sandbox([double]) as sandbox, sandbox.working():
        job = await sandbox.enqueue(double(3))
        assert await job.result(timeout=30) == 6
        assert await sandbox.producer.gather(double(1), double(2), timeout=30) == [2, 4]


@lifespan
async def mailer():
    raise AssertionError("a stand-in is not opened")
    yield


@task
async def mail(ctx: Context, to: str) -> None:
    ctx[mailer].append(to)


async def test_resources_have_stand_ins():
    sent: list[str] = []
    async with Sandbox([mail], resources={mailer: sent}) as sandbox:
        await sandbox.enqueue(mail("ann"))
        await sandbox.run()
    assert sent == ["ann"]


@lifespan
async def opened_for_real():
    events.append("opened")
    yield "it"
    events.append("closed")


events: list[str] = []


@task
async def uses_it(ctx: Context) -> str:
    return ctx[opened_for_real]


async def test_or_are_opened_once_and_closed_at_the_end():
    events.clear()
    async with Sandbox([uses_it], lifespans=[opened_for_real]) as sandbox:
        assert [await sandbox.call(uses_it()) for _ in range(3)] == ["it"] * 3
        assert events == ["opened"]
    assert events == ["opened", "closed"]


async def test_a_task_that_enqueues_another_has_it_run():
    @task(name="first_of_two")
    async def first(ctx: Context) -> None:
        async with Producer() as producer:
            await producer.enqueue(double(5))

    async with Sandbox([first, double]) as sandbox:
        await sandbox.enqueue(first())
        assert (await sandbox.run()).succeeded == 2


async def test_what_is_paused_is_left_alone():
    async with Sandbox([double]) as sandbox:
        await sandbox.producer.pause(queue=sandbox.queues[0])
        await sandbox.enqueue(double(1))
        assert (await sandbox.advance(hours=1)).attempts == 0
        with pytest.raises(ConfigurationError, match="paused"):
            await sandbox.call(double(2))
        await sandbox.producer.resume(queue=sandbox.queues[0])
        assert (await sandbox.drain()).succeeded == 2


async def test_sandboxes_know_nothing_of_each_other():
    async with Sandbox([double]) as sandbox:
        await sandbox.enqueue(double(1))
        with pytest.raises(ConfigurationError, match="there is a Sandbox already"):
            await Sandbox([double]).__aenter__()
    async with Sandbox([double]) as sandbox:
        assert await sandbox.waiting() == []


async def test_nothing_is_left_of_it(monkeypatch):
    monkeypatch.delenv("BARQUE_REDIS_URL", raising=False)
    clock = time.time, time.time_ns
    async with Sandbox([double]) as sandbox:
        await sandbox.advance(days=3)
        assert os.environ["BARQUE_REDIS_URL"] == sandbox.url
        assert time.time() - clock[0]() == pytest.approx(3 * 24 * HOUR, abs=60)
    assert (time.time, time.time_ns) == clock
    assert "BARQUE_REDIS_URL" not in os.environ
    with pytest.raises(ConfigurationError, match="not open"):
        await sandbox.run()


@task
async def hangs(ctx: Context) -> None:
    await asyncio.Event().wait()


async def test_a_task_that_hangs_is_named():
    async with Sandbox([hangs], patience=2) as sandbox:
        await sandbox.enqueue(hangs())
        with pytest.raises(TimeoutError, match="still runs: hangs"):
            await sandbox.run()


async def test_time_does_not_go_back():
    async with Sandbox([double]) as sandbox:
        with pytest.raises(ConfigurationError, match="go back"):
            await sandbox.advance(-1)


A_USERS_TESTS = """
    import pytest
    from common import Context, task

    @task
    async def welcome(ctx: Context, name: str) -> str:
        return f"hello {name}"

    async def test_it(barque_sandbox, barque_producer, barque_jobs, barque_drain):
        job = await barque_producer.enqueue(welcome("ann"), delay=60)
        assert [info.arguments for info in await barque_jobs(welcome)] == [("ann",)]
        assert (await barque_drain()).succeeded == 1
        assert await job.result(timeout=10) == "hello ann"

    async def test_beside_a_worker(barque_worker, barque_producer):
        assert await (await barque_producer.enqueue(welcome("bob"))).result(timeout=30) == "hello bob"

    @pytest.mark.barque(tasks=[welcome], queues=["low"])
    async def test_with_a_mark(barque_sandbox):
        assert barque_sandbox.queues[-1] == "low"
"""


def test_pytest_has_fixtures_and_the_page_is_right(tmp_path):
    (tmp_path / "test_users.py").write_text(textwrap.dedent(A_USERS_TESTS))
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text("utf-8")
    (tmp_path / "test_page.py").write_text(
        "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    )
    # By name, not by entry point: whoever changed pyproject.toml may not have installed it anew.
    words = ["-q", "-p", "pytest_asyncio.plugin", "-p", "pytest_barque", "--strict-markers", "-W", "error"]
    words += [
        "-o",
        "asyncio_mode=auto",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        "--rootdir",
        str(tmp_path),
    ]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "6 passed" in ran.stdout


def test_a_project_with_workers_of_its_own_tests_as_it_did(tmp_path):
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").write_text("hands = 2\n")
    (tmp_path / "test_theirs.py").write_text("import workers\n\n\ndef test_hands():\n    assert workers.hands == 2\n")
    (tmp_path / "test_ours.py").write_text("async def test_a_job(barque_sandbox): ...\n")
    words = ["-q", "-p", "pytest_asyncio.plugin", "-p", "pytest_barque", "-o", "asyncio_mode=auto"]
    words += ["-o", "asyncio_default_fixture_loop_scope=function", "--rootdir", str(tmp_path), str(tmp_path)]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert "1 passed, 1 error" in ran.stdout, ran.stdout + ran.stderr
    assert f"`workers` is {tmp_path}/workers/__init__.py here, which is not Barque's" in ran.stdout
