"""Lanes, from enqueue_ranked.lua to claim.lua, complete.lua and abort.lua: tenants of a queue take turns."""

import pytest
from redis.exceptions import OutOfMemoryError

from common.redis.control import Abort, ControlStore
from common.redis.scores import HEAD_START_MS
from common.redis.store import Claimed, Enqueue, Finish, HeldLease, PutBack, Rank, Refusals
from common.redis.unique import UniqueEnqueue, UniqueStore
from common.uniqueness import Rule
from tests.support.keyspace import Keyspace

AWAKE = {"due": 0}
A, B, C = Rank(lane="aa"), Rank(lane="bb"), Rank(lane="cc")
LANES, FAIR, LANED = "barque:lanes:q", "barque:fair:q", "barque:laned:q"


async def add(store, rank, *ids, **options):
    fresh = not options
    jobs = [Enqueue("q", job_id, job_id.encode(), fresh, rank=rank, **options) for job_id in ids]
    assert await store.enqueue(jobs) == [True] * len(ids)
    await next_millisecond(store)


async def next_millisecond(store):
    """Wait a little: of what is enqueued, or becomes head, in one millisecond the order is by id."""
    now = await Keyspace(store.client).now_ms()
    while await Keyspace(store.client).now_ms() == now:
        pass


async def claim(store, most=100, number=7) -> list[Claimed]:
    return (await store.claim(("q",), most=most, lease_ms=60_000, worker="w", number=number)).jobs


async def claimed(store, most=100, number=7) -> list[str]:
    return [job.job_id for job in await claim(store, most, number)]


async def end(store, job, outcome=None):
    held = HeldLease(0, job.job_id, job.token, job.attempt)
    await store.complete(("q",), [outcome(held) if outcome else Finish(held, b"R", 0)])


async def aborted(store, job_id, keep_ms=60_000):
    (answer,) = await ControlStore(store.client).abort("q", [Abort(job_id, b"R")], keep_ms=keep_ms)
    return answer


async def all_in_turn(store, most=1):
    found = []
    while jobs := await claimed(store, most):
        found += jobs
        await next_millisecond(store)
    return found


async def test_the_first_of_a_tenant_stands_in_the_queue_and_the_others_wait_behind_it(keyspace, store):
    await add(store, A, "a1", "a2", "a3")
    found = await keyspace.dump()
    mark = found.pop(FAIR)
    assert set(mark) == {"a1"}
    assert mark["a1"].startswith(b"aa 1")
    assert found == {
        "q": {"a1": "now"}, LANES: {"aa": b"a1"}, LANED: {"a2": b"aa", "a3": b"aa"},
        "barque:lane:q:aa": {"a2": "now", "a3": "now"},
        "arq:job:a1": b"a1", "arq:job:a2": b"a2", "arq:job:a3": b"a3", "barque:wake:q": AWAKE,
    }  # fmt: skip


@pytest.mark.parametrize("most", [1, 2, 3, 4, 100])
async def test_tenants_take_turns_however_many_a_claim_takes(most, keyspace, store, redis):
    await add(store, A, *(f"a{n:02}" for n in range(20)))
    await add(store, B, *(f"b{n}" for n in range(3)))
    await add(store, C, *(f"c{n}" for n in range(3)))
    found = await all_in_turn(store, most)
    first = found[:12]
    assert sorted(first[:3]) == ["a00", "b0", "c0"]
    assert all(first.count(f"{who}{n}") == 1 for who in "bc" for n in range(3))
    assert [job for job in found if job.startswith("a")] == [f"a{n:02}" for n in range(20)]


async def test_one_tenant_alone_has_every_turn(keyspace, store):
    await add(store, A, *(f"a{n:03}" for n in range(500)))
    assert await claimed(store, 300) == [f"a{n:03}" for n in range(300)]
    assert await claimed(store, 300) == [f"a{n:03}" for n in range(300, 500)]


async def test_nothing_is_left_of_lanes_once_all_are_done(keyspace, store):
    await add(store, A, "a1", "a2")
    await add(store, B, "b1")
    for job in await claim(store):
        await end(store, job)
    await claim(store)
    assert await keyspace.dump() == {}


