"""common/redis/scripts.py: scripts the server forgot are sent again, and run once."""

import asyncio

import pytest

from common.redis import control, scripts
from common.redis.connection import blocking_twin
from common.redis.control import Abort, ControlStore
from common.redis.store import MOST_PER_CALL, BlockingStore, Enqueue, Finish, HeldLease, PutBack, Refusals

LEASE = HeldLease(0, "a", "w:1:1", 1)

CALLS = {
    "enqueue": lambda store: store.enqueue([Enqueue("q", "a", b"A", fresh=False)]),
    "claim": lambda store: store.claim(("q",), most=1, lease_ms=1000, worker="w", number=1),
    "complete": lambda store: store.complete(("q",), [PutBack(LEASE, "retry", 0)]),
    "renew": lambda store: store.renew(("q",), [LEASE], lease_ms=1000),
    "await": lambda store: store.await_results("c", ["a"]),
    "abort": lambda store: ControlStore(store.client).abort("q", [Abort("a", b"")], keep_ms=0),
    "reschedule": lambda store: ControlStore(store.client).reschedule("q", "a"),
}


async def loaded(redis) -> dict[str, bool]:
    every = (*scripts.SCRIPTS, *control.SCRIPTS)
    found = await redis.script_exists(*(script.sha for script in every))
    return {script.name: bool(there) for script, there in zip(every, found, strict=True)}


@pytest.mark.parametrize("name", CALLS)
async def test_a_script_the_server_forgot_is_sent_once_and_known_again(name, keyspace, store, redis):
    await redis.script_flush()
    assert not any((await loaded(redis)).values())
    await CALLS[name](store)
    assert (await loaded(redis))[name]
    await redis.config_resetstat()
    await CALLS[name](store)
    ran = await redis.info("commandstats")
    assert ran["cmdstat_evalsha"]["calls"] == 1
    assert "cmdstat_eval" not in ran


async def test_forgotten_in_the_blocking_store_too(keyspace, redis):
    await redis.script_flush()
    blocking = BlockingStore(blocking_twin(redis))
    renewal = await asyncio.to_thread(blocking.renew, ("q",), [LEASE], lease_ms=1000)
    assert renewal.lost == [LEASE]
    blocking.close()


async def test_thousands_of_jobs_in_one_round_trip_survive_a_flush_and_are_added_once(keyspace, store, redis):
    await redis.script_flush()
    count = 3 * MOST_PER_CALL + 1
    added = await store.enqueue([Enqueue("q", f"{n:05}", b"x", fresh=n % 2 == 0) for n in range(count)])
    assert added == [True] * count
    assert await redis.zcard("q") == count


@pytest.mark.parametrize("forgotten", [True, False])
async def test_each_job_of_one_round_trip_has_its_own_answer_be_it_an_error(forgotten, keyspace, store, redis):
    await CALLS["enqueue"](store)
    if forgotten:
        await redis.script_flush()
    await keyspace.seed({"bad": b"a string"})
    jobs = [Enqueue("good", "a", b"A"), Enqueue("bad", "b", b"B"), Enqueue("fine", "c", b"C")]
    good, bad, fine = await store.enqueue(jobs)
    assert (good, fine) == (True, True)
    assert "WRONGTYPE" in str(bad)
    assert await redis.zcard("good") == 1
    assert await redis.zcard("fine") == 1


async def test_each_script_runs_in_one_command(keyspace, store, redis):
    await store.enqueue([Enqueue("q", "a", b"A")])
    await store.claim(("q",), most=1, lease_ms=60_000, worker="w", number=1)
    await redis.config_resetstat()
    outcome = Finish(LEASE, b"R", 60_000)
    assert await store.complete(("q",), [outcome]) == Refusals([], [])
    ran = {name: stat["calls"] for name, stat in (await redis.info("commandstats")).items()}
    assert ran.get("cmdstat_evalsha", 0) + ran.get("cmdstat_eval", 0) in {
        1,
        2,
    }  # 2 where the server did not know it yet


def test_a_script_is_shown_by_its_name():
    assert repr(scripts.CLAIM) == "<Script claim>"
