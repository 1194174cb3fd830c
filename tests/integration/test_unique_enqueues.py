"""Unique jobs beside all else an enqueue may ask for: signatures, hooks; and what a server may do about them."""

import asyncio

import fakeredis
import pytest

from common import Context, Debounce, Throttle, Unique, task
from common.errors import ConfigurationError, DuplicateJob, NotSerializable, RedisUnavailable
from common.redis.control import Abort, ControlStore
from common.redis.unique import UniqueStore
from producer import Producer
from producer import client as producer_client
from producer.options import EnqueueOptions
from tests.support.passing_time import pass_time
from tests.support.running import producer, run_worker

__all__ = ["producer", "run_worker"]

pytestmark = pytest.mark.leaves_keys("arq:*", "barque:wake:*")

KEYS = f"k1:{'s' * 40}"

ran: list[object] = []


@task(unique=Unique(key="user", on_conflict="replace"))
async def latest(ctx: Context, user: str, what: str) -> str:
    ran.append((what, dict(ctx.metadata)))
    return what


@task(queue="bad", unique=Unique())
async def in_a_bad_queue(ctx: Context, n: int) -> None: ...


@task
async def plain(ctx: Context, n: int) -> int:
    return n


@pytest.fixture(autouse=True)
def nothing_ran_yet():
    ran.clear()


@pytest.fixture
async def signing(redis_url, monkeypatch):
    monkeypatch.setenv("BARQUE_SIGNING_KEYS", KEYS)
    async with Producer(redis_url) as opened:
        yield opened


# Signed


async def test_what_replaces_another_jobs_payload_is_signed_for_that_job(signing, run_worker):
    first = await signing.enqueue(latest("u1", "first"))
    second = await signing.enqueue(latest("u1", "second"), metadata={"by": "two"})
    assert second.replaced
    await run_worker(latest)
    assert await first.result(timeout=10) == "second"
    assert ran == [("second", {"by": "two"})]


async def test_in_another_queue_it_is_signed_for_the_queue_that_the_job_is_in(signing, run_worker):
    first = await signing.enqueue(latest("u1", "first"))
    second = await signing.enqueue(latest("u1", "second"), queue="elsewhere")
    assert (second.replaced, second.queue) == (True, first.queue)
    await run_worker(latest)
    assert await first.result(timeout=10) == "second"


async def test_several_of_one_call_are_signed_in_their_order(signing, run_worker):
    jobs = await signing.enqueue_many([latest("u1", str(n)) for n in range(5)])
    assert [job.replaced for job in jobs] == [False, True, True, True, True]
    await run_worker(latest)
    assert await jobs[0].result(timeout=10) == "4"


async def test_debounced_and_trailing_jobs_are_signed_too(signing, run_worker, redis):
    for call in range(3):
        debounced = await signing.enqueue(latest("u1", f"{call}"), unique=Debounce(60, key="user"))
        throttled = await signing.enqueue(latest("u2", f"{call}"), unique=Throttle(60, trailing=True, key="user"))
    await run_worker(latest)
    await pass_time(redis, 61)
    assert [await job.result(timeout=10) for job in (debounced, throttled)] == ["2", "2"]


async def test_one_that_ends_while_its_replacement_is_signed_is_followed_by_a_new_job(signing, monkeypatch, redis):
    first = await signing.enqueue(latest("u1", "first"))
    enqueue, calls = UniqueStore.enqueue, 0

    async def ended_in_between(store, jobs):
        nonlocal calls
        calls += 1
        answers = await enqueue(store, jobs)
        if calls == 1:
            assert [answer.word for answer in answers] == ["sign"]
            ended = await ControlStore(redis).abort("arq:queue", [Abort(first.job_id, b"")], keep_ms=0)
            assert ended == ["cancelled"]
        return answers

    monkeypatch.setattr(UniqueStore, "enqueue", ended_in_between)
    second = await signing.enqueue(latest("u1", "second"))
    assert (second.is_new, calls) == (True, 2)


# Hooks