async def test_a_job_is_told_as_it_was_due_not_as_it_became_head(keyspace, store, redis):
    await add(store, A, "a1", "a2")
    for name in ("q", "barque:lane:q:aa"):
        for job_id, score in await redis.zrange(name, 0, -1, withscores=True):
            await redis.zadd(name, {job_id: score - 600_000})
    mark = (await redis.hget(FAIR, "a1")).split()
    await redis.hset(FAIR, "a1", b"aa %d" % (int(mark[1]) - 600_000))
    now = await keyspace.now_ms()
    due = {job.job_id: job.due_ms for job in await claim(store)}
    assert all(now - 660_000 < ms < now - 540_000 for ms in due.values())


async def test_jobs_without_a_tenant_stand_between_them(keyspace, store):
    await add(store, A, "a1", "a2")
    await store.enqueue([Enqueue("q", "plain", b"P")])
    assert sorted(await claimed(store, 2)) == ["a1", "plain"]
    assert await claimed(store) == ["a2"]


async def test_a_later_job_stands_in_the_queue_until_it_is_due_and_joins_its_lane_then(keyspace, store, redis):
    await add(store, A, "a1", "a2")
    now = await keyspace.now_ms()
    await add(store, A, "later", at_ms=now + 60_000)
    assert (await redis.hget(FAIR, "later")) == b"aa %d" % (now + 60_000)
    await redis.zadd("q", {"later": now - 5})
    await add(store, B, "b1")
    assert await claimed(store, 2) == ["a1", "b1"]
    assert await redis.hget(LANED, "later") == b"aa"
    assert await claimed(store) == ["a2", "later"]
    assert not await redis.exists(FAIR, LANES, LANED)


async def test_a_retry_joins_its_lane_when_it_is_due(keyspace, store, redis):
    await add(store, A, "a1", "a2", "a3")
    (job,) = await claim(store, 1)
    await end(store, job, lambda held: PutBack(held, "retry", 60_000, 0, "aa"))
    assert (await keyspace.dump())["q"]["a1"] == "now+60s"
    assert (await redis.hget(FAIR, "a1")).startswith(b"aa ")
    await redis.zincrby("q", -61_000, "a1")
    assert await claimed(store, 1, 8) == ["a2"]
    assert await redis.hget(LANED, "a1") == b"aa"
    assert sorted(await claimed(store, 9)) == ["a1", "a3"]


@pytest.mark.parametrize("kind", ["retry", "release"])
async def test_what_joined_its_lane_since_is_known_when_it_is_sent_again(kind, keyspace, store, redis):
    await add(store, A, "a1", "a2", "a3")
    (job,) = await claim(store, 1)
    when = 60_000 if kind == "retry" else await keyspace.now_ms() + 60_000
    back = PutBack(HeldLease(0, job.job_id, job.token, job.attempt), kind, when, 0, "aa")
    assert await store.complete(("q",), [back]) == Refusals([], [])
    await redis.zincrby("q", -61_000, "a1")
    assert await claimed(store, 1, 8) == ["a2"]
    assert await redis.hget(LANED, "a1") == b"aa"
    assert await store.complete(("q",), [back], again=True) == Refusals([], [0])
    later = back._replace(lease=back.lease._replace(attempt=5))
    assert await store.complete(("q",), [later], again=True) == Refusals([0], []), "that attempt was never recorded"


async def test_retries_of_one_tenant_do_not_stand_in_front_of_another(keyspace, store, redis):
    await add(store, A, *(f"a{n:02}" for n in range(60)))
    for job in await claim(store, 50):
        await end(store, job, lambda held: PutBack(held, "retry", 0, 0, "aa"))
    await add(store, B, "b1", "b2")
    first = await claimed(store, 6, 8)
    assert {"b1", "b2"} <= set(first)


@pytest.mark.parametrize("gone", ["aborted", "finished by a stock worker", "held by a stock worker"])
async def test_a_lane_goes_on_when_its_head_is_gone(gone, keyspace, store, redis):
    await add(store, A, "a1", "a2", "a3")
    if gone == "aborted":
        assert await aborted(store, "a1", keep_ms=0) == "cancelled"
        assert await redis.hget(LANES, "aa") == b"a2"
    elif gone == "finished by a stock worker":
        await redis.zrem("q", "a1")
        await redis.delete("arq:job:a1")
    else:
        await redis.set("arq:in-progress:a1", b"1")
    assert await claimed(store) == ["a2", "a3"]
    if gone == "held by a stock worker":
        await redis.zrem("q", "a1")
        await redis.delete("arq:job:a1", "arq:in-progress:a1")
    await claim(store, number=8)
    assert not await redis.exists(FAIR, LANES, LANED, "barque:lane:q:aa")
    await keyspace.clear()


