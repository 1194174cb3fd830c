"""tick.lua through ScheduleStore.tick: what is enqueued and noted, case by case, and that one of many is heard."""

import asyncio

import pytest
from redis.exceptions import OutOfMemoryError

from common.redis.schedules import BELIEVED_MS, Plan, PlannedTick, ScheduleStore
from common.redis.store import Enqueue
from common.redis.unique import UniqueAnswer, UniqueEnqueue, UniqueStore
from common.uniqueness import Throttle, Unique, UniqueTick
from tests.support.passing_time import pass_time

HOUR = 3_600_000
AWAKE = {"due": 0}


def seeded(next_tick: float | str) -> dict:
    return {
        "barque:schedules": {"n": b"record"},
        "barque:schedules:next": {"n": next_tick},
        "barque:schedules:revision": b"7",
    }


@pytest.fixture
def schedules(redis) -> ScheduleStore:
    return ScheduleStore(redis)


@pytest.fixture
async def plan_at(keyspace):
    """Make a plan whose ticks are so many ms from now; the first one is the next tick that is known."""
    now = await keyspace.now_ms()

    def plan(*offsets: int, following: int | None = HOUR, delay: int = 0, **changes) -> Plan:
        ticks = [
            PlannedTick(now + at, delay, f"schedule:n:{number}", b"P%d" % number) for number, at in enumerate(offsets)
        ]
        end = None if following is None else now + following
        return Plan("n", "q", now + offsets[0], "once", True, ticks, end)._replace(**changes)

    return plan


async def tick(schedules, plan, revision=b"7"):
    (judged,) = (await schedules.tick(revision, [plan], now_ms=0)).judged
    return judged.word, [int(each.payload[1:]) for each in judged.ran], judged.next_ms


CASES = {
    # missed, offsets of ticks in ms -> word, which ran, index of the tick that is next (None: the following one)
    "one that is due": ("once", [-500, HOUR], "ran", [0], 1),
    "the tick after the last one planned is next": ("once", [-500], "ran", [0], None),
    "once runs the latest of those that were missed": ("once", [-3 * HOUR, -2 * HOUR, -HOUR, HOUR], "ran", [2], 3),
    "all runs each": ("all", [-3 * HOUR, -2 * HOUR, -HOUR, HOUR], "ran", [0, 1, 2], 3),
    "skip runs none": ("skip", [-3 * HOUR, -2 * HOUR, -HOUR, HOUR], "passed", [], 3),
    "skip runs one that is less than a minute old": ("skip", [-3 * HOUR, -30_000, HOUR], "ran", [1], 2),
    "none is due: the worker's clock is ahead": ("once", [5000, HOUR], "early", [], 0),
}


@pytest.mark.parametrize("case", CASES)
async def test_which_ticks_run(case, keyspace, schedules, plan_at):
    missed, offsets, word, ran, following = CASES[case]
    plan = plan_at(*offsets, missed=missed)
    await keyspace.seed(seeded(plan.next_ms))
    next_tick = plan.following_ms if following is None else plan.ticks[following].tick_ms
    assert await tick(schedules, plan) == (word, ran, next_tick)
    after = await keyspace.dump()
    assert {key for key in after if key.startswith("arq:job:")} == {f"arq:job:schedule:n:{n}" for n in ran}
    assert after.get("q", {}) == {f"schedule:n:{n}": "now" for n in ran}
    assert ("barque:wake:q" in after) is bool(ran)
    known = await schedules.load()
    assert known.next_ms == {"n": next_tick}
    if ran:
        last = known.last["n"]
        assert (last.tick_ms, last.job_id, last.runs) == (
            plan.ticks[ran[-1]].tick_ms,
            f"schedule:n:{ran[-1]}",
            len(ran),
        )
        assert abs(last.at_ms - known.now_ms) < 60_000
    else:
        assert known.last == {}


async def test_the_whole_keyspace_after_a_tick(keyspace, schedules, plan_at):
    plan = plan_at(-500, following=60_000)
    await keyspace.seed(seeded(plan.next_ms))
    await schedules.tick(b"7", [plan], now_ms=0)
    after = await keyspace.dump()
    noted = after.pop("barque:schedules:last")
    assert noted["n"].endswith(b" 1 schedule:n:0")
    assert after == {
        **seeded("now+60s"), "q": {"schedule:n:0": "now"}, "arq:job:schedule:n:0": b"P0", "barque:wake:q": AWAKE,
    }  # fmt: skip


async def test_of_many_workers_that_ask_at_once_one_is_heard(keyspace, schedules, plan_at):
    plan = plan_at(-500, HOUR)
    await keyspace.seed(seeded(plan.next_ms))
    answers = await asyncio.gather(*(tick(schedules, plan) for _ in range(20)))
    assert sorted(word for word, _, _ in answers) == ["ran"] + ["taken"] * 19
    assert {next_tick for _, _, next_tick in answers} == {plan.ticks[1].tick_ms}
    assert (await schedules.load()).last["n"].runs == 1


