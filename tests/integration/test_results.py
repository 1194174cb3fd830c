"""producer/results.py: results pushed to who waits, whatever happens to the connection."""

import asyncio
import re
import socket

import pytest

from common.embedded import EmbeddedServer
from common.errors import JobNotFound, RedisUnavailable
from common.redis.connection import connect
from common.redis.store import Finish, HeldLease, Store
from common.result_codec import Result, encode_result
from common.settings import Settings
from producer import results as results_module
from producer.answers import Answers
from producer.results import ResultListener

LEASE = "w:1:1"
ANSWERS = Answers("the test server", within=30.0)


@pytest.fixture
async def listener(store):
    listening = ResultListener(store, "test", ANSWERS)
    yield listening
    await listening.aclose()


@pytest.fixture
def no_slow_look(monkeypatch):
    """Nothing but a push may bring a result."""
    monkeypatch.setattr(results_module, "_LOOK_EVERY", 3600.0)


async def running(redis, *job_ids: str) -> None:
    for job_id in job_ids:
        await redis.set(f"arq:in-progress:{job_id}", LEASE)
        await redis.set(f"arq:job:{job_id}", b"J")


async def finish(store: Store, *job_ids: str, result: bytes = b"R", keep_ms: int = 0) -> None:
    await store.complete(("q",), [Finish(HeldLease(0, job_id, LEASE, 1), result, keep_ms) for job_id in job_ids])


async def registered(redis, *job_ids: str) -> None:
    """Wait until the server knows who waits."""
    async with asyncio.timeout(10):
        while not all(await redis.hmget("barque:waiters", *job_ids)):
            await asyncio.sleep(0)


def waiting(listener, *job_ids: str) -> list[asyncio.Task[bytes]]:
    return [asyncio.create_task(listener.wait(job_id)) for job_id in job_ids]


async def all_of(tasks):
    async with asyncio.timeout(20):
        return await asyncio.gather(*tasks)


async def test_a_result_that_is_there_already_is_given_at_once(listener, keyspace, no_slow_look):
    await keyspace.seed({"arq:result:a": b"R"})
    assert await all_of(waiting(listener, "a")) == [b"R"]


async def test_a_result_is_pushed_when_the_job_ends(listener, store, redis, keyspace, no_slow_look):
    await running(redis, "a")
    tasks = waiting(listener, "a")
    await registered(redis, "a")
    await finish(store, "a")
    assert await all_of(tasks) == [b"R"]
    left = await keyspace.dump()
    assert left == {"barque:result:a": (b"R", "60s")}, (
        "what is not kept is pushed, and stays but for who just missed it"
    )


async def test_a_job_that_ends_between_asking_and_registering_is_not_missed(
    listener, store, redis, keyspace, no_slow_look
):
    # Ends race with registrations in every order; whatever the order, each waiter has its result.
    names = [f"j{n}" for n in range(300)]
    await running(redis, *names)
    tasks = []
    for start in range(0, 300, 10):
        part = names[start : start + 10]
        tasks += waiting(listener, *part)
        await asyncio.gather(
            finish(store, *part[:5], keep_ms=60_000), asyncio.sleep(0), finish(store, *part[5:], keep_ms=60_000)
        )
    assert await all_of(tasks) == [b"R"] * 300


async def test_many_wait_for_one_job(listener, store, redis, keyspace, no_slow_look):
    await running(redis, "a")
    tasks = waiting(listener, *["a"] * 50)
    await registered(redis, "a")
    tasks += waiting(listener, *["a"] * 50)
    await asyncio.sleep(0)
    await finish(store, "a", keep_ms=60_000)
    assert await all_of(tasks) == [b"R"] * 100


async def test_two_producers_wait_for_one_job(listener, store, redis, keyspace, no_slow_look):
    other = ResultListener(store, "other", ANSWERS)
    await running(redis, "a")
    tasks = waiting(listener, "a") + waiting(other, "a")
    async with asyncio.timeout(10):
        while len((await redis.hget("barque:waiters", "a") or b"").split()) < 2:
            await asyncio.sleep(0)
    await finish(store, "a")
    assert await all_of(tasks) == [b"R", b"R"]
    await other.aclose()


