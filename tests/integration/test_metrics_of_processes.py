"""Two worker processes of one host under load: each has its own page, and together they count every attempt once."""

import asyncio
import contextlib
import json
import re
import socket
import urllib.request
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli.fleet_reading import read_targets
from cli.probing import probe
from common import Call
from common.errors import TaskFailed
from common.settings import Settings
from tests.support.fleet import ran, start_workers
from tests.support.running import producer

__all__ = ["producer", "start_workers"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "test:notes")

TASKS = """
@task(retry=NEVER)
async def double(ctx: Context, number: int) -> int:
    await note(ctx, "start", number)
    return 2 * number

@task(retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def second_time(ctx: Context, number: int) -> int:
    await note(ctx, "start", number)
    if ctx.attempt == 1:
        raise ValueError(number)
    return number

@task(retry=NEVER, limits=[ConcurrencyLimit(3, name="few")])
async def broken(ctx: Context, number: int) -> None:
    await note(ctx, "start", number)
    raise ValueError(number)
"""

DOUBLE, SECOND_TIME, BROKEN = 150, 40, 20
ATTEMPTS = DOUBLE + 2 * SECOND_TIME + BROKEN


def some_ports() -> str:
    """Return a range whose first port is free, and which has more than enough."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        first = min(one.getsockname()[1], 65_000)
        return f"{first}-{first + 7}"


def figures(url: str) -> Counter:
    """Return what a page says, summed by series and by the labels that matter here."""
    found: Counter = Counter()
    with urllib.request.urlopen(url, timeout=30) as answer:
        for family in text_string_to_metric_families(answer.read().decode()):
            for sample in family.samples:
                labels = (sample.labels.get(name) for name in ("task", "outcome", "reason", "limit", "le"))
                found[sample.name, *filter(None, labels)] += sample.value
    return found


async def test_what_two_processes_count_adds_up_to_what_ran(
    start_workers, producer, redis, redis_url, tmp_path, monkeypatch
):
    ports = some_ports()
    workers = await start_workers(2, TASKS, metrics_port=ports, concurrency=8)
    log = (tmp_path / "workers.log").read_text()
    pages = re.findall(r'"url":\s*"(http://[^"]+/metrics)"', log)
    assert len(set(pages)) == 2

    calls = [Call("double", n) for n in range(DOUBLE)]
    calls += [Call("second_time", n) for n in range(SECOND_TIME)]
    calls += [Call("broken", n) for n in range(BROKEN)]
    for job in await producer.enqueue_many(calls):
        with contextlib.suppress(TaskFailed):
            await job.result(timeout=60)

    async with asyncio.timeout(30):  # a batch is counted once its answer is here; the results are there before
        while True:
            first, second = [await asyncio.to_thread(figures, page) for page in pages]
            found = first + second
            if sum(value for (name, *_), value in found.items() if name == "barque_attempts_total") >= ATTEMPTS:
                break
            await asyncio.sleep(0.01)
    assert len(await ran(redis)) == ATTEMPTS
    counted = {tuple(labels): value for (name, *labels), value in found.items() if name == "barque_attempts_total"}
    assert counted == {
        ("double", "succeeded"): DOUBLE,
        ("second_time", "succeeded"): SECOND_TIME,
        ("second_time", "retried"): SECOND_TIME,
        ("broken", "failed"): BROKEN,
    }
    for series in ("barque_run_seconds", "barque_queue_wait_seconds", "barque_longest_step_seconds"):
        for task, attempts in (("double", DOUBLE), ("second_time", 2 * SECOND_TIME), ("broken", BROKEN)):
            assert found[f"{series}_count", task] == found[f"{series}_bucket", task, "+Inf"] == attempts
    assert found["barque_retries_total", "second_time"] == SECOND_TIME
    assert found["barque_dead_letters_left_total", "broken", "failed"] == BROKEN
    held_back = found["barque_limit_held_back_total", "few"]
    assert found["barque_claim_jobs_sum",] == ATTEMPTS + held_back, "what was held back was claimed too"
    assert found["barque_complete_outcomes_sum",] == ATTEMPTS
    assert found["barque_leases_lost_total",] == found["barque_jobs_in_flight",] == 0
    assert found["barque_concurrency",] == 16

    monkeypatch.setenv("BARQUE_METRICS_PORT", ports)
    known = await asyncio.to_thread(probe, pid=None, seconds=30.0)
    assert known.is_well(ready=True, at_least=2)
    assert {worker.pid for worker in known.workers} == {worker.pid for worker in workers}
    groups = json.loads(await asyncio.to_thread(read_targets, Settings(redis_url=redis_url)))
    assert {f"http://{group['targets'][0]}/metrics" for group in groups} == set(pages)
