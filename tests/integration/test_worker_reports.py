"""What running jobs say, from worker to reader: lost replies, lost leases, stops, keys, servers that are away."""

import asyncio

import pytest
import structlog
from redis.exceptions import ConnectionError as Gone
from redis.exceptions import NoPermissionError

from common import NEVER, Context, Discard, RetryPolicy, fixed, task
from common.errors import BarqueError, JobDiscarded, RedisUnavailable, SignatureRefused, Undecodable
from common.jobs import JobState
from common.progress import encode_item, encode_progress, encode_value
from common.redis import keys
from common.redis.progress import ProgressStore
from common.settings import Settings
from producer import Producer
from tests.support.proxy import Proxy
from tests.support.running import producer, run_worker

__all__ = ["producer", "run_worker"]

pytestmark = pytest.mark.leaves_keys(
    "arq:result:*", "barque:progress:*", "barque:stream:*", "barque:watchers:*", "barque:result:*"
)


class Stage:
    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.errors: list[Exception] = []


@pytest.fixture
def stage() -> Stage:
    return Stage()


@task(retry=RetryPolicy(max_attempts=3, backoff=fixed(0)))
async def in_two_parts(ctx: Context, first: int, second: int) -> int:
    stage: Stage = ctx.state["stage"]
    for number in range(first):
        await ctx.emit(number)
        ctx.progress(number + 1, first + second)
    stage.reached.set()
    await stage.go_on.wait()
    try:
        for number in range(first, first + second):
            await ctx.emit(number)
            ctx.progress(number + 1, first + second)
    except BarqueError as error:
        stage.errors.append(error)
        raise
    return ctx.attempt


async def read(job) -> list:
    return [item.value async for item in job.stream(int)]


async def test_replies_that_were_lost_leave_no_item_twice(producer, run_worker, stage, monkeypatch):
    written = ProgressStore.report
    lost = 0

    async def deaf(self, reports):
        nonlocal lost
        answer = await written(self, reports)
        if lost < 3:
            lost += 1
            raise Gone("cut")
        return answer

    monkeypatch.setattr(ProgressStore, "report", deaf)
    await run_worker(in_two_parts, ctx={"stage": stage})
    stage.go_on.set()
    job = await producer.enqueue(in_two_parts(50, 50))
    assert await read(job) == list(range(100))
    assert (await job.progress()).done == 100
    assert lost == 3


async def test_the_outcome_waits_for_the_last_words_and_nothing_else_does(
    producer, run_worker, stage, monkeypatch, redis
):
    written = ProgressStore.report
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(self, reports):
        asked.set()
        await answer.wait()
        return await written(self, reports)

    monkeypatch.setattr(ProgressStore, "report", slow)
    await run_worker(in_two_parts, silent, ctx={"stage": stage})
    stage.go_on.set()
    job = await producer.enqueue(in_two_parts(1, 0))
    await asked.wait()
    assert await (await producer.enqueue(silent())).result(timeout=10) == "done"
    assert not await redis.exists(keys.result(job.job_id))
    assert await job.status() is JobState.RUNNING
    answer.set()
    assert await job.result(timeout=10) == 1
    assert await read(job) == [0]


@task
async def silent(ctx: Context) -> str:
    return "done"


async def test_a_worker_that_lost_its_lease_adds_nothing_to_what_its_successor_says(producer, run_worker, stage, redis):
    await run_worker(in_two_parts, ctx={"stage": stage}, max_jobs=1)
    job = await producer.enqueue(in_two_parts(2, 2))
    await stage.reached.wait()
    later = Stage()
    later.go_on.set()
    # As when the first one was cut off for longer than its lease.
    await redis.delete(keys.lease(job.job_id))
    await redis.zadd("arq:queue", {job.job_id: 1.5})
    await run_worker(in_two_parts, ctx={"stage": later}, max_jobs=1)
    assert await job.result(timeout=20) == 2
    stage.go_on.set()
    items = [(item.attempt, item.value) async for item in job.stream(int)]
    assert items == [(2, 0), (2, 1), (2, 2), (2, 3)]
    assert (await job.progress()).attempt == 2


async def test_a_worker_that_stops_gives_back_the_job_and_the_next_begins_the_stream_anew(producer, run_worker, stage):
    first = await run_worker(in_two_parts, ctx={"stage": stage})
    job = await producer.enqueue(in_two_parts(2, 1))
    reading = aiter(job.stream(int))
    assert [(await anext(reading)).number for _ in range(2)] == [1, 2]
    first.main_task.cancel()
    await asyncio.wait({first.main_task})
    after = Stage()
    after.go_on.set()
    await run_worker(in_two_parts, ctx={"stage": after})
    # The attempt does not count: it is the first one again.
    assert [(item.attempt, item.number) async for item in reading] == [(1, 1), (1, 2), (1, 3)]


