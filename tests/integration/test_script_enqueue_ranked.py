"""enqueue_ranked.lua through Store.enqueue, and what claim.lua and complete.lua make of priorities."""

import pytest
from redis.exceptions import OutOfMemoryError

from common.redis.control import Abort, ControlStore
from common.redis.scores import HEAD_START_MS, read_due
from common.redis.store import Enqueue, Finish, HeldLease, PutBack, Rank

AWAKE = {"due": 0}
HOUR = HEAD_START_MS // 1000
HIGH = Rank(priority=3)

CASES = {
    "a fresh job stands hours before its due time": (
        {},
        [Enqueue("q", "a", b"A", rank=HIGH)],
        [True],
        {"q": {"a": f"now-{3 * HOUR}s"}, "arq:job:a": b"A", "barque:wake:q": AWAKE},
    ),
    "so does one with an id of its own, and it leaves the attempts of a job before it behind": (
        {"barque:attempts:a": [b"old"]},
        [Enqueue("q", "a", b"A", False, rank=HIGH)],
        [True],
        {"q": {"a": f"now-{3 * HOUR}s"}, "arq:job:a": b"A", "barque:wake:q": AWAKE},
    ),
    "one that is due later stands there, and its head start beside it": (
        {"q": {"z": 5}},
        [Enqueue("q", "a", b"A", False, delay_ms=60_000, rank=HIGH)],
        [True],
        {"q": {"a": "now+60s", "z": 5}, "barque:lift:q": {"a": "now+60s"}, "arq:job:a": b"A"},
    ),
    "one that is due first of all wakes whoever sleeps until another is": (
        {"q": {"z": "now+90s"}},
        [Enqueue("q", "a", b"A", False, delay_ms=60_000, rank=HIGH)],
        [True],
        {
            "q": {"a": "now+60s", "z": "now+90s"}, "barque:lift:q": {"a": "now+60s"}, "arq:job:a": b"A",
            "barque:wake:q": AWAKE,
        },
    ),
    "one that expires": (
        {},
        [Enqueue("q", "a", b"A", False, expires_ms=60_000, rank=HIGH)],
        [True],
        {
            "q": {"a": f"now-{3 * HOUR}s"}, "arq:job:a": (b"A", "60s"), "arq:retry:a": b"0", "barque:wake:q": AWAKE,
        },
    ),
    "an id that is taken is left alone": (
        {"q": {"a": 5}, "arq:job:a": b"old"},
        [Enqueue("q", "a", b"A", False, rank=HIGH), Enqueue("q", "b", b"B", False, rank=HIGH)],
        [False, True],
        {"q": {"a": 5, "b": f"now-{3 * HOUR}s"}, "arq:job:a": b"old", "arq:job:b": b"B", "barque:wake:q": AWAKE},
    ),
    "an id that is given twice is taken once": (
        {},
        [Enqueue("q", "a", b"A", False, rank=HIGH), Enqueue("q", "a", b"B", False, rank=HIGH)],
        [True, False],
        {"q": {"a": f"now-{3 * HOUR}s"}, "arq:job:a": b"A", "barque:wake:q": AWAKE},
    ),
    "an id of before leaves nothing to it": (
        {
            "arq:retry:a": b"3", "barque:result:a": b"old", "arq:abort": {"a": 1, "b": 2}, "barque:progress:a": b"P",
            "barque:stream:a": [b"S"],
        },
        [Enqueue("q", "a", b"A", False, rank=HIGH)],
        [True],
        {"q": {"a": f"now-{3 * HOUR}s"}, "arq:job:a": b"A", "arq:abort": {"b": 2}, "barque:wake:q": AWAKE},
    ),
    "plain jobs and others together": (
        {},
        [Enqueue("q", "a", b"A"), Enqueue("q", "b", b"B", rank=HIGH), Enqueue("r", "c", b"C", rank=Rank(1))],
        [True, True, True],
        {
            "q": {"a": "now", "b": f"now-{3 * HOUR}s"}, "r": {"c": f"now-{HOUR}s"}, "arq:job:a": b"A",
            "arq:job:b": b"B", "arq:job:c": b"C", "barque:wake:q": AWAKE, "barque:wake:r": AWAKE,
        },
    ),
}  # fmt: skip


