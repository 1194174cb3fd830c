"""add_schedule.lua, remove_schedule.lua and pause_schedule.lua through ScheduleStore."""

import pytest

from common.redis.schedules import BELIEVED_MS, ScheduleStore


@pytest.fixture
def schedules(redis) -> ScheduleStore:
    return ScheduleStore(redis)


@pytest.fixture
async def now(keyspace) -> int:
    return await keyspace.now_ms()


async def declared(keyspace, ago_ms: int) -> None:
    now = await keyspace.now_ms()
    await keyspace.seed(
        {
            "barque:schedules": {"n": b"record"},
            "barque:schedules:next": {"n": now + 60_000},
            "barque:schedules:declared": {"n": b"aa:1:%d" % (now - ago_ms)},
            "barque:schedules:last": {"n": b"1 2 3 id"},
        }
    )


async def test_added_it_is_there_with_its_next_tick(keyspace, schedules, now):
    assert await schedules.add("n", b"record", now + 60_000, replace=False) == "added"
    after = await keyspace.dump()
    assert int(after.pop("barque:schedules:revision")) >= now
    assert after == {"barque:schedules": {"n": b"record"}, "barque:schedules:next": {"n": "now+60s"}}


@pytest.mark.parametrize("replace", [True, False])
async def test_added_again_as_it_is_it_keeps_everything(replace, keyspace, schedules, now):
    await schedules.add("n", b"record", now + 60_000, replace=False)
    before = await keyspace.dump()
    assert await schedules.add("n", b"record", now + 900_000, replace=replace) == "same"
    assert await keyspace.dump() == before


async def test_another_one_of_the_name_is_refused_unless_it_is_to_be_changed(keyspace, schedules, now):
    await schedules.add("n", b"record", now + 60_000, replace=False)
    before = await keyspace.dump()
    assert await schedules.add("n", b"other", now + 900_000, replace=False) == "exists"
    assert await keyspace.dump() == before
    await keyspace.seed({"barque:schedules:last": {"n": b"1 2 3 id"}})
    assert await schedules.add("n", b"other", now + 900_000, replace=True) == "changed"
    known = await schedules.load()
    assert (known.records, known.next_ms, known.last["n"].runs) == ({"n": b"other"}, {"n": now + 900_000}, 3)
    assert int(known.revision) > int(before["barque:schedules:revision"])


async def test_changed_while_it_is_paused_it_stays_paused(keyspace, schedules, now):
    await schedules.add("n", b"record", now + 60_000, replace=False)
    await schedules.pause("n")
    assert await schedules.add("n", b"other", now + 900_000, replace=True) == "changed"
    known = await schedules.load()
    assert (known.next_ms, set(known.paused_ms)) == ({}, {"n"})


@pytest.mark.parametrize("replace", [True, False])
async def test_one_that_live_code_declares_is_left_to_it(replace, keyspace, schedules, now):
    await declared(keyspace, 1000)
    before = await keyspace.dump()
    assert await schedules.add("n", b"other", now, replace=replace) == "declared"
    assert await schedules.remove("n") == "declared"
    assert await keyspace.dump() == before


async def test_one_that_code_declared_once_can_be_taken_over_or_removed(keyspace, schedules, now):
    await declared(keyspace, 2 * BELIEVED_MS)
    assert await schedules.add("n", b"other", now + 60_000, replace=True) == "changed"
    assert (await schedules.load()).declared == {}
    await keyspace.clear()
    await declared(keyspace, 2 * BELIEVED_MS)
    assert await schedules.remove("n") == "removed"
    assert await keyspace.dump() == {}


async def test_removed_nothing_is_left(keyspace, schedules, now):
    await schedules.add("n", b"record", now + 60_000, replace=False)
    await schedules.add("m", b"record", now + 60_000, replace=False)
    await keyspace.seed({"barque:schedules:last": {"n": b"1 2 3 id"}})
    revision = (await schedules.load()).revision
    assert await schedules.remove("n") == "removed"
    assert await schedules.remove("n") == "missing"
    known = await schedules.load()
    assert (set(known.records), set(known.next_ms), known.last) == ({"m"}, {"m"}, {})
    assert known.revision != revision
    assert await schedules.remove("m") == "removed"
    assert await keyspace.dump() == {}


async def test_a_pause_takes_the_next_tick_away_and_its_end_gives_another(keyspace, schedules, now):
    await schedules.add("n", b"record", now + 60_000, replace=False)
    assert await schedules.pause("n") == "done"
    assert await schedules.pause("n") == "same"
    paused = await schedules.load()
    assert (paused.next_ms, set(paused.paused_ms)) == ({}, {"n"})
    assert await schedules.resume("n", now + 900_000) == "done"
    assert await schedules.resume("n", now + 60_000) == "same"
    known = await schedules.load()
    assert (known.next_ms, known.paused_ms) == ({"n": now + 900_000}, {})
    assert int(known.revision) > int(paused.revision)


async def test_what_is_not_there_cannot_be_paused(schedules, keyspace, now):
    assert await schedules.pause("n") == "missing"
    assert await schedules.resume("n", now) == "missing"
    assert await keyspace.dump() == {}


async def test_a_name_may_be_any_bytes_in_a_foreign_hand(keyspace, schedules, redis, now):
    await redis.hset("barque:schedules", b"\xff", b"record")
    assert set((await schedules.load()).records) == {"\udcff"}
    assert await schedules.remove("\udcff") == "removed"