async def test_items_of_a_job_that_is_refused_by_the_server_end_it_and_are_told_of(
    producer, run_worker, stage, monkeypatch
):
    refused = asyncio.Event()

    async def refuse(self, reports):
        refused.set()
        raise NoPermissionError("this user has no permissions to access one of the keys used as arguments")

    monkeypatch.setattr(ProgressStore, "report", refuse)
    with structlog.testing.capture_logs() as lines:
        await run_worker(in_two_parts, ctx={"stage": stage})
        job = await producer.enqueue(in_two_parts(1, 1))
        await refused.wait()
        async with asyncio.timeout(20):
            while not any(line["event"] == "progress_not_sent" for line in lines):
                await asyncio.sleep(0.001)
        stage.go_on.set()
        await job.wait(timeout=20)
    assert isinstance(stage.errors[0], RedisUnavailable)
    said = next(line for line in lines if line["event"] == "progress_not_sent")
    assert (said["job_id"], said["log_level"]) == (job.job_id, "error")


async def test_a_server_that_is_away_for_a_moment_costs_nothing(redis_url, server, stage, run_worker):
    async with Proxy(server.port) as proxy, Producer(proxy.url) as producer:
        await run_worker(in_two_parts, ctx={"stage": stage})
        job = await producer.enqueue(in_two_parts(3, 3))
        reading = aiter(job.stream(int))
        assert [(await anext(reading)).value for _ in range(3)] == [0, 1, 2]
        watching = aiter(job.watch())
        await anext(watching)
        proxy.cut_all()
        stage.go_on.set()
        assert [item.value async for item in reading] == [3, 4, 5]
        assert [progress.done async for progress in watching][-1] == 6


async def test_a_server_that_stays_away_ends_the_reading(redis_url, server, stage, run_worker):
    async with Proxy(server.port) as proxy, Producer(proxy.url, answer_within=0.3) as producer:
        await run_worker(in_two_parts, ctx={"stage": stage})
        job = await producer.enqueue(in_two_parts(1, 1))
        reading = aiter(job.stream(int))
        await anext(reading)
        proxy.replies.clear()
        proxy.cut_all()
        with pytest.raises(RedisUnavailable):
            await asyncio.wait_for(anext(reading), 30)
        with pytest.raises(RedisUnavailable):
            await asyncio.wait_for(anext(aiter(job.watch())), 30)
        with pytest.raises(RedisUnavailable, match="progress of job"):
            await job.progress()
        stage.go_on.set()
        async with Producer(redis_url) as another:
            assert await another.job(job.job_id).result(timeout=20) == 1


async def test_a_producer_that_is_closed_leaves_nobody_reading(redis_url, stage, run_worker):
    await run_worker(in_two_parts, ctx={"stage": stage})
    async with Producer(redis_url) as producer:
        job = await producer.enqueue(in_two_parts(1, 0))
        reading = asyncio.ensure_future(read(job))
        watching = asyncio.ensure_future(anext(aiter(job.watch())))
        await stage.reached.wait()
        await watching
    done, pending = await asyncio.wait({reading}, timeout=20)
    assert (done, pending) == ({reading}, set())
    assert reading.cancelled() or isinstance(reading.exception(), RedisUnavailable)
    stage.go_on.set()
    async with Producer(redis_url) as again:
        assert await again.job(job.job_id).result(timeout=20) == 1


@task(retry=NEVER)
async def drops_itself(ctx: Context) -> None:
    await ctx.emit(1)
    raise Discard("nothing to do")


async def test_a_discarded_job_says_so_at_the_end_of_its_stream(producer, run_worker):
    await run_worker(drops_itself)
    job = await producer.enqueue(drops_itself())
    with pytest.raises(JobDiscarded):
        await read(job)


SECRET = "s" * 40


@pytest.fixture
def signed(monkeypatch):
    monkeypatch.setenv("BARQUE_SIGNING_KEYS", f"k1:{SECRET}")


async def test_with_keys_what_a_job_says_is_signed_and_read(redis_url, run_worker, stage, signed):
    async with Producer(redis_url) as producer:
        await run_worker(in_two_parts, ctx={"stage": stage})
        stage.go_on.set()
        job = await producer.enqueue(in_two_parts(2, 1))
        assert await read(job) == [0, 1, 2]
        assert (await job.progress()).done == 3
        assert (await job.info()).progress.done == 3
        assert b"sig" in await producer.store.client.get(keys.progress(job.job_id))


