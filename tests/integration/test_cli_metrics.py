"""`barque metrics`: the fleet as Prometheus reads it, once and served."""

import asyncio
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli.fleet_metrics import as_text
from cli.fleet_reading import read_fleet, read_targets
from common import NEVER, Call, CircuitBreaker, ConcurrencyLimit, Context, every, task
from common.redis import keys
from common.redis.schedules import ScheduleStore
from common.settings import Settings
from tests.support.running import producer, run_worker

__all__ = ["producer", "run_worker"]

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.leaves_keys("*")


@task(retry=NEVER)
async def idle(ctx: Context) -> None:
    pass


def samples(text: str) -> dict[tuple, float]:
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
async def backlog(producer):
    await producer.enqueue_many([Call("mail", n) for n in range(3)], queue="mails")
    await producer.enqueue(Call("mail", 4), queue="mails", delay=3600)


def command(redis_url: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "cli", "metrics", "--redis-url", redis_url, "--queues", "mails,empty", *more]


@pytest.mark.usefixtures("backlog")
def test_it_is_printed(redis_url):
    done = subprocess.run(command(redis_url), cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found = samples(done.stdout)
    assert found["barque_queue_jobs", "mails", "queued"] == 3
    assert found["barque_queue_jobs", "later", "mails"] == 1
    assert found["barque_queue_oldest_due_seconds", "mails"] >= 0
    assert found["barque_queue_jobs", "empty", "queued"] == 0
    assert found["barque_workers",] == found["barque_dead_letters",] == 0


@pytest.mark.usefixtures("backlog")
async def test_all_that_the_fleet_has_is_read(producer, run_worker, redis_url):
    began, go_on = asyncio.Event(), asyncio.Event()

    @task(retry=NEVER, queue="mails", limits=[ConcurrencyLimit(1, name="one"), CircuitBreaker(name="api")])
    async def hold(ctx: Context) -> None:
        began.set()
        await go_on.wait()

    await producer.pause(queue="empty")
    await producer.pause(task="mail")
    await producer.schedules.add("tidy", hold(), every(3600))
    jobs = await producer.enqueue_many([hold(), hold()])
    await run_worker(hold, queues=("mails",))
    await began.wait()
    settings = Settings(redis_url=redis_url, queues=("mails", "empty"))

    def read() -> dict[tuple, float]:
        return samples(as_text(read_fleet(settings, only=True)).decode())

    async with asyncio.timeout(30):
        while (found := await asyncio.to_thread(read)).get(("barque_limit_waiting_jobs", "concurrency", "one")) != 1:
            await asyncio.sleep(0.01)
    assert found["barque_limit_in_use", "concurrency", "one"] == 1
    assert found["barque_limit_places", "concurrency", "one"] == 1
    assert found["barque_circuits", "api", "closed"] == 1
    assert (found["barque_queue_paused", "mails"], found["barque_queue_paused", "empty"]) == (0, 1)
    assert found["barque_task_paused", "mail"] == 1
    assert (found["barque_schedules", "active"], found["barque_schedules_overdue",]) == (1, 0)
    assert found["barque_gates",] == 2
    go_on.set()
    for job in jobs:
        await job.result(timeout=30)


async def test_schedules_are_overdue_where_nobody_ticks_them(producer, redis):
    store = ScheduleStore(redis)
    assert await store.overdue(30_000) == (0, 0, 0, 0.0)
    for name in ("late", "later", "paused", "gone"):
        await producer.schedules.add(name, Call("mail"), every(3600))
    await producer.schedules.pause("paused")
    seconds, _ = await redis.time()
    now = seconds * 1000
    late = {"late": now - 100_000, "later": now - 50_000, "gone": now - 900_000}
    await redis.zadd(keys.SCHEDULES_NEXT, late)
    await redis.hset(keys.SCHEDULES_DECLARED, "gone", f"{'0' * 16}:{now - 900_000}:{now - 600_000}")
    found = await store.overdue(30_000)
    assert found[:3] == (3, 1, 2)
    assert 100 <= found.longest_s < 200
    assert (await store.overdue(70_000)).overdue == 1
    await redis.hset(keys.SCHEDULES_DECLARED, "gone", f"{'0' * 16}:{now - 900_000}:{now}")
    assert (await store.overdue(30_000)).overdue == 3


async def test_the_pages_of_workers_are_told_as_targets(run_worker, redis_url, monkeypatch):
    await run_worker(idle)
    monkeypatch.setenv("BARQUE_METRICS_PORT", "0")
    worker = await run_worker(idle)
    settings = Settings(redis_url=redis_url)
    async with asyncio.timeout(30):
        while not (found := json.loads(await asyncio.to_thread(read_targets, settings))):
            await asyncio.sleep(0.01)
    (group,) = found  # the one without a page is not among them
    assert group["labels"]["__meta_barque_worker"] == worker.worker_id
    (target,) = group["targets"]
    assert target == worker.watching.address
    with urllib.request.urlopen(f"http://{target}/livez", timeout=30) as answer:
        assert json.load(answer)["worker"] == worker.worker_id


@pytest.mark.usefixtures("backlog")
def test_it_is_served_and_read_anew_each_time(redis_url):
    serving = subprocess.Popen(command(redis_url, "--listen", "0"), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        url = serving.stderr.readline().split()[0]
        for _ in range(2):
            with urllib.request.urlopen(url, timeout=30) as answer:
                assert samples(answer.read().decode())["barque_queue_jobs", "mails", "queued"] == 3
        with urllib.request.urlopen(url.replace("/metrics", "/targets"), timeout=30) as answer:
            assert answer.headers["Content-Type"] == "application/json"
            assert json.load(answer) == []
    finally:
        serving.kill()
        serving.communicate()


@pytest.mark.parametrize(("listen", "told"), [("web", "give a port, or HOST:PORT"), ("127.0.0.1:99999", "give a port")])
def test_what_is_no_address_is_said(redis_url, listen, told):
    done = subprocess.run(command(redis_url, "--listen", listen), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert told in done.stderr
