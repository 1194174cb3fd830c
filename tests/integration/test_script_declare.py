"""declare.lua through ScheduleStore.declare: which version of the code is in force, what is forgotten."""

import pytest

from common.redis.schedules import BELIEVED_MS, Declaration, ScheduleStore

WEEK = 7 * 24 * 3_600_000


@pytest.fixture
def schedules(redis) -> ScheduleStore:
    return ScheduleStore(redis)


@pytest.fixture
async def now(keyspace) -> int:
    return await keyspace.now_ms()


def version(digest: str, next_ms: int | None, name: str = "n") -> Declaration:
    return Declaration(name, digest, f"record {digest}".encode(), next_ms)


async def seen(keyspace, name: str, *versions: tuple[str, int, int]) -> None:
    """Put versions as seen first and last, so many ms ago."""
    now = await keyspace.now_ms()
    text = " ".join(f"{digest}:{now - first}:{now - last}" for digest, first, last in versions)
    await keyspace.seed({"barque:schedules:declared": {name: text.encode()}})


async def test_the_first_declaration(keyspace, schedules, now):
    assert await schedules.declare([version("aa", now + 60_000)]) == ["current"]
    after = await keyspace.dump()
    told = after.pop("barque:schedules:declared")["n"].decode().split(":")
    assert told[0] == "aa"
    assert told[1] == told[2]
    assert int(after.pop("barque:schedules:revision")) >= now
    assert after == {"barque:schedules": {"n": b"record aa"}, "barque:schedules:next": {"n": "now+60s"}}


async def test_declared_again_it_changes_nothing_but_when_it_was_seen(keyspace, schedules, now):
    await schedules.declare([version("aa", now + 60_000)])
    known = await schedules.load()
    assert await schedules.declare([version("aa", now + 120_000)]) == ["current"]
    again = await schedules.load()
    assert (again.revision, again.next_ms, again.records) == (known.revision, known.next_ms, known.records)
    assert again.declared["n"][0].first_ms == known.declared["n"][0].first_ms


async def test_each_declaration_says_that_it_is_still_believed(keyspace, schedules, now):
    await keyspace.seed({"barque:schedules": {"n": b"record aa"}, "barque:schedules:next": {"n": now + 60_000}})
    await seen(keyspace, "n", ("aa", BELIEVED_MS, BELIEVED_MS - 20_000))
    assert await schedules.declare([version("aa", now + 60_000)]) == ["current"]
    (told,) = (await schedules.load()).live("n")
    assert told.first_ms < now - BELIEVED_MS // 2
    assert told.last_ms >= now


async def test_one_that_stood_still_for_want_of_code_is_heard_of_again(keyspace, schedules, now):
    """Workers that let it be look at it again when the revision is another one."""
    await keyspace.seed({"barque:schedules": {"n": b"record aa"}, "barque:schedules:next": {"n": now - 60_000}})
    await keyspace.seed({"barque:schedules:revision": b"7"})
    await seen(keyspace, "n", ("aa", 9 * BELIEVED_MS, 2 * BELIEVED_MS))
    assert await schedules.declare([version("aa", now + 60_000)]) == ["current"]
    assert (await schedules.load()).revision != b"7"


async def test_a_newer_version_is_in_force_and_the_older_one_is_told(keyspace, schedules, now):
    await schedules.declare([version("aa", now + 60_000)])
    await seen(keyspace, "n", ("aa", 5000, 1000))
    revision = (await schedules.load()).revision
    assert await schedules.declare([version("bb", now + 120_000)]) == ["current"]
    assert await schedules.declare([version("aa", now + 60_000)]) == ["older"], "a restart of the old version"
    known = await schedules.load()
    assert known.records == {"n": b"record bb"}
    assert known.next_ms == {"n": now + 120_000}
    assert known.revision != revision
    assert len(known.live("n")) == 2