async def test_hooks_see_unique_enqueues_and_what_they_add_travels_with_replacements(
    redis_url, run_worker, monkeypatch
):
    monkeypatch.setenv("BARQUE_SIGNING_KEYS", KEYS)
    seen = []

    def traced(call, options):
        seen.append(call.args)
        return options.with_metadata({"trace": len(seen)})

    async with Producer(redis_url, before_enqueue=[traced]) as producer:
        await producer.enqueue(latest("u1", "first"))
        job = await producer.enqueue(latest("u1", "second"))
        assert seen == [("u1", "first"), ("u1", "second")]
        await run_worker(latest)
        await job.result(timeout=10)
    assert ran == [("second", {"trace": 2})]


async def test_a_hook_does_not_say_what_is_unique(redis_url):
    async with Producer(redis_url, before_enqueue=[lambda *_: EnqueueOptions(unique=False)]) as producer:
        for call in (latest("u1", "x"), plain(1)):
            with pytest.raises(ConfigurationError, match="changed unique="):
                await producer.enqueue(call)


# A server that refuses, or is away


async def test_a_refused_job_is_refused_and_its_neighbours_are_not(producer, redis):
    await redis.set("bad", b"a string")
    good, bad = await asyncio.gather(
        producer.enqueue(latest("u1", "x")), producer.enqueue(latest("u2", "x"), queue="bad"), return_exceptions=True
    )
    assert good.is_new
    assert isinstance(bad, RedisUnavailable)
    assert "did not take 1 job(s): " in str(bad)
    assert "WRONGTYPE" in str(bad)
    with pytest.raises(RedisUnavailable, match=r"did not take 1 job\(s\), but has the other 2 of this call"):
        await producer.enqueue_many([in_a_bad_queue(1), latest("u3", "x"), plain(1)])
    await redis.delete("bad")


async def test_a_producer_that_is_closed_says_so(redis_url):
    producer = Producer(redis_url)
    for enqueueing in (producer.enqueue(latest("u1", "x")), producer.enqueue_many([latest("u1", "x")])):
        with pytest.raises(RedisUnavailable, match="not open"):
            await enqueueing


async def test_nothing_is_sent_when_one_of_a_call_cannot_travel(producer, redis):
    for broken in (latest("u1", object()), latest(object(), "x")):
        with pytest.raises(NotSerializable):
            await producer.enqueue_many([plain(1), latest("u2", "x"), broken])
    assert not await redis.exists("arq:queue")


async def test_what_a_key_function_raises_is_raised_where_it_is_enqueued(producer):
    with pytest.raises(ZeroDivisionError):
        await producer.enqueue(latest("u1", "x"), unique=Unique(key=lambda *_: 1 / 0))


async def test_of_many_that_wait_each_is_told_when_the_server_does_not_answer(redis_url):
    async with Producer(redis_url, answer_within=0.2) as producer:
        client = producer.store.client
        await client.execute_command("CLIENT", "PAUSE", 2000, "WRITE")
        try:
            told = await asyncio.gather(
                *(producer.enqueue(latest(f"u{n}", "x")) for n in range(3)), return_exceptions=True
            )
        finally:
            await client.execute_command("CLIENT", "UNPAUSE")
    assert all(isinstance(error, RedisUnavailable) for error in told)
    assert len({id(error) for error in told}) == 3


# On fakeredis, which a user's own tests may use


async def test_on_fakeredis(monkeypatch):
    server = fakeredis.FakeServer()

    async def open_fake(settings, *, name=None):
        return fakeredis.FakeAsyncRedis(server=server)

    monkeypatch.setattr(producer_client, "open_client", open_fake)
    async with Producer() as producer:
        jobs = [await producer.enqueue(latest("u1", str(n))) for n in range(2)]
        assert [(job.is_new, job.replaced) for job in jobs] == [(True, False), (False, True)]
        with pytest.raises(DuplicateJob):
            await producer.enqueue(latest("u1", "x"), unique=Unique(key="user", on_conflict="reject"))
        throttle = Throttle(60, trailing=True, key="user")
        many = [await producer.enqueue(latest("u2", str(n)), unique=throttle) for n in range(3)]
        assert [job.is_new for job in many] == [True, True, False]
        assert (await producer.enqueue(latest("u3", "x"), unique=Debounce(5, at_most=9, key="user"))).is_new
        assert not (await producer.enqueue(latest("u3", "x"), unique=Debounce(5, at_most=9, key="user"))).is_new
