"""pause.lua, resume.lua, call_up.lua and claim.lua, through ControlStore and Store: what is paused waits."""

import asyncio

import pytest

from common.redis.control import ControlStore, door_of
from common.redis.limits import Ask, LimitStore
from common.redis.records import HeldLease
from common.redis.store import Enqueue

DOOR = door_of("t")
LANE = f"barque:limit-lane:{DOOR.id}"
QUEUED = {"q": {"a": 5, "b": 6}, "arq:job:a": b"A", "arq:job:b": b"B"}


@pytest.fixture
def control(redis):
    return ControlStore(redis)


async def claimed(store, *queues, most=10, number=7, unanswered=0):
    claim = await store.claim(queues, most=most, lease_ms=60_000, worker="w", number=number, unanswered=unanswered)
    return [job.job_id for job in claim.jobs], claim


async def test_a_pause_is_kept_as_it_was_said_first(keyspace, control, redis):
    word, stored = await control.pause("queue", "q", b"said")
    assert (word, stored.said) == ("paused", b"said")
    assert abs(stored.since_ms - await keyspace.now_ms()) < 30_000
    assert await control.pause("queue", "q", b"said again") == ("same", stored)
    assert (await control.standing()).pauses == [stored]
    assert await control.resume("queue", "q")
    assert not await control.resume("queue", "q")
    assert await keyspace.dump() == {}


async def test_nothing_of_a_paused_queue_is_claimed(keyspace, store, control):
    await keyspace.seed(QUEUED)
    await control.pause("queue", "q", b"")
    before = await keyspace.dump()
    ids, claim = await claimed(store, "q")
    assert (ids, claim.waiting, claim.next_due_ms) == ([], 0, None)
    assert await keyspace.dump() == before
    await control.resume("queue", "q")
    assert (await keyspace.dump())["barque:wake:q"] == {"due": 0}
    ids, claim = await claimed(store, "q")
    assert (ids, claim.waiting) == (["a", "b"], 2)


@pytest.mark.parametrize("queues", [("p", "q"), ("q", "p")])
async def test_other_queues_are_served_with_all_the_room_there_is(queues, keyspace, store, control):
    await keyspace.seed(QUEUED | {"p": {"c": 5, "d": 6, "e": 7}})
    await control.pause("queue", "q", b"")
    ids, claim = await claimed(store, *queues, most=3)
    assert (ids, claim.waiting) == (["c", "d", "e"], 3)


async def test_a_worker_gets_again_what_it_had_claimed_of_a_queue_paused_since(keyspace, store, control):
    await keyspace.seed(QUEUED)
    assert (await claimed(store, "q", number=1))[0] == ["a", "b"]
    await control.pause("queue", "q", b"")
    assert (await claimed(store, "q", number=2, unanswered=1))[0] == ["a", "b"]


async def test_a_marker_of_an_empty_paused_queue_goes(keyspace, store, control):
    await keyspace.seed({"barque:wake:q": {"due": 0}})
    await control.pause("queue", "q", b"")
    await claimed(store, "q")
    assert set(await keyspace.dump()) == {"barque:paused"}


async def test_a_key_of_a_foreign_type_pauses_nothing(keyspace, store):
    await keyspace.seed(QUEUED | {"barque:paused": b"x"})
    assert (await claimed(store, "q"))[0] == ["a", "b"]


async def test_no_more_than_a_thousand_are_paused(keyspace, control, redis):
    await redis.hset("barque:paused", mapping={f"queue:{n}": "5 " for n in range(1000)})
    assert (await control.pause("task", "t", b""))[0] == "full"
    assert (await control.pause("queue", "7", b""))[0] == "same"


@pytest.mark.parametrize("name", ["\udcff", "a b:c", "x" * 500])
async def test_any_name_there_can_be(name, keyspace, control):
    for kind in ("queue", "task"):
        await control.pause(kind, name, b"")
        assert [pause.name for pause in (await control.standing()).pauses] == [name]
        await control.resume(kind, name)
    assert await keyspace.dump() == {}


async def test_workers_are_told(keyspace, control, redis):
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe("barque:control")
        await pubsub.get_message(timeout=5)
        await control.pause("task", "t", b"")
        await control.pause("task", "t", b"")
        await control.resume("task", "t")
        heard = []
        async with asyncio.timeout(10):
            while len(heard) < 2:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
                heard += [message["data"]] if message else []
        assert heard == [b"pauses", b"pauses"]