async def claim(store, most=10, number=7):
    return (await store.claim(("q",), most=most, lease_ms=60_000, worker="w", number=number)).jobs


@pytest.mark.parametrize("case", CASES)
async def test_enqueue(case, keyspace, store):
    before, jobs, answers, after = CASES[case]
    await keyspace.seed(before)
    assert await store.enqueue(jobs) == answers
    assert await keyspace.dump() == after


async def test_the_highest_is_claimed_first_and_of_one_priority_the_first(keyspace, store):
    await store.enqueue([
        Enqueue("q", f"{rank}{number}", b"x", rank=Rank(rank) if rank else None)
        for number in range(3)
        for rank in (0, 5, 9)
    ])  # fmt: skip
    jobs = [job for _ in range(9) for job in await claim(store, most=1)]
    assert [job.job_id for job in jobs] == ["90", "91", "92", "50", "51", "52", "00", "01", "02"]
    assert {job.priority for job in jobs[:3]} == {9}
    now = await keyspace.now_ms()
    assert all(now - 60_000 < job.due_ms <= now for job in jobs), "told as they are due, without the head start"


async def test_what_has_waited_for_longer_than_the_head_start_goes_first(keyspace, store):
    now = await keyspace.now_ms()
    await keyspace.seed({"q": {"old": now - HEAD_START_MS - 1000, "newer": now - HEAD_START_MS + 60_000}})
    await store.enqueue([Enqueue("q", "a", b"A", rank=Rank(1))])
    assert [job.job_id for job in await claim(store)] == ["old", "a", "newer"]


async def test_a_job_has_its_head_start_once_it_is_due_and_not_before(keyspace, store, redis):
    await keyspace.seed({"q": {f"plain {n}": "now-60s" for n in range(5)}})
    now = await keyspace.now_ms()
    await store.enqueue([
        Enqueue("q", "later", b"L", False, delay_ms=60_000, rank=HIGH),
        Enqueue("q", "due", b"D", False, at_ms=now + 1, rank=HIGH),
    ])  # fmt: skip
    while await keyspace.now_ms() <= now:
        pass
    (first,) = await claim(store, most=1)
    assert (first.job_id, first.due_ms, first.priority) == ("due", now + 1, 3)
    assert [job.job_id for job in await claim(store)] == [f"plain {n}" for n in range(5)]
    assert await redis.zrange("barque:lift:q", 0, -1) == [b"later"]


async def test_a_retry_has_its_head_start_again_when_it_is_due(keyspace, store):
    await store.enqueue([Enqueue("q", "a", b"A", rank=HIGH)])
    (job,) = await claim(store)
    held = HeldLease(0, job.job_id, job.token, job.attempt)
    await store.complete(("q",), [PutBack(held, "retry", 60_000, 3)])
    assert await keyspace.dump() == {
        "q": {"a": "now+60s"}, "barque:lift:q": {"a": "now+60s"}, "arq:job:a": b"A", "arq:retry:a": b"1",
        "barque:wake:q": AWAKE,
    }  # fmt: skip
    for name in ("q", "barque:lift:q"):
        await store.client.zincrby(name, -60_000, "a")
    await keyspace.seed({"q": {"old": "now-60s"}})
    assert [(job.job_id, job.attempt) for job in await claim(store, number=8)] == [("a", 2), ("old", 1)]


@pytest.mark.parametrize(
    ("queue", "left"),
    [
        ({}, {}),
        ({"q": {"a": "now+60s"}}, {"q": {"a": "now+60s"}}),
        ({"q": {"a": "lease+60s"}}, {"q": {"a": "lease+60s"}}),
    ],
    ids=["gone", "due at another time now", "running"],
)
async def test_a_job_that_does_not_stand_where_it_was_put_has_none(queue, left, keyspace, store, redis):
    await keyspace.seed(queue)
    await redis.zadd("barque:lift:q", {"a": await keyspace.now_ms() - 1000 + 2035 / 2048})
    assert await claim(store) == []
    assert await keyspace.dump() == left


