"""await.lua through Store.await_results: what is there, what will be pushed, what never comes."""

import pytest

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
