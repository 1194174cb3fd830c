"""await.lua through Store.await_results: what is there, what will be pushed, what never comes."""

import pytest

from common.redis.scripts import AWAIT

CASES = {
    "its result is there": (
        {"arq:result:a": b"R"}, ["a"], [b"R"], {"arq:result:a": b"R"},
    ),
    "it waits: will be pushed": (
        {"arq:job:a": b"A"}, ["a"], [True], {"arq:job:a": b"A", "barque:waiters": {"a": b"c"}},
    ),
    "it runs, its payload expired meanwhile: will be pushed": (
        {"arq:in-progress:a": b"w:1:1"}, ["a"], [True], {"arq:in-progress:a": b"w:1:1", "barque:waiters": {"a": b"c"}},
    ),
    "no such job": ({}, ["a"], [False], {}),
    "a cron tick that ended, its id refused for a while: nothing will be pushed": (
        {"arq:in-progress:a": (b"done", "60s"), "barque:waiters": {"a": b"c"}}, ["a"], [False],
        {"arq:in-progress:a": (b"done", "60s")},
    ),
    "a cron tick that ended, for who missed its result": (
        {"arq:in-progress:a": (b"done", "60s"), "barque:result:a": (b"R", "60s")}, ["a"], [b"R"],
        {"arq:in-progress:a": (b"done", "60s"), "barque:result:a": (b"R", "60s")},
    ),
    "asking twice is asking once": (
        {"arq:job:a": b"A", "barque:waiters": {"a": b"c"}}, ["a", "a"], [True, True],
        {"arq:job:a": b"A", "barque:waiters": {"a": b"c"}},
    ),
    "another producer waits too": (
        {"arq:job:a": b"A", "barque:waiters": {"a": b"d"}}, ["a"], [True],
        {"arq:job:a": b"A", "barque:waiters": {"a": b"d c"}},
    ),
    "a channel whose name is part of another's is another": (
        {"arq:job:a": b"A", "barque:waiters": {"a": b"cc xc"}}, ["a"], [True],
        {"arq:job:a": b"A", "barque:waiters": {"a": b"cc xc c"}},
    ),
    "a job that a stock arq worker ended takes its waiters off the list": (
        {"arq:result:a": b"R", "barque:waiters": {"a": b"c d", "b": b"c"}}, ["a"], [b"R"],
        {"arq:result:a": b"R", "barque:waiters": {"b": b"c"}},
    ),
    "and so does one whose result is gone": (
        {"barque:waiters": {"a": b"c"}}, ["a"], [False], {},
    ),
    "its payload expired while it waits: a worker will end it, and push that": (
        {"q": {"a": 5}, "arq:retry:a": b"0"}, ["a"], [True],
        {"q": {"a": 5}, "arq:retry:a": b"0", "barque:waiters": {"a": b"c"}},
    ),
    "a result that is not kept, a minute long": (
        {"barque:result:a": (b"R", "60s"), "barque:waiters": {"a": b"c"}}, ["a"], [b"R"],
        {"barque:result:a": (b"R", "60s")},
    ),
    "a result of before, the id in the queue anew: what it will be is pushed": (
        {"arq:job:a": b"A", "barque:result:a": b"R"}, ["a"], [True],
        {"arq:job:a": b"A", "barque:result:a": b"R", "barque:waiters": {"a": b"c"}},
    ),
    "many producers wait: the oldest makes room": (
        {"arq:job:a": b"A", "barque:waiters": {"a": b"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"}}, ["a"], [True],
        {"arq:job:a": b"A", "barque:waiters": {"a": b"2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 c"}},
    ),
    "many producers wait, this one among them": (
        {"arq:job:a": b"A", "barque:waiters": {"a": b"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 c"}}, ["a"], [True],
        {"arq:job:a": b"A", "barque:waiters": {"a": b"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 c"}},
    ),
    "nobody can be registered: whoever waits looks": (
        {"arq:job:a": b"A", "arq:result:b": b"R", "barque:waiters": b"x"}, ["a", "b"], [True, b"R"],
        {"arq:job:a": b"A", "arq:result:b": b"R", "barque:waiters": b"x"},
    ),
    "a result of a foreign type is none": (
        {"arq:result:a": {"f": b"x"}}, ["a"], [False], {"arq:result:a": {"f": b"x"}},
    ),
    "an id that is no UTF-8 is an id": (
        {"arq:job:b": b"B"}, ["\udcff", "b"], [False, True], {"arq:job:b": b"B", "barque:waiters": {"b": b"c"}},
    ),
    "many, answered in order": (
        {"arq:result:a": b"R", "arq:job:b": b"B"}, ["x", "b", "a"], [False, True, b"R"],
        {"arq:result:a": b"R", "arq:job:b": b"B", "barque:waiters": {"b": b"c"}},
    ),
    "none": ({}, [], [], {}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_await(case, keyspace, store):
    before, ids, answers, after = CASES[case]
    await keyspace.seed(before)
    assert await store.await_results("c", ids) == answers
    assert await keyspace.dump() == after


@pytest.mark.parametrize("count", [1000, 1001, 2500])
async def test_more_ids_than_one_call_holds(count, keyspace, store, redis):
    await redis.mset({f"arq:job:{n}": b"J" for n in range(count - 1)})
    answers = await store.await_results("c", [f"{n}" for n in range(count)])
    assert answers == [True] * (count - 1) + [False]
    assert await redis.hlen("barque:waiters") == count - 1


async def test_an_empty_result_is_a_result(keyspace, store):
    await keyspace.seed({"arq:result:a": b""})
    assert await store.await_results("c", ["a"]) == [b""]


async def test_no_reply_carries_more_than_some_megabytes_and_all_are_answered(keyspace, store, redis):
    ids = [f"{n}" for n in range(10)]
    for job_id in ids[1:]:
        await redis.set(f"arq:result:{job_id}", job_id.encode() * 2_000_000)
    replies = []

    async def keep(client, keys, arguments, run=AWAIT.__class__.__call__):
        replies.append(await run(AWAIT, client, keys, arguments))
        return replies[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AWAIT.__class__, "__call__", lambda _, *args: keep(*args))
        answers = await store.await_results("c", ids)
    assert answers == [False, *(job_id.encode() * 2_000_000 for job_id in ids[1:])]
    assert [len(reply) if isinstance(reply, bytes) else reply for reply in replies[0]] == [
        0,
        *[2_000_000] * 4,
        *[2] * 5,
    ]


async def test_a_full_server_lets_producers_wait(keyspace, store, full):
    await keyspace.seed({"arq:job:a": b"A", "arq:result:b": b"R"})
    await full()
    assert await store.await_results("c", ["a", "b"]) == [True, b"R"]