async def test_many_that_come_due_together_are_lifted_some_at_a_time(keyspace, store, redis):
    now = await keyspace.now_ms() - 1000
    await redis.zadd("q", {f"{n:03}": now for n in range(600)})
    await redis.zadd("barque:lift:q", {f"{n:03}": now + 2035 / 2048 for n in range(600)})
    for left in (350, 100, 0):
        assert len(await claim(store, most=1)) == 1
        assert await redis.zcard("barque:lift:q") == left
    await keyspace.clear()


async def test_a_full_server_gives_head_starts(keyspace, store, redis, full):
    now = await keyspace.now_ms() - 1000
    await redis.zadd("q", {"a": now, "b": now - 1000})
    await redis.zadd("barque:lift:q", {"a": now + 2035 / 2048})
    await full()
    assert [job.job_id for job in await claim(store)] == ["a", "b"]
    (refused,) = await store.enqueue([Enqueue("q", "c", b"C", rank=HIGH)])
    assert isinstance(refused, OutOfMemoryError)


async def test_a_released_job_has_its_place_again(keyspace, store, redis):
    await store.enqueue([Enqueue("q", "a", b"A", rank=HIGH)])
    before = await redis.zscore("q", "a")
    (job,) = await claim(store)
    from common.redis.scores import ahead

    held = HeldLease(0, job.job_id, job.token, job.attempt)
    await store.complete(("q",), [PutBack(held, "release", ahead(job.due_ms, job.priority))])
    assert await redis.zscore("q", "a") == before
    assert read_due(before) == job.due_ms
    await keyspace.clear()


async def test_an_aborted_one_leaves_nothing(keyspace, store):
    await store.enqueue([Enqueue("q", "a", b"A", False, delay_ms=60_000, rank=HIGH)])
    assert await ControlStore(store.client).abort("q", [Abort("a", b"R")], keep_ms=0) == ["cancelled"]
    assert await keyspace.dump() == {}


async def test_one_that_ends_leaves_nothing(keyspace, store):
    await store.enqueue([Enqueue("q", "a", b"A", rank=HIGH)])
    (job,) = await claim(store)
    await store.complete(("q",), [Finish(HeldLease(0, "a", job.token, 1), b"R", 0)])
    await claim(store)
    assert await keyspace.dump() == {}


async def test_a_key_of_a_foreign_type_where_head_starts_are_hides_no_job(keyspace, store):
    await keyspace.seed({"q": {"a": 5}, "barque:lift:q": b"x"})
    assert [job.job_id for job in await claim(store)] == ["a"]


async def test_a_queue_whose_jobs_have_head_starts_has_not_waited_for_them(keyspace, store):
    from common.redis.store import Order

    now = await keyspace.now_ms()
    await keyspace.seed({"high": {f"h{n}": now for n in range(100)}})
    await store.enqueue([Enqueue("low", f"l{n}", b"x", rank=HIGH) for n in range(100)])
    order = Order(aging_ms=60_000)
    claimed = await store.claim(("high", "low"), most=50, lease_ms=60_000, worker="w", number=1, order=order)
    assert {job.queue for job in claimed.jobs} == {0}
    await keyspace.clear()


async def test_one_that_was_put_off_has_its_head_start_when_it_is_due(keyspace, store):
    await store.enqueue([Enqueue("q", "a", b"A", rank=HIGH)])
    (job,) = await claim(store)
    until = await keyspace.now_ms() + 60_000
    await store.complete(("q",), [PutBack(HeldLease(0, "a", job.token, 1), "release", until, 3)])
    assert await keyspace.dump() == {
        "q": {"a": "now+60s"}, "barque:lift:q": {"a": "now+60s"}, "arq:job:a": b"A", "barque:wake:q": AWAKE,
    }  # fmt: skip