async def test_lanes_whose_heads_are_all_gone_are_found(keyspace, store, redis):
    for n in range(100):
        await add(store, Rank(lane=f"{n:04x}"), f"{n}-1", f"{n}-2")
    await redis.zremrangebyrank("q", 0, -1)
    found = set()
    for number in range(100):
        found |= set(await claimed(store, number=number))
    assert found == {f"{n}-2" for n in range(100)}
    assert not await redis.exists(FAIR, LANES, LANED)
    await keyspace.clear()


async def test_a_job_that_waits_in_its_lane_is_ended_there(keyspace, store, redis):
    await add(store, A, "a1", "a2")
    assert await aborted(store, "a2") == "cancelled"
    assert await aborted(store, "a2") == "missing"
    assert await claimed(store) == ["a1"]
    assert await redis.exists("arq:job:a2") == 0
    assert not await redis.exists(LANED, "barque:lane:q:aa")


async def test_an_id_whose_payload_expired_in_its_lane_is_there_once_when_it_is_used_again(keyspace, store, redis):
    await add(store, A, "a1", "a2")
    await redis.delete("arq:job:a2")
    await add(store, B, "a2", delay_ms=0)
    assert sorted(await claimed(store)) == ["a1", "a2"]
    await redis.delete("arq:job:a1", "arq:job:a2")
    assert await claimed(store) == []


async def test_a_more_urgent_job_takes_the_place_of_its_tenants_head(keyspace, store, redis):
    await keyspace.seed({"q": {f"plain {n}": "now-600s" for n in range(3)}})
    await add(store, A, "a1", "a2")
    await add(store, Rank(3, "aa"), "urgent", "too")
    assert await redis.hget(LANES, "aa") == b"urgent"
    assert (await keyspace.dump())["q"]["urgent"] == f"now-{3 * HEAD_START_MS // 1000}s"
    jobs = await claim(store)
    assert [job.job_id for job in jobs] == ["urgent", "too", *(f"plain {n}" for n in range(3)), "a1", "a2"]
    assert [job.priority for job in jobs if job.job_id in {"urgent", "too"}] == [3, 3]
    now = await keyspace.now_ms()
    assert all(now - 60_000 < job.due_ms for job in jobs if not job.job_id.startswith("plain"))


async def test_urgent_jobs_of_tenants_take_turns_among_each_other(keyspace, store):
    await add(store, Rank(3, "aa"), *(f"a{n}" for n in range(5)))
    await add(store, Rank(3, "bb"), *(f"b{n}" for n in range(2)))
    await add(store, C, "c0")
    order = await all_in_turn(store, 2)
    assert order[-1] == "c0"
    assert {"a0", "b0"} == set(order[:2])


async def test_a_count_of_what_waits_has_those_in_lanes(keyspace, store):
    await add(store, A, *(f"a{n}" for n in range(5)))
    found = await store.claim(("q",), most=2, lease_ms=60_000, worker="w", number=1)
    assert found.waiting == 5


async def test_a_job_that_is_to_be_aborted_is_given_whatever_its_lane(keyspace, store, redis):
    await add(store, A, "a1", "a2")
    await add(store, A, "later", delay_ms=60_000)
    await redis.zadd("q", {"later": 1})  # as arq's Job.abort does
    await redis.zadd("arq:abort", {"later": await keyspace.now_ms()})
    (job,) = await claim(store, 1)
    assert job.job_id == "later"
    assert job.aborted
    assert await claimed(store) == ["a1", "a2"]
    await keyspace.clear()


async def test_what_a_lost_reply_held_is_given_again_and_no_turn_is_skipped(keyspace, store):
    await add(store, A, *(f"a{n}" for n in range(5)))
    lost = await claimed(store, 2, 1)
    again = (await store.claim(("q",), most=2, lease_ms=60_000, worker="w", number=2, unanswered=1)).jobs
    assert sorted(job.job_id for job in again) == sorted([*lost, "a2", "a3"])


@pytest.mark.parametrize("key", [FAIR, LANES, LANED])
async def test_keys_of_foreign_types_where_lanes_are_hide_no_other_job(key, keyspace, store):
    await keyspace.seed({"q": {"plain": 5}, "barque:lift:q": {"x": "now+60s"}, key: b"x"})
    assert await claimed(store) == ["plain"]