@pytest.mark.parametrize("keep_ms", [0, 60_000])
async def test_a_large_result_is_fetched_where_it_is_kept_and_pushed_where_not(
    keep_ms, listener, store, redis, keyspace, no_slow_look
):
    await running(redis, "a", "b")
    large = bytes(range(256)) * 1024
    tasks = waiting(listener, "a", "b")
    await registered(redis, "a", "b")
    await finish(store, "a", result=large, keep_ms=keep_ms)
    await finish(store, "b")
    assert await all_of(tasks) == [large, b"R"]


async def test_after_a_lost_subscription_all_waits_are_registered_anew(listener, store, redis, keyspace, no_slow_look):
    await running(redis, "before", "meanwhile", "after")
    tasks = waiting(listener, "before", "meanwhile", "after")
    await registered(redis, "before", "meanwhile", "after")
    await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    # Ended while nobody listened: pushed to nobody, found when the subscription is back.
    await finish(store, "meanwhile", keep_ms=60_000)
    async with asyncio.timeout(20):
        await asyncio.wait({tasks[1]})
    await finish(store, "before", "after")
    assert await all_of(tasks) == [b"R"] * 3


async def test_a_wait_begun_while_the_subscription_is_lost_is_served_too(
    listener, store, redis, keyspace, no_slow_look
):
    await running(redis, "a", "b")
    tasks = waiting(listener, "a")
    await registered(redis, "a")
    for _ in range(3):
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    tasks += waiting(listener, "b")
    await registered(redis, "b")
    await finish(store, "a", "b", keep_ms=60_000)
    assert await all_of(tasks) == [b"R", b"R"]


async def test_what_a_stock_arq_worker_ends_without_a_word_is_found_by_the_slow_look(
    listener, redis, keyspace, monkeypatch
):
    monkeypatch.setattr(results_module, "_LOOK_EVERY", 0.01)
    await running(redis, "a")
    tasks = waiting(listener, "a")
    await registered(redis, "a")
    await redis.set("arq:result:a", b"R")
    await redis.delete("arq:job:a", "arq:in-progress:a")
    assert await all_of(tasks) == [b"R"]
    assert await redis.exists("barque:waiters") == 0, "nobody is left on the list"


async def test_a_job_that_vanishes_is_not_waited_for_without_end(listener, redis, keyspace, monkeypatch):
    monkeypatch.setattr(results_module, "_LOOK_EVERY", 0.01)
    await running(redis, "a")
    tasks = waiting(listener, "a")
    await registered(redis, "a")
    await redis.delete("arq:job:a", "arq:in-progress:a")
    with pytest.raises(JobNotFound, match="job a is not there") as raised:
        await all_of(tasks)
    assert raised.value.job_id == "a"


async def test_a_waiter_that_gives_up_does_not_disturb_another(listener, store, redis, keyspace, no_slow_look):
    await running(redis, "a")
    quitter, stayer = waiting(listener, "a", "a")
    await registered(redis, "a")
    quitter.cancel()
    await asyncio.wait({quitter})
    await finish(store, "a")
    assert await all_of([stayer]) == [b"R"]


async def test_nonsense_on_the_channel_ends_no_wait(listener, store, redis, keyspace, no_slow_look):
    await running(redis, "a")
    tasks = waiting(listener, "a")
    await registered(redis, "a")
    await redis.publish("barque:results:test", b"\x00\x00")
    await finish(store, "a", keep_ms=60_000)
    assert await all_of(tasks) == [b"R"]


class OddStore(Store):
    """A store whose third look raises what nobody expects."""

    looks = 0

    async def await_results(self, channel, job_ids):
        self.looks += 1
        if self.looks == 3:
            raise UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed")
        return await super().await_results(channel, job_ids)


