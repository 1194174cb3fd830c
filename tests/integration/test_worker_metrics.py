"""A worker that is watched: what it counts, and what its probes say of it."""

import asyncio
import contextlib
import http.client
import json
import threading
from urllib.parse import urlsplit

import pytest
from arq.connections import RedisSettings
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from common import NEVER, CircuitBreaker, ConcurrencyLimit, Context, task
from common.errors import TaskFailed
from tests.support.proxy import Proxy
from tests.support.running import producer, run_worker
from workers.worker import Worker

__all__ = ["producer", "run_worker"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:result:*", "barque:dead*")


@task(retry=NEVER)
async def halve(ctx: Context, number: int) -> float:
    if number % 2:
        raise ValueError(number)
    return number / 2


begun = threading.Event()
go_on = threading.Event()


@task(retry=NEVER)
async def stand_still(ctx: Context) -> None:
    begun.set()
    go_on.wait(30)


async def ask(port: int, path: str) -> tuple[int, str]:
    def fetch() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(fetch)


async def figures(port: int) -> dict[tuple, float]:
    _, text = await ask(port, "/metrics")
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def watched(run_worker, monkeypatch):
    monkeypatch.setenv("BARQUE_METRICS_PORT", "0")

    async def start(*tasks, **options) -> tuple[object, int]:
        with capture_logs() as lines:
            worker = await run_worker(*tasks, **options)
            while not (said := [line for line in lines if line["event"] == "worker_metrics"]):
                await asyncio.sleep(0.001)
        return worker, int(said[0]["url"].rpartition(":")[2].partition("/")[0])

    return start


async def until_ready(port: int) -> None:
    async with asyncio.timeout(30):
        while (await ask(port, "/readyz"))[0] != 200:
            await asyncio.sleep(0.01)


async def until_not_ready(port: int, reason: str) -> str:
    """Return what is said of it, once that is the one reason; all the while the worker is alive."""
    async with asyncio.timeout(30):
        while True:
            assert (await ask(port, "/livez"))[0] == 200
            status, body = await ask(port, "/readyz")
            said = json.loads(body)["reasons"]
            if list(said) == [reason]:
                assert status == 503
                return said[reason]
            await asyncio.sleep(0.01)


async def test_it_counts_what_it_does(watched, producer):
    worker, port = await watched(halve)
    jobs = await producer.enqueue_many(halve(number) for number in range(10))
    for job in jobs:
        with contextlib.suppress(TaskFailed):
            await job.result(timeout=20)
    async with asyncio.timeout(20):  # a batch is counted once the server's answer is here, the results are there before
        while (found := await figures(port)).get(("barque_run_seconds_count", "halve")) != 10:
            await asyncio.sleep(0.01)
    assert found["barque_attempts_total", "halve", "succeeded"] == 5
    assert found["barque_attempts_total", "failed", "halve"] == 5
    assert found["barque_claim_jobs_sum",] == 10
    assert found["barque_complete_outcomes_sum",] == 10
    assert found["barque_round_trip_seconds_count", "complete"] >= 1
    assert found["barque_concurrency",] == worker.max_jobs
    assert found["barque_jobs_in_flight",] == 0


async def test_what_limits_hold_back_is_counted_and_for_how_long(watched, producer):
    began, go_on = asyncio.Semaphore(0), asyncio.Event()

    @task(retry=NEVER, limits=[ConcurrencyLimit(1, name="one")])
    async def hold(ctx: Context) -> None:
        began.release()
        await go_on.wait()

    _, port = await watched(hold)
    jobs = await producer.enqueue_many([hold(), hold(), hold()])
    await began.acquire()
    async with asyncio.timeout(30):
        while (await figures(port)).get(("barque_limit_held_back_total", "concurrency", "one")) != 2:
            await asyncio.sleep(0.01)
    go_on.set()
    for job in jobs:
        await job.result(timeout=30)
    async with asyncio.timeout(30):
        while (found := await figures(port)).get(("barque_attempts_total", "hold", "succeeded")) != 3:
            await asyncio.sleep(0.01)
    # The second in the lane may have been put back once more.
    assert found["barque_limit_held_back_total", "concurrency", "one"] >= 2
    assert found["barque_limit_wait_seconds_count", "concurrency", "one"] == 2
    assert 0 < found["barque_limit_wait_seconds_sum", "concurrency", "one"] < 60


async def test_a_breaker_that_opens_is_counted(watched, producer):
    @task(retry=NEVER, limits=[CircuitBreaker(minimum=1, name="shaky")])
    async def fail(ctx: Context) -> None:
        raise ValueError

    _, port = await watched(fail)
    with pytest.raises(TaskFailed):
        await (await producer.enqueue(fail())).result(timeout=30)
    async with asyncio.timeout(30):
        while (found := await figures(port)).get(("barque_circuit_changes_total", "opened", "shaky")) != 1:
            await asyncio.sleep(0.01)
    while found.get(("barque_dead_letters_left_total", "fail", "failed")) != 1:
        found = await figures(port)


async def test_a_worker_that_starts_is_alive_and_not_ready(watched):
    entered, held = asyncio.Event(), asyncio.Event()

    async def on_startup(ctx) -> None:
        entered.set()
        await held.wait()

    _, port = await watched(halve, on_startup=on_startup)
    await entered.wait()
    assert "on_startup" in await until_not_ready(port, "starting")
    assert (await figures(port))["barque_ready",] == 0
    held.set()
    await until_ready(port)
    assert (await figures(port))["barque_ready",] == 1


async def test_a_worker_that_is_to_stop_is_not_ready_while_its_jobs_end(watched, producer):
    started, held = asyncio.Event(), asyncio.Event()

    @task(retry=NEVER)
    async def hold(ctx: Context) -> None:
        started.set()
        await held.wait()

    worker, port = await watched(hold)
    job = await producer.enqueue(hold())
    await started.wait()
    worker._claim_no_more()
    assert "1 now" in await until_not_ready(port, "stopping")
    held.set()
    await job.result(timeout=30)
    await worker._ended.wait()


async def test_a_worker_whose_server_is_away_is_alive_and_not_ready(redis_url, monkeypatch):
    monkeypatch.setenv("BARQUE_METRICS_PORT", "0")
    async with Proxy(urlsplit(redis_url).port) as proxy:
        with capture_logs() as lines:
            where = RedisSettings.from_dsn(proxy.url)
            worker = Worker([halve], redis_settings=where, handle_signals=False, poll_delay=0.05)
            running = asyncio.create_task(worker.async_run())
            while not (said := [line for line in lines if line["event"] == "worker_metrics"]):
                await asyncio.sleep(0.001)
            port = int(said[0]["url"].rpartition(":")[2].partition("/")[0])
            await until_ready(port)
            there, proxy.leads_to = proxy.leads_to, 1
            proxy.cut_all()
            assert "a restart would not help" in await until_not_ready(port, "server_away")
            assert (await figures(port))["barque_not_ready", "server_away"] == 1
            proxy.leads_to = there
            await until_ready(port)
            running.cancel()
            await asyncio.wait({running})
            await worker.close()


async def test_a_worker_all_of_whose_queues_are_paused_is_not_ready(watched, producer):
    _, port = await watched(halve)
    await until_ready(port)
    await producer.pause(queue="arq:queue", by="ada@ops")
    assert "arq:queue (by ada@ops)" in await until_not_ready(port, "paused")
    await producer.resume(queue="arq:queue")
    await until_ready(port)


async def test_a_worker_that_stops_is_not_ready_and_then_gone(watched):
    worker, port = await watched(halve)
    await until_ready(port)
    await worker.close()
    with pytest.raises(ConnectionRefusedError):
        await ask(port, "/readyz")


async def test_a_loop_that_stands_still_answers_all_the_same(watched, producer, monkeypatch):
    monkeypatch.setenv("BARQUE_BLOCK_LIMIT", "1")
    begun.clear()
    go_on.clear()
    _, port = await watched(stand_still)
    await until_ready(port)
    seen: list[tuple[int, dict]] = []

    def fetch(path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def probe() -> None:
        begun.wait(30)
        while not seen or seen[-1][0] == 200:
            status, body = fetch("/livez")
            seen.append((status, json.loads(body)))
        while b"barque_event_loop_blocks_total 0.0" in fetch("/metrics")[1]:  # the renewing thread looks too
            pass
        go_on.set()

    probing = threading.Thread(target=probe)
    probing.start()
    await producer.enqueue(stand_still())  # from here on nothing of this loop goes on until the probe has seen enough
    async with asyncio.timeout(40):
        while probing.is_alive():
            await asyncio.sleep(0.01)
    status, said = seen[-1]
    assert (status, said["alive"]) == (503, False)
    assert said["loop_still_s"] >= 1
    assert (await figures(port))["barque_event_loop_blocked_seconds_total",] >= 1
    assert "Restart it" in said["reasons"]["loop_blocked"]
    async with asyncio.timeout(20):
        while (await ask(port, "/readyz"))[0] != 200:
            await asyncio.sleep(0.01)


async def test_a_worker_without_a_port_shows_nothing(run_worker, producer):
    worker = await run_worker(halve)
    await (await producer.enqueue(halve(2))).result(timeout=20)
    assert worker.watching.metrics is None
