"""complete.lua where jobs end that ask for nothing: they have a way of their own, and end as others do.

That way is for batches of one kind: another outcome beside them has them take the long one.
"""

import pytest

from common.redis.connection import ServerError
from common.redis.store import Finish, HeldLease

TOKEN = "w:1:7"
RUNS = {"q": {"a": "lease+60s"}, "arq:job:a": b"A", "arq:in-progress:a": (TOKEN.encode(), "60s")}
OF_ANOTHER_KIND = {
    "q2": {"other": "lease+60s"},
    "arq:job:other": b"O",
    "arq:in-progress:other": (TOKEN.encode(), "60s"),
}
OF_THE_SAME_KIND = {"arq:job:other": b"O", "arq:in-progress:other": (TOKEN.encode(), "60s")}

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
async def test_a_job_ends_alone_and_among_its_kind_as_in_any_batch(state, keep_ms, keyspace, store):
    finish = Finish(HeldLease(0, "a", TOKEN, 1), b"result", keep_ms)
    any_batch = [finish, Finish(HeldLease(1, "other", TOKEN, 1), b"", 0)], OF_ANOTHER_KIND
    its_kind = [finish, Finish(HeldLease(0, "other", TOKEN, 1), b"O", keep_ms)], OF_THE_SAME_KIND
    answers, left = [], []
    for outcomes, beside in (any_batch, ([finish], {}), its_kind):
        await keyspace.clear()
        await keyspace.seed(STATES[state] | beside)
        refusals = await store.complete(["q", "q2"], outcomes)
        answers.append((refusals.lost, refusals.repeated))
        left.append(await keyspace.dump())
    assert left[2].pop("arq:result:other", None) == left_of_the_other(keep_ms)
    assert answers[1] == answers[2] == answers[0]
    assert left[1] == left[2] == left[0]


def left_of_the_other(keep_ms) -> object:
    if keep_ms < 0:  # for ever, whatever arq's functions may name
        return b"O"
    return (b"O", "60s") if keep_ms > 0 else None


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