async def test_who_knows_an_old_revision_does_nothing_and_learns_the_time(keyspace, schedules, plan_at):
    plan = plan_at(-500, HOUR)
    await keyspace.seed(seeded(plan.next_ms))
    before = await keyspace.dump()
    ticked = await schedules.tick(b"6", [plan], now_ms=0)
    assert ticked.judged is None
    assert abs(ticked.now_ms - await keyspace.now_ms()) < 60_000
    assert await keyspace.dump() == before


async def test_the_plan_of_a_worker_whose_clock_is_ahead_is_not_followed(keyspace, schedules, plan_at):
    """It names the latest tick before its own now, and so leaves out those that are due."""
    plan = plan_at(HOUR, 2 * HOUR)._replace(next_ms=await keyspace.now_ms() - 500)
    await keyspace.seed(seeded(plan.next_ms))
    (judged,) = (await schedules.tick(b"7", [plan], now_ms=plan.ticks[0].tick_ms)).judged
    assert (judged.word, judged.next_ms) == ("early", plan.next_ms)


async def test_times_that_have_changed_since_a_tick_was_missed_are_gone_by(keyspace, schedules, plan_at):
    plan = plan_at(HOUR, 2 * HOUR)._replace(next_ms=await keyspace.now_ms() - 500)
    await keyspace.seed(seeded(plan.next_ms))
    assert await tick(schedules, plan) == ("passed", [], plan.ticks[0].tick_ms)


async def test_a_schedule_that_is_paused_has_no_next_tick_to_be_known(keyspace, schedules, plan_at):
    plan = plan_at(-500, HOUR)
    await keyspace.seed({"barque:schedules": {"n": b"record"}, "barque:schedules:revision": b"7"})
    assert await tick(schedules, plan) == ("taken", [], None)
    assert await keyspace.dump() == {"barque:schedules": {"n": b"record"}, "barque:schedules:revision": b"7"}


async def test_when_no_tick_ever_follows_the_schedule_has_ended(keyspace, schedules, plan_at):
    plan = plan_at(-500, following=None)
    await keyspace.seed(seeded(plan.next_ms))
    assert await tick(schedules, plan) == ("ran", [0], None)
    assert (await schedules.load()).next_ms == {}


