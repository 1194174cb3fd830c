"""abort.lua through ControlStore.abort: a waiting job ends now, a running one by its own worker."""

import asyncio

import pytest

from common.redis.connection import connect
from common.redis.control import Abort, ControlStore
from common.redis.push import frames
from common.settings import Settings

WAITING = {"q": {"a": 5, "b": 6}, "arq:job:a": b"A", "arq:job:b": b"B", "arq:retry:a": b"2"}
LEFT = {"q": {"b": 6}, "arq:job:b": b"B"}
RUNNING = {"q": {"a": "now+10s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:1:1", "10s")}

CASES = {
    "waiting: it has ended, and its result is kept": (
        WAITING, 60_000, "cancelled", {**LEFT, "arq:result:a": (b"R", "60s")},
    ),
    "waiting, no results kept": (WAITING, 0, "cancelled", LEFT),
    "waiting for another attempt: the history of those it had is kept with its result": (
        {**WAITING, "barque:attempts:a": [b"E"]}, 60_000, "cancelled",
        {**LEFT, "arq:result:a": (b"R", "60s"), "barque:attempts:a": ([b"E"], "60s")},
    ),
    "waiting for another attempt, no results kept": ({**WAITING, "barque:attempts:a": [b"E"]}, 0, "cancelled", LEFT),
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


@pytest.fixture
def abort(redis):
    async def one(job_id="a", *, keep_ms=60_000, payload=None):
        (answer,) = await ControlStore(redis).abort("q", [Abort(job_id, b"R", payload)], keep_ms=keep_ms)
        return answer

    return one


@pytest.mark.parametrize(("before", "answer"), [(RUNNING, "spared"), (WAITING, "cancelled"), ({}, "missing")])
async def test_what_runs_may_be_left_alone(before, answer, keyspace, redis):
    await keyspace.seed(before)
    found = await ControlStore(redis).abort("q", [Abort("a", b"R")], keep_ms=0, spares_running=True)
    assert found == [answer]
    if answer == "spared":
        assert await keyspace.dump() == RUNNING


@pytest.mark.parametrize("case", CASES)
async def test_abort(case, keyspace, abort):
    before, keep_ms, answer, after = CASES[case]
    await keyspace.seed(before)
    assert await abort(keep_ms=keep_ms) == answer
    assert await keyspace.dump() == after


async def test_many_are_aborted_each_as_it_stands(keyspace, redis):
    await keyspace.seed({
        **WAITING, "q": {"a": 5, "b": 6, "c": "lease+10s", "later": "now+60s"},
        "arq:in-progress:c": (b"w:1:1", "10s"), "arq:job:c": b"C",
    })  # fmt: skip
    jobs = [Abort(job_id, job_id.encode()) for job_id in ("a", "c", "gone", "later")]
    answers = await ControlStore(redis).abort("q", jobs, keep_ms=60_000)
    assert answers == ["cancelled", "running", "missing", "cancelled"]
    assert await keyspace.dump() == {
        "q": {"b": 6, "c": "lease+10s"}, "arq:job:b": b"B", "arq:job:c": b"C", "arq:abort": {"c": "now"},
        "arq:in-progress:c": (b"w:1:1", "10s"), "arq:result:a": (b"a", "60s"), "arq:result:later": (b"later", "60s"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("there", "expected", "answer"),
    [
        (b"A", b"A", "cancelled"),
        (b"A", b"B", "changed"),
        (b"A", b"", "changed"),
        (b"A", None, "cancelled"),
        (None, b"", "cancelled"),
        (None, b"A", "changed"),
    ],
)
@pytest.mark.parametrize("runs", [False, True])
async def test_only_the_job_that_was_meant_is_aborted(there, expected, answer, runs, keyspace, abort):
    before = {"q": {"a": 5}} | ({"arq:job:a": there} if there else {})
    if runs:
        before |= {"q": {"a": "lease+10s"}, "arq:in-progress:a": (b"w:1:1", "10s")}
        answer = "running" if answer == "cancelled" else answer
    await keyspace.seed(before)
    assert await abort(payload=expected) == answer
    if answer == "changed":
        assert await keyspace.dump() == before


async def test_a_wish_made_of_a_job_that_runs_says_so(keyspace, abort, redis):
    await keyspace.seed(RUNNING)
    assert await abort() == "running"
    assert await redis.zscore("arq:abort", "a") % 1 == 0.25


async def test_a_full_server_still_aborts(keyspace, abort, full):
    await keyspace.seed({**WAITING, "q": {"a": 5, "b": "lease+10s"}, "arq:in-progress:b": (b"w:1:1", "10s")})
    await full()
    assert await abort("a") == "cancelled"
    assert await abort("b") == "running"
    assert set(await keyspace.dump()) == {"q", "arq:job:b", "arq:in-progress:b", "arq:abort", "arq:result:a"}


async def one_message(pubsub) -> bytes:
    async with asyncio.timeout(10):
        while (message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)) is None:
            pass
    return message["data"]


@pytest.mark.parametrize(("keep_ms", "channel"), [(0, "c"), (60_000, "c")])
async def test_who_waits_for_a_job_that_was_waiting_has_its_end_pushed(keep_ms, channel, keyspace, abort, redis):
    await keyspace.seed({**WAITING, "barque:waiters": {"a": b"c"}})
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(channel)
        await pubsub.get_message(timeout=5)
        await abort(keep_ms=keep_ms)
        assert [(frame.job_id, frame.content) for frame in frames(await one_message(pubsub))] == [("a", b"R")]


async def test_the_worker_that_runs_it_is_told_at_once(keyspace, abort, redis):
    await keyspace.seed(RUNNING)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe("barque:control")
        await pubsub.get_message(timeout=5)
        await abort(keep_ms=0)
        assert await one_message(pubsub) == b"abort w:1:1 a"


async def test_an_id_that_is_no_utf8_is_aborted_too(keyspace, abort, redis):
    await redis.zadd("q", {b"\xff": 5})
    assert await abort("\udcff", keep_ms=0) == "cancelled"
    assert await keyspace.dump() == {}


async def test_a_running_job_is_aborted_by_who_may_not_publish(keyspace, redis, server):
    await keyspace.seed(RUNNING)
    await redis.execute_command("ACL", "SETUSER", "mute", "on", "nopass", "~*", "+@all", "resetchannels")
    client = connect(Settings(redis_url=f"redis://mute:any@{server.url.partition('//')[2].rpartition('@')[2]}"))
    try:
        assert await ControlStore(client).abort("q", [Abort("a", b"R")], keep_ms=0) == ["running"]
    finally:
        await client.aclose()
        await redis.execute_command("ACL", "DELUSER", "mute")