async def test_when_the_newer_version_is_gone_the_older_one_is_back(keyspace, schedules, now):
    await keyspace.seed({"barque:schedules": {"n": b"record bb"}, "barque:schedules:next": {"n": now + 120_000}})
    await seen(keyspace, "n", ("aa", 9 * BELIEVED_MS, 1000), ("bb", 8 * BELIEVED_MS, 2 * BELIEVED_MS))
    assert await schedules.declare([version("aa", now + 60_000)]) == ["current"]
    known = await schedules.load()
    assert (known.records, known.next_ms) == ({"n": b"record aa"}, {"n": now + 60_000})
    assert [each.digest for each in known.declared["n"]] == ["aa"]


async def test_a_version_of_long_ago_that_is_deployed_again_is_the_newest(keyspace, schedules, now):
    await keyspace.seed({"barque:schedules": {"n": b"record bb"}})
    await seen(keyspace, "n", ("aa", WEEK, 2 * BELIEVED_MS), ("bb", BELIEVED_MS, 1000))
    assert await schedules.declare([version("aa", now + 60_000)]) == ["current"]


async def test_ticks_missed_while_the_fleet_was_away_are_not_forgotten_by_a_restart(keyspace, schedules, now):
    """Be it with the same code or with another version."""
    for digest in ("aa", "bb"):
        await keyspace.clear()
        await keyspace.seed({"barque:schedules": {"n": b"record aa"}, "barque:schedules:next": {"n": now - 600_000}})
        await seen(keyspace, "n", ("aa", 900_000, 600_000))
        assert await schedules.declare([version(digest, now + 60_000)]) == ["current"]
        assert (await schedules.load()).next_ms == {"n": now - 600_000}


async def test_one_that_is_paused_stays_paused(keyspace, schedules, now):
    await keyspace.seed({"barque:schedules": {"n": b"record aa"}, "barque:schedules:paused": {"n": now}})
    await seen(keyspace, "n", ("aa", 5000, 1000))
    assert await schedules.declare([version("bb", now + 60_000)]) == ["current"]
    known = await schedules.load()
    assert (known.next_ms, known.paused_ms, known.records) == ({}, {"n": now}, {"n": b"record bb"})


async def test_one_that_was_added_by_hand_is_left_alone(keyspace, schedules, now):
    before = {"barque:schedules": {"n": b"by hand"}, "barque:schedules:next": {"n": "now+60s"}}
    await keyspace.seed(before)
    assert await schedules.declare([version("aa", now)]) == ["taken"]
    assert await keyspace.dump() == before


async def test_a_schedule_that_never_ticks_again_has_no_next_tick(schedules, keyspace, now):
    await schedules.declare([version("aa", None)])
    assert (await schedules.load()).next_ms == {}


async def test_what_no_code_declares_for_a_week_is_forgotten(keyspace, schedules, now):
    old = {
        "barque:schedules": {"n": b"record aa", "hand": b"by hand"},
        "barque:schedules:next": {"n": now, "hand": "now+60s"},
        "barque:schedules:last": {"n": b"1 2 3 id"},
    }
    await keyspace.seed(old)
    await seen(keyspace, "n", ("aa", 2 * WEEK, WEEK + 60_000))
    await schedules.declare([version("cc", now + 60_000, "other")])
    known = await schedules.load()
    assert (set(known.records), set(known.next_ms), known.last) == ({"hand", "other"}, {"hand", "other"}, {})
    assert set(known.declared) == {"other"}


async def test_a_fleet_that_was_away_for_longer_keeps_its_own(keyspace, schedules, now):
    await keyspace.seed({"barque:schedules": {"n": b"record aa"}, "barque:schedules:next": {"n": now - 2 * WEEK}})
    await seen(keyspace, "n", ("aa", 3 * WEEK, 2 * WEEK))
    assert await schedules.declare([version("aa", now + 60_000)]) == ["current"]
    assert (await schedules.load()).next_ms == {"n": now - 2 * WEEK}


async def test_workers_are_told_of_a_change_and_of_nothing_else(keyspace, schedules, redis, now):
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe("barque:control")
        await pubsub.get_message(timeout=5)
        await schedules.declare([version("aa", now + 60_000)])
        await schedules.declare([version("aa", now + 60_000)])
        await redis.publish("barque:control", "end")
        heard = []
        while not heard or heard[-1] != b"end":
            message = await pubsub.get_message(timeout=5)
            heard.append(message["data"])
    assert heard == [b"schedules", b"end"]