# The lane of a paused task


async def parked(store, redis, jobs, *, priority=0, number=7):
    """Enqueue jobs, claim them, and have them put aside."""
    await store.enqueue(jobs)
    claim = await store.claim(("q",), most=len(jobs), lease_ms=60_000, worker="w", number=number)
    asks = [
        Ask(HeldLease(0, job.job_id, job.token, job.attempt), job.attempt, job.due_ms, "", priority, ((DOOR, 1.0),))
        for job in claim.jobs
    ]
    answers = (await LimitStore(redis).admit(("q",), asks, lease_ms=60_000, wait_ms=0, lead_ms=0)).answers
    return [answer.word for answer in answers]


async def test_jobs_of_a_paused_task_stand_in_its_lane_and_come_back_where_they_stood(keyspace, store, control, redis):
    await control.pause("task", "t", b"")
    assert (
        await parked(store, redis, [Enqueue("q", "a", b"A", False, at_ms=7), Enqueue("q", "b", b"B", False, at_ms=9)])
        == ["held"] * 2
    )
    assert await control.waiting(["t"]) == [2]
    assert (await claimed(store, "q"))[0] == []
    await control.resume("task", "t")
    assert (await control.standing()).resuming == ["t"]
    assert await control.call_up("t") == 0
    assert await keyspace.dump() == {
        "q": {"a": 7, "b": 9},
        "arq:job:a": b"A",
        "arq:job:b": b"B",
        "barque:wake:q": {"due": 0},
    }


async def test_of_a_task_that_is_not_paused_nobody_waits(keyspace, store, control, redis):
    assert await parked(store, redis, [Enqueue("q", "a", b"A")]) == ["start"]
    assert await control.waiting(["t"]) == [0]


async def test_many_are_called_up_in_steps_and_whoever_sees_the_note_goes_on(keyspace, store, control, redis):
    await control.pause("task", "t", b"")
    for number in range(3):
        ids = [f"{number}{n:03}" for n in range(400)]
        await parked(store, redis, [Enqueue("q", job_id, b"A") for job_id in ids], number=number)
    await control.resume("task", "t")
    assert await control.call_up("t") == 700
    # Whoever began is gone; a worker sees the note.
    assert (await control.standing()).resuming == ["t"]
    assert [await control.call_up("t"), await control.call_up("t"), await control.call_up("t")] == [200, 0, 0]
    assert (await control.standing()).resuming == []
    assert len((await claimed(store, "q", most=1000))[0]) == 1000


async def test_a_task_that_is_paused_again_meanwhile_is_called_up_no_more(keyspace, store, control, redis):
    await control.pause("task", "t", b"")
    await parked(store, redis, [Enqueue("q", f"{n}", b"A") for n in range(600)])
    await control.resume("task", "t")
    assert await control.call_up("t") == 100
    await control.pause("task", "t", b"")
    assert await control.call_up("t") == 0
    assert await control.waiting(["t"]) == [100]
    assert (await control.standing()).resuming == []


async def test_a_job_that_was_moved_ended_or_claimed_meanwhile_is_left_alone(keyspace, store, control, redis):
    await control.pause("task", "t", b"")
    await parked(store, redis, [Enqueue("q", job_id, b"A") for job_id in ("moved", "gone", "taken")])
    await control.reschedule("q", "moved", delay_ms=3_600_000)
    await redis.zrem("q", "gone")
    await redis.zadd("q", {"taken": 8_000_000_000_000.5})
    await redis.set("arq:in-progress:taken", "w:1:9")
    before = await redis.zrange("q", 0, -1, withscores=True)
    await control.resume("task", "t")
    await control.call_up("t")
    assert await redis.zrange("q", 0, -1, withscores=True) == before
    assert not await redis.exists(LANE)


async def test_a_full_server_still_resumes(keyspace, store, control, redis, full):
    await control.pause("task", "t", b"")
    await parked(store, redis, [Enqueue("q", "a", b"A")])
    await full()
    assert await control.resume("task", "t")
    assert await control.call_up("t") == 0