async def test_with_keys_progress_from_elsewhere_is_refused(redis_url, run_worker, stage, signed, redis):
    async with Producer(redis_url) as producer:
        await run_worker(in_two_parts, ctx={"stage": stage})
        job = await producer.enqueue(in_two_parts(1, 0))
        other = await producer.enqueue(in_two_parts(1, 0))
        async with asyncio.timeout(20):
            while not await redis.exists(keys.progress(other.job_id)):
                await asyncio.sleep(0.001)
        theirs = await redis.get(keys.progress(other.job_id))
        for forged in (encode_progress(99, 100, "", attempt=1, at_ms=1), theirs):
            await redis.set(keys.progress(job.job_id), forged, keepttl=True)
            with pytest.raises(SignatureRefused):
                await job.progress()
            with pytest.raises(SignatureRefused):
                await anext(aiter(job.watch()))
            assert (await job.info()).progress is None
        stage.go_on.set()
        await asyncio.gather(job.wait(20), other.wait(20))


async def test_with_keys_items_from_elsewhere_are_refused(redis_url, run_worker, stage, signed, redis):
    async with Producer(redis_url) as producer:
        await run_worker(in_two_parts, ctx={"stage": stage})
        stage.go_on.set()
        job = await producer.enqueue(in_two_parts(3, 0))
        other = await producer.enqueue(in_two_parts(3, 0))
        assert await read(job) == await read(other) == [0, 1, 2]
        entries = await redis.xrange(keys.stream(job.job_id))
        theirs = await redis.xrange(keys.stream(other.job_id))
        unsigned = encode_item(encode_value(0), attempt=1, number=1, job_id=job.job_id)
        for forged in (unsigned, theirs[1][1][b"item"], entries[2][1][b"item"]):
            await redis.delete(keys.stream(job.job_id))
            for entry, fields in entries:
                changed = {b"item": forged} if entry.endswith(b"-1") else fields
                await redis.xadd(keys.stream(job.job_id), changed, id=entry)
            with pytest.raises(Undecodable, match=r"sign|moved"):
                await read(job)
        await redis.delete(keys.stream(job.job_id))


async def test_without_keys_a_reader_with_keys_trusts_nothing(redis_url, run_worker, stage, redis, monkeypatch):
    await run_worker(in_two_parts, ctx={"stage": stage})
    stage.go_on.set()
    async with Producer(redis_url) as producer:
        job = await producer.enqueue(in_two_parts(1, 0))
        await job.wait(20)
    keyed = Settings(redis_url=redis_url, signing_keys=f"k1:{SECRET}")
    async with Producer(settings=keyed) as producer:
        with pytest.raises(SignatureRefused, match="the progress is not signed"):
            await producer.job(job.job_id).progress()
    while_moving = keyed.replace(accept_unsigned=True)
    async with Producer(settings=while_moving) as producer:
        assert (await producer.job(job.job_id).progress()).done == 1
        assert await read(producer.job(job.job_id)) == [0]


async def test_a_replayed_job_begins_with_nothing_said(producer, run_worker, redis):
    @task(name="fails_first", retry=NEVER)
    async def fails_first(ctx: Context) -> None:
        if not ctx.state.get("mended"):
            ctx.progress(1)
            await ctx.emit("old")
            raise LookupError

    worker = await run_worker(fails_first)
    job = await producer.enqueue(fails_first())
    await job.wait(timeout=20)
    assert (await job.progress()).done == 1
    worker.ctx["mended"] = True
    assert (await producer.dead.replay(everything=True)).replayed == 1
    again = producer.job(job.job_id)
    assert await again.result(timeout=20) is None
    assert await again.progress() is None
    assert [item async for item in again.stream()] == []


async def test_a_plain_job_leaves_and_asks_for_nothing(producer, run_worker, redis):
    await run_worker(silent)
    before = (await redis.info("commandstats")).get("cmdstat_xadd", {"calls": 0})["calls"]
    await producer.gather(*(silent() for _ in range(20)))
    for prefix in (keys.PROGRESS, keys.STREAM, keys.WATCHERS):
        assert [key async for key in redis.scan_iter(f"{prefix}*")] == []
    assert (await redis.info("commandstats")).get("cmdstat_xadd", {"calls": 0})["calls"] == before