async def test_a_full_server_gives_jobs_of_lanes(keyspace, store, full):
    await add(store, A, "a1", "a2")
    await add(store, B, "b1")
    await full()
    assert sorted(await claimed(store)) == ["a1", "a2", "b1"]
    (refused,) = await store.enqueue([Enqueue("q", "a9", b"A", rank=A)])
    assert isinstance(refused, OutOfMemoryError)
    (refused,) = await store.enqueue([Enqueue("q", "a9", b"A", False, rank=A)])
    assert isinstance(refused, OutOfMemoryError)


async def test_a_million_jobs_that_come_due_together_hold_nobody_up_for_long(keyspace, store, redis):
    now = await keyspace.now_ms()
    await redis.zadd("q", {f"a{n:05}": now - 1000 for n in range(12_000)})
    await redis.hset(FAIR, mapping={f"a{n:05}": f"aa {now - 1000}" for n in range(12_000)})
    await add(store, B, "b1")
    for number in range(10):
        if "b1" in await claimed(store, 5, number):
            break
    assert number <= 3
    await keyspace.clear()


async def test_a_head_that_is_moved_to_later_does_not_keep_its_lane(keyspace, store, redis):
    await add(store, A, "a1", "a2", "a3")
    await redis.zadd("q", {"a1": await keyspace.now_ms() + 60_000})
    assert await claimed(store) == ["a2", "a3"]
    await redis.zadd("q", {"a1": await keyspace.now_ms() - 5})
    assert await claimed(store) == ["a1"]
    assert not await redis.exists(FAIR, LANES, LANED)
    await keyspace.clear()


UNIQUE = Rule("done", 0, "replace")


async def unique(store, payload, **options):
    job = Enqueue("q", f"id of {payload}", payload.encode(), False, rank=A, **options)
    (answer,) = await UniqueStore(store.client).enqueue([UniqueEnqueue(job, "k", UNIQUE, minted=True)])
    return answer.word, answer.job_id


async def test_a_unique_job_in_a_lane_is_there_and_may_be_replaced(keyspace, store, redis):
    await add(store, A, "a1", "a2", "a3")
    assert await unique(store, "u") == ("added", "id of u")
    await next_millisecond(store)
    assert await claimed(store, 2) == ["a1", "a2"]
    assert await redis.hget(LANED, "id of u") == b"aa", "it came due behind another head"
    assert await unique(store, "v") == ("replaced", "id of u")
    assert await redis.zscore("q", "id of u") is None
    assert await unique(store, "w", delay_ms=60_000) == ("replaced", "id of u")
    assert await claimed(store) == ["a3"]
    assert (await keyspace.dump())["q"]["id of u"] == "now+60s"
    assert await redis.hexists(FAIR, "id of u")
    await keyspace.clear()


async def test_a_job_that_waits_in_its_lane_may_be_put_off_and_joins_it_again(keyspace, store, redis):
    control = ControlStore(redis)
    await add(store, A, "a1", "a2", "a3")
    assert (await control.reschedule("q", "a2", delay_ms=60_000)).word == "moved"
    assert (await keyspace.dump())["q"] == {"a1": "now", "a2": "now+60s"}
    assert (await control.reschedule("q", "a1", delay_ms=60_000)).word == "moved"
    assert await redis.hget(LANES, "aa") == b"a3"
    assert (await control.reschedule("q", "a2", delay_ms=0)).word == "moved"
    assert await claimed(store) == ["a3", "a2"]
    await keyspace.clear()


@pytest.mark.parametrize("count", [0, 1, 5, 400])
async def test_a_walk_over_a_queue_finds_those_in_lanes(count, keyspace, store, redis):
    await add(store, A, *(f"a{n}" for n in range(count)))
    await store.enqueue([Enqueue("q", f"plain {n}", b"P") for n in range(300)])
    found, cursor, pages = [], 0, 0
    while pages == 0 or cursor:
        page = await ControlStore(redis).page("q", cursor)
        found += [job.job_id for job in page.jobs]
        cursor, pages = page.cursor, pages + 1
    assert set(found) == {*(f"a{n}" for n in range(count)), *(f"plain {n}" for n in range(300))}
    await keyspace.clear()