@pytest.mark.parametrize(("ago", "word"), [(BELIEVED_MS // 2, "ran"), (2 * BELIEVED_MS, "orphan")])
async def test_one_that_the_code_of_no_live_worker_declares_stands_still(ago, word, keyspace, schedules, plan_at):
    plan = plan_at(-500, HOUR)
    now = await keyspace.now_ms()
    seen = b"aa:1:5 bb:2:%d" % (now - ago)
    await keyspace.seed({**seeded(plan.next_ms), "barque:schedules:declared": {"n": seen}})
    found, _, next_tick = await tick(schedules, plan)
    assert found == word
    assert next_tick == (plan.next_ms if word == "orphan" else plan.ticks[1].tick_ms)


@pytest.mark.parametrize(("running", "word"), [(True, "busy"), (False, "ran")])
async def test_without_overlap_a_tick_is_left_out_while_the_last_job_has_not_ended(
    running, word, keyspace, schedules, plan_at
):
    plan = plan_at(-500, HOUR, overlap=False)
    await keyspace.seed({**seeded(plan.next_ms), "barque:schedules:last": {"n": b"1 2 41 the last"}})
    if running:
        await keyspace.seed({"arq:job:the last": b"P"})
    found, ran, next_tick = await tick(schedules, plan)
    assert (found, ran, next_tick) == (word, [] if running else [0], plan.ticks[1].tick_ms)
    last = (await schedules.load()).last["n"]
    assert (last.runs, last.job_id) == ((41, "the last") if running else (42, "schedule:n:0"))


@pytest.mark.parametrize("key", ["arq:job:schedule:n:0", "arq:in-progress:schedule:n:0", "arq:result:schedule:n:0"])
async def test_a_tick_whose_job_is_there_already_is_not_enqueued_again(key, keyspace, schedules, plan_at):
    """As after a fail-over to a replica that had the job, and not yet the note of it."""
    plan = plan_at(-500, HOUR)
    await keyspace.seed({**seeded(plan.next_ms), key: (b"x", "60s")})
    assert (await tick(schedules, plan))[2] == plan.ticks[1].tick_ms
    after = await keyspace.dump()
    assert "q" not in after
    assert after[key] == (b"x", "60s")


async def test_a_run_that_is_put_off_is_due_later_and_wakes_who_waits_for_it(keyspace, schedules, plan_at):
    plan = plan_at(-500, HOUR, delay=60_000)
    await keyspace.seed(seeded(plan.next_ms))
    await tick(schedules, plan)
    after = await keyspace.dump()
    assert (after["q"], after["barque:wake:q"]) == ({"schedule:n:0": "now+60s"}, AWAKE)


async def test_one_queue_that_takes_no_job_does_not_stop_the_others(keyspace, schedules, plan_at):
    bad = plan_at(-500, HOUR, queue="bad")
    good = bad._replace(name="m", queue="good", ticks=[each._replace(job_id="m") for each in bad.ticks])
    await keyspace.seed({**seeded(bad.next_ms), "bad": b"a string"})
    await keyspace.seed({"barque:schedules:next": {"m": bad.next_ms}})
    first, second = (await schedules.tick(b"7", [bad, good], now_ms=0)).judged
    assert (first.word, first.next_ms) == ("refused", bad.next_ms)
    assert "WRONGTYPE" in first.why
    assert second.word == "ran"
    known = await schedules.load()
    assert known.next_ms == {"n": bad.next_ms, "m": bad.ticks[1].tick_ms}
    assert set(known.last) == {"m"}


async def test_a_full_server_keeps_the_tick_for_later(keyspace, schedules, plan_at, full):
    plan = plan_at(-500, HOUR)
    await keyspace.seed(seeded(plan.next_ms))
    before = await keyspace.dump()
    await full()
    try:
        judged = await tick(schedules, plan)
    except OutOfMemoryError:
        judged = ("refused", [], plan.next_ms)
    assert judged == ("refused", [], plan.next_ms)
    assert await keyspace.dump() == before


# Ticks of a task that is unique


DONE = UniqueTick("k", "done", 0)


def unique(job_id: str, declared=None) -> list[UniqueEnqueue]:
    rule = (declared or Unique()).rule
    return [UniqueEnqueue(Enqueue("q", job_id, b"other", False), "k", rule, minted=True)]


async def test_a_tick_takes_a_key_that_is_free_and_enqueues_meet_it(redis, keyspace, schedules, plan_at):
    plan = plan_at(-500, unique=DONE)
    await keyspace.seed(seeded(plan.next_ms))
    assert await tick(schedules, plan) == ("ran", [0], plan.following_ms)
    assert await UniqueStore(redis).enqueue(unique("a")) == [UniqueAnswer("there", "schedule:n:0", "q")]
    assert await redis.zscore("barque:unique", "k")


@pytest.mark.parametrize("missed", ["once", "all"])
async def test_a_tick_is_left_out_where_a_job_of_its_key_is_there(missed, redis, keyspace, schedules, plan_at):
    plan = plan_at(-HOUR, -500, unique=DONE, missed=missed)
    await keyspace.seed(seeded(plan.next_ms))
    await UniqueStore(redis).enqueue(unique("a"))
    assert await tick(schedules, plan) == ("held", [], plan.following_ms)
    assert await redis.zcard("q") == 1
    assert (await schedules.load()).last == {}


async def test_of_many_missed_ticks_the_first_runs_and_keeps_the_others_away(redis, keyspace, schedules, plan_at):
    plan = plan_at(-3 * HOUR, -2 * HOUR, -HOUR, unique=DONE, missed="all")
    await keyspace.seed(seeded(plan.next_ms))
    assert await tick(schedules, plan) == ("ran", [0], plan.following_ms)
    assert (await schedules.load()).last["n"].runs == 1


async def test_a_window_keeps_ticks_away_until_it_is_over(redis, keyspace, schedules, plan_at):
    throttle = Throttle(7200)
    plan = plan_at(-500, unique=UniqueTick("k", "time", throttle.rule.window_ms))
    await keyspace.seed(seeded(plan.next_ms))
    await UniqueStore(redis).enqueue(unique("a", throttle))
    await redis.delete("arq:job:a", "q")
    assert await tick(schedules, plan) == ("held", [], plan.following_ms)
    await pass_time(redis, 7201)
    now = await keyspace.now_ms()
    due = plan._replace(next_ms=plan.following_ms - 7_201_000, following_ms=now + HOUR)
    assert await tick(schedules, due) == ("ran", [0], now + HOUR)
    ttl = await redis.pttl("barque:unique:k")
    assert 7_100_000 < ttl <= 7_200_000


async def test_a_record_of_a_foreign_type_keeps_no_tick_away_but_fails_none_beside_it(
    redis, keyspace, schedules, plan_at
):
    plan = plan_at(-500)
    await keyspace.seed(seeded(plan.next_ms))
    await redis.set("barque:unique:other", b"foreign")
    assert (await tick(schedules, plan))[0] == "ran"
