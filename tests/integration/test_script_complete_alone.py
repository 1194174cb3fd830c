"""complete.lua where one job ends: what has a way of its own there ends as it does in a batch."""

import pytest

from common.redis.connection import ServerError
from common.redis.store import Finish, HeldLease

TOKEN = "w:1:7"
RUNS = {"q": {"a": "lease+60s"}, "arq:job:a": b"A", "arq:in-progress:a": (TOKEN.encode(), "60s")}
BESIDE = {"q2": {"other": "lease+60s"}, "arq:job:other": b"O", "arq:in-progress:other": (TOKEN.encode(), "60s")}

STATES = {
    "a job that runs": RUNS,
    "one whose payload expired": {key: value for key, value in RUNS.items() if key != "arq:job:a"},
    "one that somebody waits for": RUNS | {"barque:waiters": {"a": b"one two"}},
    "where another is waited for": RUNS | {"barque:waiters": {"b": b"one"}},
    "one that is to be aborted": RUNS | {"arq:abort": {"a": "now-10s"}},
    "where another is to be aborted": RUNS | {"arq:abort": {"b": "now-10s"}},
    "one whose lease is another's": RUNS | {"arq:in-progress:a": (b"other:1:1", "60s")},
    "one whose lease has ended": {key: value for key, value in RUNS.items() if key != "arq:in-progress:a"},
    "one whose lease is a key of another type": RUNS | {"arq:in-progress:a": {"f": b"x"}},
    "in a queue that is none": RUNS | {"q": b"no queue"},
    "one with a result of before": RUNS | {"arq:result:a": (b"before", "90s")},
    "one with a result of before that stays": RUNS | {"arq:result:a": b"before"},
}


@pytest.mark.parametrize("keep_ms", [0, -1, -5000, 60_000])
@pytest.mark.parametrize("state", STATES)
async def test_a_job_that_ends_alone_ends_as_one_in_a_batch(state, keep_ms, keyspace, store):
    finish = Finish(HeldLease(0, "a", TOKEN, 1), b"result", keep_ms)
    beside = Finish(HeldLease(1, "other", TOKEN, 1), b"", 0)
    answers, left = [], []
    for outcomes in ([finish], [finish, beside]):
        await keyspace.clear()
        await keyspace.seed(STATES[state] | (BESIDE if len(outcomes) > 1 else {}))
        refusals = await store.complete(["q", "q2"], outcomes)
        answers.append((refusals.lost, refusals.repeated))
        left.append(await keyspace.dump())
    assert answers[0] == answers[1]
    assert left[0] == left[1]


async def test_its_result_outlives_a_time_that_the_server_refuses(keyspace, store):
    await keyspace.seed(RUNS)
    finish = Finish(HeldLease(0, "a", TOKEN, 1), b"result", 10**19)
    with pytest.raises(ServerError):
        await store.complete(["q"], [finish])
    refusals = await store.complete(["q"], [finish], again=True)
    assert refusals.lost == []
    assert await keyspace.dump() == {"arq:result:a": b"result"}


async def test_its_result_is_pushed(keyspace, store, redis):
    await keyspace.seed(RUNS | {"barque:waiters": {"a": b"barque:results:t"}})
    async with redis.pubsub() as listening:
        await listening.subscribe("barque:results:t")
        await store.complete(["q"], [Finish(HeldLease(0, "a", TOKEN, 1), b"result", 0)])
        message = None
        while message is None or message["type"] != "message":
            message = await listening.get_message(timeout=30)
    assert message["data"] == b"\0\0\0\1\0\0\0\6aresult"


async def test_a_full_server_takes_it(keyspace, store, full):
    await keyspace.seed(RUNS)
    await full()
    refusals = await store.complete(["q"], [Finish(HeldLease(0, "a", TOKEN, 1), b"result", 60_000)])
    assert refusals.lost == []
    left = await keyspace.dump()
    assert left == {"arq:result:a": (b"result", "60s")}