async def test_the_slow_look_survives_any_error(redis, keyspace, monkeypatch, caplog):
    monkeypatch.setattr(results_module, "_LOOK_EVERY", 0.01)
    store = OddStore(redis)
    listener = ResultListener(store, "test", ANSWERS)
    await running(redis, "a")
    tasks = waiting(listener, "a")
    async with asyncio.timeout(10):
        while store.looks < 4:
            await asyncio.sleep(0)
    await redis.set("arq:result:a", b"R")
    assert await all_of(tasks) == [b"R"]
    await listener.aclose()
    assert "waiting for results: UnicodeEncodeError" in caplog.text


@pytest.fixture
async def nowhere():
    """A listener whose server is not there."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = connect(Settings(redis_url=f"redis://127.0.0.1:{unused.getsockname()[1]}"))
        yield lambda within: ResultListener(Store(client), "test", Answers("the test server", within))
        await client.aclose()


async def test_a_wait_for_a_server_that_is_not_there_ends_in_time(nowhere):
    listener = nowhere(0.1)
    async with asyncio.timeout(10):
        with pytest.raises(RedisUnavailable, match=r"the test server .*0\.1 s"):
            await listener.wait("a")
    await listener.aclose()


async def test_closing_ends_a_wait_that_never_came_to_be_subscribed(nowhere):
    listener = nowhere(300.0)
    (task,) = waiting(listener, "a")
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await listener.aclose()
        assert await asyncio.wait({task})
    assert task.cancelled()


async def test_a_server_that_is_gone_for_too_long_ends_the_waits_under_way():
    with EmbeddedServer() as server:
        client = connect(Settings(redis_url=server.url))
        listener = ResultListener(Store(client), "test", Answers("the test server", 0.2))
        await running(client, "a", "b")
        tasks = waiting(listener, "a", "b")
        await registered(client, "a", "b")
        server.kill()
        async with asyncio.timeout(20):
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        await listener.aclose()
        await client.aclose()
    assert [type(error) for error in ended] == [RedisUnavailable] * 2
    # The second where the server died between taking the wish and saying so.
    assert re.search("has been away for 0.2 s|cannot be asked for the result of job a", str(ended[0]))


async def test_a_wait_outlives_the_connection_over_which_it_was_asked_for(
    listener, store, redis, keyspace, monkeypatch
):
    monkeypatch.setattr(results_module, "_LOOK_EVERY", 0.01)
    await running(redis, "a")
    real, asked = store.await_results, []

    async def lost_at_first(channel, job_ids):
        asked.append(job_ids)
        if len(asked) == 1:
            raise ConnectionResetError
        return await real(channel, job_ids)

    monkeypatch.setattr(store, "await_results", lost_at_first)
    (task,) = waiting(listener, "a")
    await registered(redis, "a")
    await finish(store, "a")
    assert await all_of([task]) == [b"R"]
    assert len(asked) > 1


async def test_closing_ends_every_wait_and_every_task(listener, redis, keyspace):
    await running(redis, "a")
    before = asyncio.all_tasks()
    tasks = waiting(listener, "a")
    await registered(redis, "a")
    await listener.aclose()
    assert isinstance((await asyncio.gather(*tasks, return_exceptions=True))[0], asyncio.CancelledError)
    assert asyncio.all_tasks() == before


async def test_ten_thousand_waits(listener, store, redis, keyspace, no_slow_look):
    names = [f"j{n}" for n in range(10_000)]
    await redis.mset({f"arq:in-progress:{name}": LEASE for name in names})
    tasks = waiting(listener, *names)
    async with asyncio.timeout(30):
        while await redis.hlen("barque:waiters") < len(names):
            await asyncio.sleep(0.01)
    raw = encode_result(
        Result("j", "t", "q", success=True, value=1, attempt=1, enqueued_ms=1, started_ms=1, finished_ms=1)
    )
    await finish(store, *names, result=raw)
    assert await all_of(tasks) == [raw] * 10_000
