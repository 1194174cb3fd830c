"""The wire, in both directions: stock arq producers to Barque, Barque's producers to stock arq workers."""

import asyncio

import arq.constants
import msgspec
import pytest
from arq import func
from arq.jobs import DeserializationError, Job, JobStatus, SerializationError
from arq.worker import FailedJobs

from common import Call
from common import task as barque_task
from common.redis import keys
from common.settings import Settings
from producer import Producer

# A queue that no Barque worker serves keeps its wake marker.
pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:wake:*")

MSGPACK = {"job_serializer": msgspec.msgpack.encode, "job_deserializer": msgspec.msgpack.decode}


async def add(ctx, a, b=0):
    return {"sum": a + b}


@barque_task(name="add", keep_result=60)
async def add_task(ctx, a: int, b: int = 0) -> dict[str, int]:
    return {"sum": a + b}


def producer_of(redis_url, **settings):
    return Producer(settings=Settings(redis_url=redis_url, **settings))


def test_the_key_names_are_arqs():
    assert arq.constants.job_key_prefix == keys.JOB
    assert arq.constants.in_progress_key_prefix == keys.LEASE
    assert arq.constants.retry_key_prefix == keys.RETRY
    assert arq.constants.result_key_prefix == keys.RESULT
    assert arq.constants.abort_jobs_ss == keys.ABORT
    assert arq.constants.health_check_key_suffix == keys.HEALTH_SUFFIX
    assert Settings().queues == (arq.constants.default_queue_name,)


@pytest.mark.parametrize("function", [add, add_task], ids=["plain-function", "task"])
async def test_a_stock_producer_with_msgpack_feeds_barque(make_worker_of, monkeypatch, msgpack_redis, function):
    monkeypatch.setenv("BARQUE_ACCEPT_PICKLE", "false")
    job = await msgpack_redis.enqueue_job("add", 1, b=2)
    assert await make_worker_of("barque", [function]).run_check() == 1
    assert await job.result() == {"sum": 3}


@pytest.mark.parametrize("function", [add, add_task], ids=["plain-function", "task"])
async def test_a_stock_producer_with_pickle_feeds_barque_where_pickles_are_accepted(
    make_worker_of, arq_redis, function
):
    job = await arq_redis.enqueue_job("add", 1, b=2)
    assert await make_worker_of("barque", [function]).run_check() == 1
    assert await job.result() == {"sum": 3}


async def test_a_refused_pickle_fails_in_words_its_sender_can_read(make_worker_of, monkeypatch, arq_redis):
    monkeypatch.setenv("BARQUE_ACCEPT_PICKLE", "false")
    job = await arq_redis.enqueue_job("add", 1)
    worker = make_worker_of("barque", [add])
    with pytest.raises(FailedJobs) as raised:
        await worker.run_check()
    assert raised.value.count == worker.jobs_failed == 1
    with pytest.raises(SerializationError, match="BARQUE_ACCEPT_PICKLE=true"):
        await job.result()
    assert await job.status() is JobStatus.complete


async def test_nothing_in_a_refused_pickle_is_run(make_worker_of, monkeypatch, arq_redis, tmp_path):
    monkeypatch.setenv("BARQUE_ACCEPT_PICKLE", "false")
    trap = tmp_path / "sprung"
    await arq_redis.enqueue_job("add", Trap(trap))
    worker = make_worker_of("barque", [add])
    await worker.async_run()
    assert worker.jobs_failed == 1
    assert not trap.exists()


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))


async def test_a_pool_that_was_given_enqueues_what_its_worker_reads(make_worker_of, monkeypatch, arq_redis):
    monkeypatch.setenv("BARQUE_ACCEPT_PICKLE", "false")

    async def parent(ctx):
        child = await ctx["redis"].enqueue_job("add", 1, b=2, _job_id="child")
        assert child is not None

    worker = make_worker_of("barque", [func(parent, name="parent"), add], redis_pool=arq_redis)
    await arq_redis.set("arq:job:first", msgspec.msgpack.encode({"t": None, "f": "parent", "a": [], "k": {}, "et": 1}))
    await arq_redis.zadd("arq:queue", {"first": 1})
    assert await worker.run_check() == 2


async def test_a_barque_producer_feeds_a_stock_worker_with_msgpack(make_worker_of, redis_url, msgpack_redis):
    async with producer_of(redis_url) as producer:
        job = await producer.enqueue(Call("add", 1, b=2))
        assert await make_worker_of("arq", [add], **MSGPACK).run_check() == 1
    assert await Job(job.job_id, msgpack_redis, _deserializer=msgspec.msgpack.decode).result() == {"sum": 3}


async def test_a_barque_producer_feeds_a_stock_worker_with_pickle(make_worker_of, redis_url, arq_redis):
    async with producer_of(redis_url, payload_format="pickle") as producer:
        job = await producer.enqueue(Call("add", 1, b=2))
        assert await make_worker_of("arq", [add]).run_check() == 1
    assert await Job(job.job_id, arq_redis).result() == {"sum": 3}


async def test_a_stock_worker_that_pickles_fails_a_msgpack_job_and_goes_on(make_worker_of, redis_url, arq_redis):
    async with producer_of(redis_url) as producer:
        job = await producer.enqueue(Call("add", 1))
        worker = make_worker_of("arq", [add])
        await worker.async_run()
    assert worker.jobs_failed == 1
    with pytest.raises(DeserializationError):
        await Job(job.job_id, arq_redis).result()


async def test_a_stock_client_reads_a_barque_job_through_its_life(make_worker_of, redis_url, msgpack_redis):
    async with producer_of(redis_url) as producer:
        job = await producer.enqueue(Call("add", 1, b=2))
        [queued] = await msgpack_redis.queued_jobs()
        assert (queued.job_id, queued.function, queued.args, queued.kwargs) == (job.job_id, "add", [1], {"b": 2})
        stock = Job(job.job_id, msgpack_redis, _deserializer=msgspec.msgpack.decode)
        assert await stock.status() is JobStatus.queued
        await make_worker_of("barque", [add]).run_check()
    assert await stock.status() is JobStatus.complete
    info = await stock.info()
    assert (info.function, info.args, info.kwargs, info.result) == ("add", [1], {"b": 2}, {"sum": 3})


@pytest.mark.parametrize("waits", ["before", "after"])
async def test_a_barque_producer_reads_what_a_stock_worker_did(make_worker_of, redis_url, msgpack_redis, waits):
    """A stock worker pushes no results: whoever waits finds out all the same."""
    async with producer_of(redis_url) as producer:
        job = await producer.enqueue(add_task(1, b=2))
        started = asyncio.Event()

        async def slow_add(ctx, a, b=0):
            started.set()
            if waits == "before":
                assert not waiting.done()
            return {"sum": a + b}

        waiting = asyncio.create_task(job.result(timeout=20)) if waits == "before" else None
        await make_worker_of("arq", [func(slow_add, name="add")], **MSGPACK).run_check()
        assert started.is_set()
        assert await (waiting or job.result(timeout=20)) == {"sum": 3}
