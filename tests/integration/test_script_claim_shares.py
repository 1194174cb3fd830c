"""claim.lua with several queues: how one claim's room is divided among them."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.redis.store import Order

QUEUES = ("high", "default", "low")
SHARES = Order(weights=(6, 3, 1))


async def claim(store, number, *, most=1, queues=QUEUES, order=SHARES):
    return (await store.claim(queues, most=most, lease_ms=60_000, worker="w", number=number, order=order)).jobs


def counted(jobs, queues=QUEUES) -> dict[str, int]:
    return dict(Counter(queues[job.queue] for job in jobs))


def backlog(count, since=5, start=0):
    return {f"{since}-{start}-{n:05}": since for n in range(count)}


async def claim_one_by_one(store, claims, queues=QUEUES, order=SHARES):
    return counted([job for n in range(claims) for job in await claim(store, n, queues=queues, order=order)], queues)


async def test_claims_of_one_job_each_add_up_to_the_shares(keyspace, store):
    await keyspace.seed({queue: backlog(200, start=n) for n, queue in enumerate(QUEUES)})
    found = await claim_one_by_one(store, 100)
    assert found == {"high": pytest.approx(60, abs=2), "default": pytest.approx(30, abs=2), "low": pytest.approx(10, 2)}


async def test_a_claim_of_many_divides_its_room(keyspace, store):
    await keyspace.seed({queue: backlog(200, start=n) for n, queue in enumerate(QUEUES)})
    assert counted(await claim(store, 1, most=100)) == {"high": 60, "default": 30, "low": 10}


async def test_what_a_queue_leaves_goes_to_the_others_by_their_weights(keyspace, store):
    await keyspace.seed(
        {"high": {}, "default": backlog(200, start=1), "low": backlog(200, start=2)} | {"high": {"h": 5}}
    )
    assert counted(await claim(store, 1, most=101)) == {"high": 1, "default": 75, "low": 25}
    one_by_one = await claim_one_by_one(store, 100)
    assert one_by_one == {"default": pytest.approx(75, abs=3), "low": pytest.approx(25, abs=3)}


async def test_jobs_of_a_queue_are_taken_in_the_order_they_are_due(keyspace, store):
    await keyspace.seed({"high": {f"h{n}": n + 1 for n in range(9)}, "low": {f"l{n}": n + 1 for n in range(9)}})
    queues = ("high", "low")
    found = [job for n in range(9) for job in await claim(store, n, most=2, queues=queues, order=Order(weights=(2, 1)))]
    assert [job.job_id for job in found if job.queue == 0] == [f"h{n}" for n in range(9)]
    assert [job.job_id for job in found if job.queue == 1] == [f"l{n}" for n in range(9)]


async def test_jobs_that_others_hold_take_nothing_of_a_share(keyspace, store, redis):
    await keyspace.seed({"high": backlog(300, start=0) | {"free": 6}, "low": backlog(20, start=1)})
    await redis.mset({f"arq:in-progress:{job_id}": b"1" for job_id in backlog(300, start=0)})
    found = await claim(store, 1, most=10, queues=("high", "low"), order=Order(weights=(9, 1)))
    assert counted(found, ("high", "low")) == {"high": 1, "low": 9}


async def test_what_was_taken_is_told_though_a_queue_is_none(keyspace, store):
    await keyspace.seed({"high": {"a": 5}, "default": b"x", "low": {"b": 5, "c": 6}})
    assert counted(await claim(store, 1, most=10)) == {"high": 1, "low": 2}


async def test_the_wake_up_is_passed_on_for_what_is_left(keyspace, store, redis):
    await keyspace.seed({queue: backlog(20, start=n) for n, queue in enumerate(QUEUES)})
    await claim(store, 1, most=5)
    assert await redis.exists(*(f"barque:wake:{queue}" for queue in QUEUES)) == 3


async def test_what_a_lost_reply_held_is_given_again_whatever_the_weights(keyspace, store):
    await keyspace.seed({queue: backlog(20, start=n) for n, queue in enumerate(QUEUES)})
    lost = await claim(store, 1, most=10)
    again = (await store.claim(QUEUES, most=1, lease_ms=60_000, worker="w", number=2, unanswered=1, order=SHARES)).jobs
    assert {(job.job_id, job.queue) for job in again[:-1]} == {(job.job_id, job.queue) for job in lost}
    assert len(again) == 11


async def test_abort_marks_stand_at_the_right_jobs(keyspace, store, redis):
    await keyspace.seed({queue: backlog(20, start=n) for n, queue in enumerate(QUEUES)})
    wanted = {"5-0-00002", "5-1-00001", "5-2-00000"}
    await redis.zadd("arq:abort", dict.fromkeys(wanted, await keyspace.now_ms()))
    found = await claim(store, 1, most=20)
    assert {job.job_id for job in found if job.aborted} == wanted


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    queues=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), min_size=2, max_size=6),
    most=st.integers(1, 60),
    number=st.integers(1, 10**6),
    weighted=st.booleans(),
    old=st.booleans(),
)
async def test_a_claim_is_as_full_as_can_be_and_no_queue_has_less_than_its_share(
    queues, most, number, weighted, old, keyspace, store
):
    await keyspace.clear()
    names = tuple(f"q{n}" for n in range(len(queues)))
    since = 5 if old else await keyspace.now_ms()
    await keyspace.seed(
        {
            name: backlog(count, since, n)
            for n, (name, (count, _)) in enumerate(zip(names, queues, strict=True))
            if count
        }
    )
    order = Order(weights=tuple(weight for _, weight in queues)) if weighted else Order(aging_ms=60_000)
    found = counted(await claim(store, number, most=most, queues=names, order=order), names)
    assert sum(found.values()) == min(most, sum(count for count, _ in queues))
    if weighted:
        total = sum(weight for _, weight in queues)
        for name, (count, weight) in zip(names, queues, strict=True):
            assert found.get(name, 0) >= min(count, most * weight // total)


async def test_in_strict_order_a_queue_whose_job_has_waited_for_long_has_a_tenth(keyspace, store):
    now = await keyspace.now_ms()
    await keyspace.seed({"high": backlog(300, now, 0), "default": backlog(300, now, 1), "low": backlog(300, 5, 2)})
    found = await claim_one_by_one(store, 100, order=Order(aging_ms=60_000))
    assert found == {"high": pytest.approx(90, abs=2), "low": pytest.approx(10, abs=2)}
    assert counted(await claim(store, 1, most=100, order=Order(aging_ms=60_000))) == {"high": 90, "low": 10}


async def test_queues_that_have_waited_for_long_have_half_together_at_most(keyspace, store):
    names = tuple(f"q{n}" for n in range(12))
    await keyspace.seed({name: backlog(100, 5, n) for n, name in enumerate(names)})
    found = counted(await claim(store, 1, most=220, queues=names, order=Order(aging_ms=60_000)), names)
    assert found["q0"] == 100
    assert {found[name] for name in names[2:]} == {10}
    assert found["q1"] == 20, "its share, and what the first left"


async def test_without_aging_the_first_queue_goes_first_for_ever(keyspace, store):
    now = await keyspace.now_ms()
    await keyspace.seed({"high": backlog(100, now, 0), "low": backlog(100, 5, 2)})
    assert await claim_one_by_one(store, 100, queues=("high", "low"), order=Order()) == {"high": 100}
