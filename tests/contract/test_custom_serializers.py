"""arq's chapter "Custom job serializers": any pair of functions, on either engine."""

import json

import msgspec
import pytest
from arq import cron, func
from arq.connections import create_pool
from arq.jobs import DeserializationError, SerializationError

pytestmark = pytest.mark.leaves_keys("arq:result:*")

PAIRS = {
    "msgpack": {"job_serializer": msgspec.msgpack.encode, "job_deserializer": msgspec.msgpack.decode},
    "json": {"job_serializer": lambda data: json.dumps(data).encode(), "job_deserializer": json.loads},
}


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


@pytest.fixture
async def client(redis_settings, pair):
    pool = await create_pool(redis_settings, **pair)
    yield pool
    await pool.aclose(close_connection_pool=True)


async def add(ctx, a, b=0):
    return {"sum": a + b}


async def explode(ctx):
    raise ValueError("no")


async def test_jobs_and_results_travel_in_it(make_worker, client, pair):
    job = await client.enqueue_job("add", 1, b=2, _job_id="one")
    assert await make_worker([add], **pair).run_check() == 1
    assert await job.result() == {"sum": 3}
    stored = pair["job_deserializer"](await client.get("arq:result:one"))
    assert (stored["f"], stored["r"], stored["s"], stored["t"]) == ("add", {"sum": 3}, True, 1)
    [listed] = await client.all_job_results()
    assert listed.result == {"sum": 3}


async def test_what_a_job_enqueues_is_written_in_it(make_worker, client, pair):
    async def parent(ctx):
        await ctx["redis"].enqueue_job("add", 1, _job_id="child")

    await client.enqueue_job("parent")
    assert await make_worker([func(parent, name="parent"), add], **pair).run_check() == 2


@pytest.mark.leaves_keys("arq:in-progress:*")
async def test_cron_jobs_are_written_in_it(make_worker, client, pair):
    async def tick(ctx):
        return None

    job = cron(tick, name="tick", month=1, day=1, run_at_startup=True)
    assert await make_worker(cron_jobs=[job], **pair).run_check() == 1


async def test_a_failure_is_told_in_words_where_exceptions_cannot_travel(make_worker, client, pair):
    job = await client.enqueue_job("explode")
    await make_worker([explode], **pair).async_run()
    with pytest.raises(SerializationError):
        await job.result()
    assert (await job.info()).success is False


async def test_an_expired_job_is_told_in_it(make_worker, client, pair):
    await client.zadd("arq:queue", {"gone": 1})
    worker = make_worker([add], **pair)
    await worker.async_run()
    assert worker.jobs_failed == 1
    [result] = await client.all_job_results()
    assert (result.job_id, result.success) == ("gone", False)


async def test_a_job_in_another_form_fails_and_stops_nobody(make_worker, client, pair, arq_redis):
    await arq_redis.enqueue_job("add", 1, _job_id="pickled")
    readable = await client.enqueue_job("add", 1)
    worker = make_worker([add], **pair)
    await worker.async_run()
    assert (worker.jobs_complete, worker.jobs_failed) == (1, 1)
    assert await readable.result() == {"sum": 1}


async def test_a_job_that_cannot_be_unpickled_fails_with_arqs_error(make_worker, arq_redis):
    await arq_redis.psetex("arq:job:one", 60_000, b"\x80\x04not a pickle")
    await arq_redis.zadd("arq:queue", {"one": 1})
    worker = make_worker([add])
    await worker.async_run()
    assert worker.jobs_failed == 1
    [result] = await arq_redis.all_job_results()
    assert isinstance(result.result, DeserializationError)
    assert str(result.result) == "unable to deserialize job"


async def test_arguments_that_cannot_be_written_are_refused_before_anything_is(client):
    with pytest.raises(SerializationError, match='unable to serialize job "add"'):
        await client.enqueue_job("add", object())
    assert await client.keys("*") == []
