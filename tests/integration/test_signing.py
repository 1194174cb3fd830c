"""A worker with keys runs what was signed for it and nothing else, whatever is written to Redis."""

import asyncio
import pickle

import msgspec
import pytest
import structlog
from arq import cron, func
from arq.connections import ArqRedis, create_pool
from arq.connections import RedisSettings as ArqSettings
from arq.jobs import SerializationError

from common import NEVER, Call, Context, RetryPolicy, fixed, task
from common.codec import Extras, encode_job
from common.errors import ConfigurationError, JobCancelled, SignatureRefused, TaskFailed
from common.jobs import JobState
from common.result_codec import Result, encode_result
from common.settings import Settings, load_settings
from common.signing import Keyring
from producer import Producer
from tests.support.running import run_worker
from workers.worker import Worker

__all__ = ["run_worker"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:result:*")

SECRET = "s" * 40
KEYS = f"k1:{SECRET}"
REFUSED = "common.errors.SignatureRefused"
QUEUE = "arq:queue"

ran: list[object] = []


@task(retry=NEVER)
async def note(ctx: Context, what: str) -> str:
    ran.append(what)
    return f"noted {what}"


@task(retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def again(ctx: Context) -> int:
    if ctx.attempt == 1:
        raise ValueError("once more")
    return ctx.attempt


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("BARQUE_SIGNING_KEYS", KEYS)
    ran.clear()


@pytest.fixture
async def producer(redis_url, keys):
    async with Producer(redis_url) as opened:
        yield opened


@pytest.fixture
async def unsigned(redis_url, keys):
    """Somebody who can write to Redis and has no key."""
    async with Producer(settings=Settings(redis_url=redis_url, signing_keys=None)) as opened:
        yield opened


async def failure(job) -> TaskFailed:
    with pytest.raises(TaskFailed) as caught:
        await job.result(timeout=20)
    return caught.value


async def test_a_signed_fleet_works_as_any_other(producer, run_worker):
    await run_worker(note, again)
    assert await producer.gather(note("a"), note("b"), again()) == ["noted a", "noted b", 2]
    job = await producer.enqueue(note("c"), job_id="mine", expires=60, timeout=5, metadata={"m": 1})
    assert await job.result(timeout=20) == "noted c"
    assert await job.status() is JobState.SUCCEEDED
    info = await job.info()
    assert (info.arguments, info.metadata, info.result) == (("c",), {"m": 1}, "noted c")
    waiting = await producer.enqueue(note("d"), delay=3600)
    assert (await waiting.info()).arguments == ("d",)
    assert await waiting.abort()
    with pytest.raises(JobCancelled):
        await waiting.result(timeout=20)


async def test_whoever_has_no_key_makes_it_run_nothing(producer, unsigned, run_worker):
    theirs = await unsigned.enqueue_many([note("x"), note("y")])
    await run_worker(note)
    for job in theirs:
        error = await failure(producer.job(job.job_id))
        assert (error.remote_type, error.attempts) == (REFUSED, 1)
        assert "not signed" in error.remote_message
        assert "BARQUE_ACCEPT_UNSIGNED" in error.remote_message
    assert ran == []


async def test_the_log_says_why(unsigned, run_worker):
    with structlog.testing.capture_logs() as lines:
        job = await unsigned.enqueue(note("x"))
        await run_worker(note)
        assert (await failure(job)).remote_type == REFUSED
        async with asyncio.timeout(20):
            while not (said := [line for line in lines if line["event"] == "job_failed"]):
                await asyncio.sleep(0.001)  # it is written after the result is pushed
    (line,) = said
    assert line["error"].startswith("common.errors.SignatureRefused: the payload is not signed")
    assert SECRET not in str(lines)


async def test_a_signed_payload_under_another_id_or_in_another_queue_is_refused(producer, redis, run_worker):
    job = await producer.enqueue(note("once"), queue="low")
    payload = await redis.get(f"arq:job:{job.job_id}")
    await redis.set("arq:job:copied", payload)
    await redis.zadd("low", {"copied": 1})
    moved = await producer.enqueue(note("moved"), queue="low")
    await redis.zrem("low", moved.job_id)
    await redis.zadd("high", {moved.job_id: 1})
    await run_worker(note, queues=["low", "high"])
    for refused in (producer.job("copied", queue="low"), moved):
        error = await failure(refused)
        assert error.remote_type == REFUSED
        assert "another job id or queue" in error.remote_message
    assert await job.result(timeout=20) == "noted once"
    assert ran == ["once"]


async def test_nothing_of_a_signed_job_can_be_changed(producer, redis, run_worker):
    job = await producer.enqueue(note("honest"), timeout=5, metadata={"user": "a"})
    key = f"arq:job:{job.job_id}"
    payload = await redis.get(key)
    data = msgspec.msgpack.decode(payload)
    data["b"]["meta"]["user"] = "b"
    forged = msgspec.msgpack.encode(data)
    assert (len(forged), forged[-41:]) == (len(payload), payload[-41:]), "the signature itself is the old one"
    await redis.set(key, forged)
    await run_worker(note)
    assert (await failure(job)).remote_type == REFUSED
    assert ran == []


async def test_a_job_that_expired_stays_expired_though_its_ttl_is_taken_away(producer, redis, run_worker):
    keyring = Keyring({"k1": SECRET})
    now = (await redis.time())[0] * 1000
    for job_id, until in (("over", now - 5000), ("open", now + 3_600_000)):
        payload = encode_job("note", (job_id,), {}, enqueued_ms=now, extras=Extras(until=until))
        await redis.set(f"arq:job:{job_id}", keyring.seal_job(payload, job_id, QUEUE))
        await redis.zadd(QUEUE, {job_id: 1})
    await run_worker(note)
    assert (await failure(producer.job("over"))).remote_message == "job expired"
    assert await producer.job("open").result(timeout=20) == "noted open"
    assert ran == ["open"]


async def test_a_pickle_without_a_key_is_not_even_decoded(producer, redis, run_worker, monkeypatch, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    monkeypatch.setenv("BARQUE_ACCEPT_PICKLE", "true")
    await redis.set("arq:job:bomb", pickle.dumps({"t": None, "f": "note", "a": (Bomb(),), "k": {}, "et": 1}))
    await redis.zadd(QUEUE, {"bomb": 1})
    await run_worker(note)
    async with asyncio.timeout(20):
        while not await redis.exists("arq:result:bomb"):
            await asyncio.sleep(0)
    assert list(tmp_path.iterdir()) == []


async def test_pickles_are_signed_where_a_fleet_writes_them(redis_url, run_worker, monkeypatch):
    monkeypatch.setenv("BARQUE_ACCEPT_PICKLE", "true")
    settings = load_settings(redis_url=redis_url, payload_format="pickle")
    await run_worker(note)
    async with Producer(settings=settings) as producer:
        job = await producer.enqueue(note("p"))
        assert await job.result(timeout=20) == "noted p"


class TestResults:
    async def forge(self, redis, job, **changes) -> None:
        given = {
            "job_id": job.job_id, "task": "note", "queue": QUEUE, "success": True, "value": "forged", "attempt": 1,
            "enqueued_ms": 1, "started_ms": 1, "finished_ms": 1, "outcome": "succeeded",
        }  # fmt: skip
        await redis.set(f"arq:result:{job.job_id}", encode_result(Result(**given | changes)))

    async def test_a_forged_result_is_refused(self, producer, redis):
        job = producer.job("never-ran", task=note)
        await self.forge(redis, job)
        with pytest.raises(SignatureRefused, match="result is not signed"):
            await job.result(timeout=20)
        assert await job.status() is JobState.ENDED
        info = await job.info()
        assert (info.result, info.error.type) == (None, REFUSED)

    async def test_a_true_result_of_another_job_is_refused(self, producer, redis, run_worker):
        await run_worker(note)
        true = await producer.enqueue(note("true"))
        await true.wait(timeout=20)
        other = producer.job("other", task=note)
        await redis.set("arq:result:other", await redis.get(f"arq:result:{true.job_id}"))
        with pytest.raises(SignatureRefused, match="does not fit"):
            await other.result(timeout=20)

    async def test_one_that_is_pushed_is_refused_too(self, producer, redis):
        job = await producer.enqueue(note("never"), delay=3600)
        waiting = asyncio.create_task(job.result(timeout=20))
        channel = None
        async with asyncio.timeout(20):
            while channel is None:
                channel = await redis.hget("barque:waiters", job.job_id)
                await asyncio.sleep(0)
        job_id, body = job.job_id.encode(), b"\x83\xa1f\xa4note\xa1s\xc3\xa1r\xa6forged"
        await redis.publish(channel, len(job_id).to_bytes(4) + len(body).to_bytes(4) + job_id + body)
        with pytest.raises(SignatureRefused):
            await waiting
        await job.abort()

    async def test_a_worker_without_keys_gives_no_result_that_passes(self, producer, run_worker, monkeypatch):
        monkeypatch.delenv("BARQUE_SIGNING_KEYS")
        await run_worker(note)
        job = await producer.enqueue(note("a"))
        with pytest.raises(SignatureRefused, match="Set it where the job is run"):
            await job.result(timeout=20)


class TestMovingOver:
    async def test_unsigned_jobs_run_and_unsigned_results_pass(self, redis_url, unsigned, run_worker, monkeypatch):
        monkeypatch.setenv("BARQUE_ACCEPT_UNSIGNED", "true")
        await run_worker(note)
        assert await (await unsigned.enqueue(note("old"))).result(timeout=20) == "noted old"
        async with Producer(redis_url) as producer:
            assert await (await producer.enqueue(note("new"))).result(timeout=20) == "noted new"

    async def test_a_new_key_is_first_accepted_and_then_used(self, redis_url, run_worker, monkeypatch):
        other = f"k2:{'t' * 40}"
        monkeypatch.setenv("BARQUE_SIGNING_KEYS", f"{KEYS},{other}")
        await run_worker(note)
        for text in (KEYS, f"{KEYS},{other}", f"{other},{KEYS}"):
            async with Producer(settings=load_settings(redis_url=redis_url, signing_keys=text)) as producer:
                assert await (await producer.enqueue(note(text))).result(timeout=20) == f"noted {text}"


class TestArqsOwnWay:
    @pytest.mark.parametrize("accept_pickle", ["true", "false"])
    @pytest.mark.parametrize("serializer", [None, msgspec.msgpack.encode])
    async def test_a_stock_producer_is_told_which_setting_it_is(
        self, redis_url, run_worker, monkeypatch, accept_pickle, serializer
    ):
        monkeypatch.setenv("BARQUE_ACCEPT_PICKLE", accept_pickle)
        await run_worker(note)
        reader = None if serializer is None else msgspec.msgpack.decode
        pool = await create_pool(ArqSettings.from_dsn(redis_url), job_serializer=serializer, job_deserializer=reader)
        job = await pool.enqueue_job("note", "x")
        with pytest.raises(SerializationError, match="BARQUE_SIGNING_KEYS"):
            await job.result(timeout=20, poll_delay=0.05)
        await pool.aclose()
        assert ran == []

    @pytest.mark.leaves_keys("arq:result:*", "barque:result:*", "arq:in-progress:cron:*")
    async def test_jobs_that_tasks_and_cron_enqueue_are_signed(self, producer, run_worker):
        done = asyncio.Event()
        handles = []

        async def parent(ctx):
            handles.append(await ctx["redis"].enqueue_job("note", "child", _job_id="child"))

        async def tick(ctx):
            done.set()

        await run_worker(note, func(parent, name="parent"), cron_jobs=[cron(tick, month=1, day=1, run_at_startup=True)])
        await (await producer.enqueue(Call("parent"))).result(timeout=20)
        assert await producer.job("child", task=note).result(timeout=20) == "noted child"
        await asyncio.wait_for(done.wait(), 20)
        assert await handles[0].result(timeout=20) == "noted child", "arq's own handle reads a signed result"

    async def test_a_pool_of_the_callers_stays_unsigned(self, redis_url, producer):
        pool = await create_pool(ArqSettings.from_dsn(redis_url))
        job = await producer.enqueue(note("a"))
        worker = Worker([note], redis_pool=pool, burst=True, handle_signals=False)
        await worker.async_run()
        assert isinstance(worker.pool, ArqRedis)
        assert (worker.pool is pool, worker.jobs_complete) == (False, 1)
        assert "enqueue_job" not in vars(pool)
        assert pool.job_serializer is None
        assert await job.result(timeout=20) == "noted a"
        await worker.close()

    async def test_a_serializer_of_ones_own_is_a_clear_error(self, run_worker):
        with pytest.raises(ConfigurationError, match="BARQUE_SIGNING_KEYS"):
            await run_worker(note, job_serializer=msgspec.msgpack.encode)
