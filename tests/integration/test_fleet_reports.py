"""What workers tell of themselves and of their attempts, from worker to reader; and that they tell more on demand."""

import asyncio
import threading

import pytest
from arq.connections import RedisSettings

from common import NEVER, Call, Context, RetryPolicy, fixed, task
from common.attempt_filter import AttemptFilter
from common.fleet import TaskSummary
from common.redis import keys
from common.redis.connection import TROUBLE, connect
from common.redis.fleet import FleetReader, Gap
from common.redis.push import Aside, listen
from common.settings import Settings
from tests.support.fleet import start_workers
from tests.support.proxy import Proxy
from tests.support.running import producer, run_worker
from tests.support.tls import free_port
from workers import Worker, reports

__all__ = ["producer", "run_worker", "start_workers"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:workers", "barque:worker:*")

SECRET = "correct horse battery staple"


class Stage:
    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()


@pytest.fixture
def stage() -> Stage:
    return Stage()


@task(retry=NEVER)
async def halve(ctx: Context, number: int, secret: str = SECRET) -> float:
    if number % 2:
        raise ValueError(number)
    return number / 2


@task(retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def fails_once(ctx: Context) -> None:
    if ctx.attempt == 1:
        raise LookupError("not yet")


@task
async def wait(ctx: Context) -> None:
    stage: Stage = ctx.state["stage"]
    stage.begun.set()
    await stage.go_on.wait()


@pytest.fixture
def reader(redis) -> FleetReader:
    return FleetReader(redis)


async def seen(reader: FleetReader, condition):
    """Wait until a snapshot fulfils this, and return it."""
    async with asyncio.timeout(30):
        while not condition(snapshot := await reader.snapshot()):
            await asyncio.sleep(0.02)
    return snapshot


async def listening(reader: FleetReader, workers: int = 1) -> None:
    """Wait until so many workers hear who looks on, and observe them."""
    async with asyncio.timeout(30):
        while await reader.observe() < workers:
            await asyncio.sleep(0.02)


async def test_a_worker_tells_of_itself(run_worker, reader):
    worker = await run_worker(halve, max_jobs=7)
    (report,) = (await seen(reader, lambda found: found.workers and found.workers[0].state == "running")).workers
    assert (report.worker, report.reasons, report.concurrency) == (worker.worker_id, {}, 7)
    assert report.python.startswith("3.")
    assert report.arq[0].isdigit()
    assert report.rss > 10 * 2**20
    assert report.cpu_s > 0
    assert report.figures is None


async def test_a_worker_that_nobody_looks_at_counts_nothing_per_job(run_worker, producer, reader):
    worker = await run_worker(halve)
    await producer.gather(*(halve(number) for number in range(0, 20, 2)))
    assert worker._engine.metrics is None


async def test_what_runs_now_is_told_with_when_it_began(run_worker, producer, reader, stage):
    await run_worker(wait, ctx={"stage": stage})
    job = await producer.enqueue(wait())
    await stage.begun.wait()
    await listening(reader)
    snapshot = await seen(reader, lambda found: found.longest())
    (running,) = snapshot.longest()
    assert (running.job_id, running.task, running.queue, running.attempt) == (job.job_id, "wait", "arq:queue", 1)
    assert 0 <= snapshot.taken_ms - running.started_ms < 60_000
    assert snapshot.running("arq:queue") == 1
    stage.go_on.set()
    await seen(reader, lambda found: not found.longest())


begun, go_on = threading.Event(), threading.Event()


@task(retry=NEVER)
async def stand_still(ctx: Context) -> None:
    begun.set()
    go_on.wait(60)


async def test_a_worker_whose_event_loop_stands_still_is_said_to(redis_url, producer, reader, monkeypatch):
    """In a thread of its own, as this test's loop has to turn: it would be taken for dead, having said nothing."""
    monkeypatch.setattr(reports, "_OVERDUE", 0.0)
    begun.clear()
    go_on.clear()

    async def work() -> None:
        server = RedisSettings.from_dsn(redis_url)
        worker = Worker([stand_still], redis_settings=server, burst=True, handle_signals=False)
        await worker.async_run()
        await worker.close()

    job = await producer.enqueue(stand_still())
    working = asyncio.create_task(asyncio.to_thread(asyncio.run, work()))
    try:
        assert await asyncio.to_thread(begun.wait, 30)
        snapshot = await seen(reader, lambda found: found.workers and "loop_blocked" in found.workers[0].reasons)
    finally:
        go_on.set()
        await working
    (report,) = snapshot.workers
    assert (report.state, [attempt.job_id for attempt in report.longest]) == ("loop_blocked", [job.job_id])
    assert "stood still" in report.reasons["loop_blocked"]


async def test_who_may_not_ask_is_told_so_and_reads_what_there_is(run_worker, redis, reader):
    await run_worker(halve)
    await redis.acl_setuser("mute", enabled=True, passwords=["+pw"], commands=["+@all"], keys=["*"], channels=[])
    client = connect(Settings(redis_url=f"redis://mute:pw@{redis_address(redis)}"))
    try:
        async with FleetReader(client).observing() as may:
            assert not may
            assert (await seen(FleetReader(client), lambda found: found.workers)).observed is False
        with pytest.raises(TROUBLE, match="permission"):
            async with FleetReader(client).follow():
                pass
    finally:
        await client.aclose()
        await redis.acl_deluser("mute")


async def test_failures_are_told_whether_somebody_looks_or_not(run_worker, producer, reader):
    worker = await run_worker(halve, fails_once)
    await (await producer.enqueue(halve(3))).wait(timeout=20)
    await (await producer.enqueue(fails_once())).wait(timeout=20)
    await listening(reader)
    snapshot = await seen(reader, lambda found: len(found.failures()) == 2)
    retried, failed = snapshot.failures()
    assert (failed.task, failed.outcome, failed.error, failed.retry_in_ms) == ("halve", "failed", "ValueError: 3", None)
    assert (retried.task, retried.outcome, retried.error) == ("fails_once", "retried", "LookupError: not yet")
    assert (retried.retry_in_ms, retried.worker) == (0, worker.worker_id)


async def test_observed_workers_count_by_task(run_worker, producer, reader):
    await run_worker(halve, fails_once)
    await run_worker(halve, fails_once)
    await listening(reader, 2)
    async with reader.observing():
        await seen(reader, lambda found: sum(worker.figures is not None for worker in found.workers) == 2)
        jobs = await producer.enqueue_many([*(halve(number) for number in range(10)), fails_once()])
        for job in jobs:
            await job.wait(timeout=20)
        snapshot = await seen(reader, lambda found: sum(task.ended for task in found.tasks.values()) == 12)
    assert snapshot.tasks["halve"].outcomes == {"succeeded": 5, "failed": 5}
    assert snapshot.tasks["fails_once"].outcomes == {"succeeded": 1, "retried": 1}
    assert snapshot.tasks["halve"].run.count == snapshot.tasks["halve"].queue_wait.count == 10
    assert snapshot.tasks["halve"].run.percentile(95) is not None
    assert len(snapshot.slowest()) == 12


async def test_a_worker_stops_counting_when_nobody_looks_any_more(run_worker, reader):
    worker = await run_worker(halve)
    await listening(reader)
    async with asyncio.timeout(30):
        while worker._engine.metrics is None:
            await asyncio.sleep(0.01)
        # What somebody said runs out; the last one to have said it said one second.
        worker._reports._observation._until = dict.fromkeys(("figures", "attempts"), 0.0)
        while worker._engine.metrics is not None:
            await asyncio.sleep(0.01)


async def test_looking_on_leaves_no_key_and_a_look_is_renewed(reader, redis):
    before = {key async for key in redis.scan_iter()}
    async with reader.observing():
        pass
    assert {key async for key in redis.scan_iter()} == before


async def test_attempts_are_told_as_they_end_without_their_arguments(run_worker, producer, reader, redis):
    worker = await run_worker(halve)
    await listening(reader)
    heard: list[bytes] = []
    async with reader.follow() as feed:
        await until_followed(worker)
        another = redis.pubsub()
        await another.subscribe(keys.attempts_channel(redis.connection_pool.connection_kwargs.get("db", 0)))
        job = await producer.enqueue(halve(4))
        found = await asyncio.wait_for(anext(feed), 30)
        while not heard:
            message = await another.get_message(ignore_subscribe_messages=True, timeout=10)
            heard += [message["data"]] if message else []
        await another.aclose()
    assert (found.job_id, found.task, found.outcome, found.attempt) == (job.job_id, "halve", "succeeded", 1)
    assert (found.worker, found.queue, found.error) == (worker.worker_id, "arq:queue", None)
    assert SECRET.encode() not in b"".join(heard)


async def until_followed(worker) -> None:
    async with asyncio.timeout(30):
        while (engine := worker._engine) is None or getattr(engine.metrics, "_told", None) is None:
            await asyncio.sleep(0.01)


async def test_only_wanted_attempts_are_shown(run_worker, producer, reader):
    worker = await run_worker(halve, fails_once)
    await listening(reader)
    async with reader.follow(AttemptFilter(tasks=("ha*",), outcomes=frozenset({"failed"}))) as feed:
        await until_followed(worker)
        jobs = await producer.enqueue_many([fails_once(), halve(2), halve(4), halve(5)])
        assert (await asyncio.wait_for(anext(feed), 30)).job_id == jobs[3].job_id
        for job in jobs:
            await job.wait(timeout=20)


async def test_of_too_many_attempts_a_second_the_rest_is_counted(run_worker, producer, reader):
    worker = await run_worker(halve, max_jobs=100)
    await listening(reader)
    async with reader.follow() as feed:
        await until_followed(worker)
        worker._engine.metrics._told._second = float("inf")  # one second that does not end
        await producer.gather(*[halve(0)] * 500)
        told = left_out = 0
        worker._engine.metrics._told._second = 0.0
        await producer.gather(halve(0))
        async with asyncio.timeout(30):
            while told + left_out < 501:
                match await anext(feed):
                    case Gap(missed=missed, worker=whose):
                        left_out += missed
                        assert whose == worker.worker_id
                    case _:
                        told += 1
    assert (told, left_out) == (201, 300)


async def test_failures_are_told_beside_what_is_too_much(run_worker, producer, reader):
    worker = await run_worker(halve, max_jobs=100)
    await listening(reader)
    async with reader.follow(AttemptFilter(outcomes=frozenset({"failed"}))) as feed:
        await until_followed(worker)
        worker._engine.metrics._told._second = float("inf")
        await producer.gather(*[halve(0)] * 300)
        job = await producer.enqueue(halve(1))
        async with asyncio.timeout(30):
            while isinstance(found := await anext(feed), Gap):
                pass
    assert found.job_id == job.job_id


async def test_a_feed_whose_connection_is_lost_says_so_and_goes_on(run_worker, producer, reader, server):
    worker = await run_worker(halve)
    await listening(reader)

    seen_again = asyncio.Event()

    async def keep_busy() -> None:
        while not seen_again.is_set():
            await producer.gather(halve(2))

    async with Proxy(server.port) as proxy:
        client = connect(Settings(redis_url=proxy.url))
        async with FleetReader(client).follow() as feed:
            await until_followed(worker)
            proxy.cut_all()
            gap = await asyncio.wait_for(anext(feed), 30)
            assert (gap.missed, gap.worker) == (None, "")
            busy = asyncio.create_task(keep_busy())
            while isinstance(found := await asyncio.wait_for(anext(feed), 30), Gap):
                pass
            seen_again.set()
            await busy
        await client.aclose()
    assert found.task == "halve"


async def test_a_feed_of_a_server_that_is_not_there_says_so_at_once():
    client = connect(Settings(redis_url=f"redis://127.0.0.1:{free_port()}"))
    with pytest.raises(TROUBLE):
        async with FleetReader(client).follow():
            pass
    await client.aclose()


@pytest.mark.parametrize("way", ["", "?socket_timeout=30"], ids=["by lines", "as redis-py does"])
async def test_who_may_not_hear_the_second_channel_hears_the_first(redis, way):
    """A worker's rights may have been given before there was a channel for who looks on."""
    channel = keys.CONTROL_CHANNEL
    await redis.acl_setuser("old", enabled=True, passwords=["+pw"], commands=["+@all"], keys=["*"], channels=[channel])
    client = connect(Settings(redis_url=f"redis://old:pw@{redis_address(redis)}{way}"))
    subscribed, heard, beside = asyncio.Event(), asyncio.Event(), []
    also = Aside(keys.observe_channel(0), beside.append)
    hearing = asyncio.create_task(listen(client, channel, lambda _: heard.set(), subscribed=subscribed.set, also=also))
    try:
        await asyncio.wait_for(subscribed.wait(), 30)
        await redis.publish(keys.observe_channel(0), "figures 1")
        await redis.publish(channel, "schedules")
        await asyncio.wait_for(heard.wait(), 30)
        assert (hearing.done(), beside) == (False, [])
    finally:
        hearing.cancel()
        await asyncio.wait({hearing})
        await client.aclose()
        await redis.acl_deluser("old")


@pytest.mark.parametrize("way", ["", "?socket_timeout=30"], ids=["by lines", "as redis-py does"])
async def test_two_channels_are_told_apart(redis, way):
    client = connect(Settings(redis_url=f"redis://{redis_address(redis)}{way}"))
    first, second = asyncio.Queue(), asyncio.Queue()
    hearing = asyncio.create_task(listen(client, "one", first.put_nowait, also=Aside("two", second.put_nowait)))
    try:
        async with asyncio.timeout(30):
            while not await redis.publish("two", "to the second"):
                await asyncio.sleep(0.01)
            await redis.publish("one", "to the first")
            assert (await first.get(), await second.get()) == (b"to the first", b"to the second")
    finally:
        hearing.cancel()
        await asyncio.wait({hearing})
        await client.aclose()


def redis_address(client) -> str:
    options = client.connection_pool.connection_kwargs
    return f"{options['host']}:{options['port']}/{options.get('db', 0)}"


COUNT = """
@task
async def count(ctx: Context, number: int) -> int:
    return number
"""


async def test_two_processes_are_one_fleet(start_workers, producer, reader):
    await start_workers(2, COUNT, concurrency=3)
    await listening(reader, 2)
    async with reader.observing():
        await seen(reader, lambda found: sum(worker.figures is not None for worker in found.workers) == 2)
        jobs = [Call("count", number) for number in range(200)]
        await producer.gather(*jobs)
        snapshot = await seen(
            reader, lambda found: found.observed and found.tasks.get("count", TaskSummary()).ended == 200
        )
    assert len({worker.pid for worker in snapshot.workers}) == 2
    assert (snapshot.concurrency, snapshot.tasks["count"].run.count) == (6, 200)
    assert sum(worker.succeeded for worker in snapshot.workers) == 200
