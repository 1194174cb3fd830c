"""abort.lua through Store.abort: a waiting job ends now, a running one by its own worker."""

import asyncio

import pytest

from common.redis.connection import connect
from common.redis.push import frames
from common.redis.store import Store
from common.settings import Settings

WAITING = {"q": {"a": 5, "b": 6}, "arq:job:a": b"A", "arq:job:b": b"B", "arq:retry:a": b"2"}
LEFT = {"q": {"b": 6}, "arq:job:b": b"B"}
RUNNING = {"q": {"a": "now+10s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:1:1", "10s")}

CASES = {
    "waiting: it has ended, and its result is kept": (
        WAITING, 60_000, "cancelled", {**LEFT, "arq:result:a": (b"R", "60s")},
    ),
    "waiting, no results kept": (WAITING, 0, "cancelled", LEFT),
    "due later": (
        {"q": {"a": "now+60s"}, "arq:job:a": b"A"}, 0, "cancelled", {},
    ),
    "the last one of its queue takes the marker along": (
        {"q": {"a": 5}, "arq:job:a": b"A", "barque:wake:q": {"due": 0}}, 0, "cancelled", {},
    ),
    "waiting though its payload expired": ({"q": {"a": 5}}, 60_000, "cancelled", {"arq:result:a": (b"R", "60s")}),
    "an earlier wish is settled": (
        {**WAITING, "arq:abort": {"a": 1, "c": 2}}, 0, "cancelled", {**LEFT, "arq:abort": {"c": 2}},
    ),
    "running: its worker is told": (RUNNING, 60_000, "running", {**RUNNING, "arq:abort": {"a": "now"}}),
    "run by a stock arq worker": (
        {**RUNNING, "arq:in-progress:a": (b"1", "300s")}, 60_000, "running",
        {**RUNNING, "arq:in-progress:a": (b"1", "300s"), "arq:abort": {"a": "now"}},
    ),
    "missing": ({}, 60_000, "missing", {}),
    "ended": ({"arq:result:a": b"old"}, 60_000, "missing", {"arq:result:a": b"old"}),
    "in another queue": ({"r": {"a": 5}, "arq:job:a": b"A"}, 60_000, "missing", {"r": {"a": 5}, "arq:job:a": b"A"}),
    "an ended cron tick does not run": (
        {"arq:in-progress:a": (b"done", "60s")}, 60_000, "missing", {"arq:in-progress:a": (b"done", "60s")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_abort(case, keyspace, store):
    before, keep_ms, answer, after = CASES[case]
    await keyspace.seed(before)
    assert await store.abort("q", "a", result=b"R", keep_ms=keep_ms) == answer
    assert await keyspace.dump() == after


async def one_message(pubsub) -> bytes:
    async with asyncio.timeout(10):
        while (message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)) is None:
            pass
    return message["data"]


@pytest.mark.parametrize(("keep_ms", "channel"), [(0, "c"), (60_000, "c")])
async def test_who_waits_for_a_job_that_was_waiting_has_its_end_pushed(keep_ms, channel, keyspace, store, redis):
    await keyspace.seed({**WAITING, "barque:waiters": {"a": b"c"}})
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(channel)
        await pubsub.get_message(timeout=5)
        await store.abort("q", "a", result=b"R", keep_ms=keep_ms)
        assert [frame[:2] for frame in frames(await one_message(pubsub))] == [("a", b"R")]


async def test_the_worker_that_runs_it_is_told_at_once(keyspace, store, redis):
    await keyspace.seed(RUNNING)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe("barque:control")
        await pubsub.get_message(timeout=5)
        await store.abort("q", "a", result=b"R", keep_ms=0)
        assert await one_message(pubsub) == b"abort a"


async def test_an_id_that_is_no_utf8_is_aborted_too(keyspace, store, redis):
    await redis.zadd("q", {b"\xff": 5})
    assert await store.abort("q", "\udcff", result=b"R", keep_ms=0) == "cancelled"
    assert await keyspace.dump() == {}


async def test_a_running_job_is_aborted_by_who_may_not_publish(keyspace, store, redis, server):
    await keyspace.seed(RUNNING)
    await redis.execute_command("ACL", "SETUSER", "mute", "on", "nopass", "~*", "+@all", "resetchannels")
    client = connect(Settings(redis_url=f"redis://mute:any@{server.url.partition('//')[2].rpartition('@')[2]}"))
    try:
        assert await Store(client).abort("q", "a", result=b"R", keep_ms=0) == "running"
    finally:
        await client.aclose()
        await redis.execute_command("ACL", "DELUSER", "mute")
