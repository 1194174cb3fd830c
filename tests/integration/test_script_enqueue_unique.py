"""enqueue_unique.lua through UniqueStore.enqueue: what it leaves in the keyspace, case by case."""

import pytest
from redis.exceptions import ResponseError

from common.redis.store import Enqueue
from common.redis.unique import Signed, UniqueAnswer, UniqueEnqueue, UniqueStore
from common.uniqueness import Debounce, Throttle, Unique
from tests.support.passing_time import pass_time

AWAKE = {"due": 0}
MONTH = "2592000s"

DONE = Unique().rule
STARTED = Unique(until="started").rule
REPLACE = Unique(on_conflict="replace").rule
REJECT = Unique(on_conflict="reject").rule
HOUR = Unique(until=None, for_=3600).rule
REJECT_FOR_AN_HOUR = Unique(for_=3600, on_conflict="reject").rule
QUIET = Debounce(60, at_most=150).rule
TRAILING = Throttle(60, trailing=True).rule

WAITING = {"q": {"a": "now"}, "arq:job:a": b"A"}
DELAYED = {"q": {"a": "now+60s"}, "arq:job:a": b"A"}
RUNNING = {"q": {"a": "lease+60s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:1:1", "60s")}
LOST = {"q": {"a": "lease-60s"}, "arq:job:a": b"A"}
BETWEEN_ATTEMPTS = {"q": {"a": "now+60s"}, "arq:job:a": b"A", "arq:retry:a": b"1"}
EXPIRED = {"q": {"a": "now"}, "arq:retry:a": b"0"}
OUT_OF_QUEUE = {"arq:job:a": b"A"}
ENDED = {"arq:result:a": (b"R", "60s")}


@pytest.fixture
def unique(redis) -> UniqueStore:
    return UniqueStore(redis)


def job(job_id="b", rule=DONE, *, payload=b"B", queue="q", minted=True, signed=None, **options) -> UniqueEnqueue:
    return UniqueEnqueue(Enqueue(queue, job_id, payload, False, **options), "k", rule, minted, signed)


def added(job_id="b", queue="q"):
    return [UniqueAnswer("added", job_id, queue)]


async def hold(keyspace, state, *, free=-100, first=-100, trailing=False, job_id="a", queue="q"):
    """Seed a job that has the key, held until and since so many seconds from now."""
    now = await keyspace.now_ms()
    record = {"job": job_id, "queue": queue, "free": now + free * 1000, "first": now + first * 1000}
    await keyspace.seed(state)
    await keyspace.client.hset("barque:unique:k", mapping=record | {"trailing": int(trailing)})
    await keyspace.client.pexpire("barque:unique:k", 2_592_000_000)


async def left(keyspace) -> dict:
    """Return the keyspace without what is told of the record."""
    found = await keyspace.dump()
    found.pop("barque:unique", None)
    found.pop("barque:unique:k", None)
    return found


async def test_a_job_whose_key_is_free_leaves_a_record_and_a_day_to_look_at_it(unique, keyspace):
    assert await unique.enqueue([job()]) == added()
    now = await keyspace.now_ms()
    found = await keyspace.dump()
    record, ttl = found.pop("barque:unique:k")
    assert found == {
        "q": {"b": "now"}, "arq:job:b": b"B", "barque:wake:q": AWAKE, "barque:unique": ({"k": "now+60s"}, MONTH),
    }  # fmt: skip
    assert ttl == MONTH
    assert (record["job"], record["queue"], record["trailing"]) == (b"b", b"q", b"0")
    assert now - 5000 < int(record["first"]) <= now
    assert record["free"] == record["first"]


@pytest.mark.parametrize("held", [False, True])
async def test_nothing_that_a_job_of_its_id_told_is_left_to_it(held, unique, keyspace):
    told = {"barque:progress:a": b"P", "barque:stream:a": [b"S"], "barque:attempts:a": [b"old"]}
    if held:
        await hold(keyspace, WAITING | told)
        assert await unique.enqueue([job(rule=REPLACE)]) == [UniqueAnswer("replaced", "a", "q")]
    else:
        await keyspace.seed(told)
        assert await unique.enqueue([job("a", minted=False)]) == added("a")
    assert await left(keyspace) == {"q": {"a": "now"}, "arq:job:a": b"B", "barque:wake:q": AWAKE}


async def test_one_that_waits_has_its_record_for_longer(unique, keyspace):
    assert await unique.enqueue([job(delay_ms=86_400_000)]) == added()
    found = await keyspace.dump()
    assert found["q"] == {"b": "now+86400s"}
    assert found["barque:unique:k"][1] == "2678400s"
    assert found["barque:unique"] == ({"k": "now+86460s"}, "2678400s")


async def test_one_that_is_held_for_a_time_alone_has_a_record_for_that_time(unique, keyspace):
    assert await unique.enqueue([job(rule=HOUR)]) == added()
    found = await keyspace.dump()
    assert found["barque:unique:k"][1] == "3600s"
    assert "barque:unique" not in found


KEEPS_AWAY = {
    "waiting": (WAITING, {DONE, STARTED, REPLACE, REJECT}),
    "delayed": (DELAYED, {DONE, STARTED, REPLACE, REJECT}),
    "running": (RUNNING, {DONE, REPLACE, REJECT}),
    "lost with its worker": (LOST, {DONE, REPLACE, REJECT}),
    "between attempts": (BETWEEN_ATTEMPTS, {DONE, REPLACE, REJECT}),
    "expired": (EXPIRED, set()),
    "no longer in its queue": (OUT_OF_QUEUE, set()),
    "ended": (ENDED, set()),
    "a tick that ended": ({"arq:in-progress:a": (b"done", "60s")}, set()),
    "without a trace": ({}, set()),
}


@pytest.mark.parametrize("rule", [DONE, STARTED, REPLACE, REJECT, HOUR], ids=str)
@pytest.mark.parametrize("stands", KEEPS_AWAY)
async def test_what_a_job_that_has_the_key_keeps_away(stands, rule, unique, keyspace):
    state, rules = KEEPS_AWAY[stands]
    await hold(keyspace, state)
    before = await left(keyspace)
    (answer,) = await unique.enqueue([job(rule=rule)])
    if rule not in rules:
        assert answer == added()[0]
        assert (await redis_record(keyspace))["job"] == b"b"
    elif rule == REPLACE and stands in {"waiting", "delayed"}:
        assert answer == UniqueAnswer("replaced", "a", "q")
    else:
        assert answer == UniqueAnswer("rejected" if rule == REJECT else "there", "a", "q")
        assert await left(keyspace) == before


async def redis_record(keyspace):
    return (await keyspace.dump())["barque:unique:k"][0]


@pytest.mark.parametrize("stands", KEEPS_AWAY)
async def test_a_window_keeps_away_whatever_became_of_the_job(stands, unique, keyspace):
    await hold(keyspace, KEEPS_AWAY[stands][0], free=60)
    assert await unique.enqueue([job(rule=HOUR)]) == [UniqueAnswer("there", "a", "q")]


async def test_a_replaced_job_keeps_its_id_and_queue_and_its_place_if_it_is_due(unique, keyspace):
    await hold(keyspace, {"q": {"a": "now-60s"}, "arq:job:a": b"A"})
    assert await unique.enqueue([job(rule=REPLACE, queue="r")]) == [UniqueAnswer("replaced", "a", "q")]
    assert await left(keyspace) == {"q": {"a": "now-60s"}, "arq:job:a": b"B", "barque:wake:q": AWAKE}


async def test_a_replaced_job_is_due_as_the_new_one_says(unique, keyspace):
    await hold(keyspace, WAITING)
    assert await unique.enqueue([job(rule=REPLACE, delay_ms=60_000)]) == [UniqueAnswer("replaced", "a", "q")]
    assert (await left(keyspace))["q"] == {"a": "now+60s"}
    await unique.enqueue([job(rule=REPLACE)])
    assert (await left(keyspace))["q"] == {"a": "now"}
    await unique.enqueue([job(rule=REPLACE, at_ms=5)])
    assert (await left(keyspace))["q"] == {"a": 5}


async def test_a_replaced_job_expires_as_the_new_one_says(unique, keyspace):
    await hold(keyspace, DELAYED)
    await unique.enqueue([job(rule=REPLACE, delay_ms=60_000, expires_ms=90_000)])
    found = await left(keyspace)
    assert (found["arq:job:a"], found["arq:retry:a"]) == ((b"B", "90s"), b"0")
    await unique.enqueue([job(rule=REPLACE, delay_ms=60_000)])
    assert (await left(keyspace)) == {"q": {"a": "now+60s"}, "arq:job:a": b"B", "barque:wake:q": AWAKE}


@pytest.mark.parametrize("ahead_ms", [-600_000, 600_000])
@pytest.mark.parametrize("code", [7, 2035, 2045, 2047], ids=["passed on", "head start", "parked", "reserved"])
async def test_a_job_that_waits_for_a_reason_of_its_own_keeps_its_score_to_the_last_bit(
    ahead_ms, code, unique, keyspace, redis
):
    score = await keyspace.now_ms() + ahead_ms + code / 2048
    await hold(keyspace, {"arq:job:a": b"A"})
    await redis.zadd("q", {"a": score})
    assert await unique.enqueue([job(rule=REPLACE)]) == [UniqueAnswer("replaced", "a", "q")]
    assert await redis.zscore("q", "a") == score


async def test_a_debounced_job_is_put_off_but_not_for_ever(unique, keyspace):
    await hold(keyspace, DELAYED, first=-40)
    await unique.enqueue([job(rule=QUIET)])
    assert (await left(keyspace))["q"] == {"a": "now+60s"}
    await hold(keyspace, DELAYED, first=-120)
    await unique.enqueue([job(rule=QUIET)])
    assert (await left(keyspace))["q"] == {"a": "now+30s"}


async def test_a_throttles_trailing_job_waits_for_the_end_of_the_window_and_begins_the_next(unique, keyspace):
    await hold(keyspace, ENDED, free=30)
    assert await unique.enqueue([job(rule=TRAILING)]) == added()
    assert (await left(keyspace))["q"] == {"b": "now+30s"}
    now, record = await keyspace.now_ms(), await redis_record(keyspace)
    assert (record["job"], record["trailing"]) == (b"b", b"1")
    assert 85_000 < int(record["free"]) - now <= 90_000
    assert await unique.enqueue([job("c", TRAILING, payload=b"C")]) == [UniqueAnswer("replaced", "b", "q")]
    found = await left(keyspace)
    assert (found["q"], found["arq:job:b"]) == ({"b": "now+30s"}, b"C")


async def test_in_one_call_each_meets_those_before_it(unique, keyspace):
    other = UniqueEnqueue(Enqueue("r", "z", b"Z", False), "other", DONE, minted=True)
    answers = await unique.enqueue([job("a"), other, job("b"), job("c", REPLACE, payload=b"C"), job("d", REJECT)])
    assert [(answer.word, answer.job_id, answer.queue) for answer in answers] == [
        ("added", "a", "q"), ("added", "z", "r"), ("there", "a", "q"), ("replaced", "a", "q"), ("rejected", "a", "q"),
    ]  # fmt: skip
    found = await keyspace.dump()
    assert (found["arq:job:a"], found["arq:job:z"]) == (b"C", b"Z")
    assert (found["barque:wake:q"], found["barque:wake:r"]) == (AWAKE, AWAKE)


async def test_more_than_one_script_takes_are_all_answered_in_order(unique, keyspace):
    jobs = [UniqueEnqueue(Enqueue("q", f"i{n}", b"", False), f"k{n % 600}", DONE, minted=True) for n in range(700)]
    answers = await unique.enqueue(jobs)
    assert [answer.word for answer in answers] == ["added"] * 600 + ["there"] * 100
    assert [answer.job_id for answer in answers[600:]] == [f"i{n}" for n in range(100)]


# What is sent again because its reply was lost


@pytest.mark.parametrize("rule", [DONE, STARTED, REPLACE, REJECT, HOUR, REJECT_FOR_AN_HOUR, QUIET, TRAILING], ids=str)
async def test_what_is_sent_again_is_there_once_and_in_no_conflict_with_itself(rule, unique, keyspace):
    assert await unique.enqueue([job(rule=rule)]) == added()
    before = await keyspace.dump()
    assert await unique.enqueue([job(rule=rule)]) == added()
    assert await keyspace.dump() == before


@pytest.mark.parametrize("rule", [DONE, STARTED, REPLACE, REJECT, HOUR, REJECT_FOR_AN_HOUR, QUIET, TRAILING], ids=str)
@pytest.mark.parametrize("ended", [{}, ENDED], ids=["no result kept", "result kept"])
async def test_nor_is_it_run_twice_where_it_has_ended_by_then(ended, rule, unique, keyspace):
    await hold(keyspace, ended, free=rule.window_ms // 1000)
    before = await keyspace.dump()
    assert await unique.enqueue([job("a", rule)]) == added("a")
    assert await keyspace.dump() == before


async def test_nor_where_another_job_has_the_key_by_then(unique, keyspace):
    await hold(keyspace, {"q": {"c": "now"}, "arq:job:c": b"C"} | ENDED, job_id="c")
    before = await left(keyspace)
    assert await unique.enqueue([job("a", REPLACE)]) == added("a")
    assert await left(keyspace) == before


@pytest.mark.parametrize("rule", [DONE, STARTED, REJECT, HOUR, REJECT_FOR_AN_HOUR], ids=str)
async def test_an_id_of_the_callers_own_is_taken_as_long_as_without_a_key(rule, unique, keyspace):
    for state in (WAITING, RUNNING, BETWEEN_ATTEMPTS, ENDED):
        await keyspace.clear()
        await hold(keyspace, state)
        assert await unique.enqueue([job("a", rule, minted=False)]) == [UniqueAnswer("there", "a", "q")]
    await keyspace.clear()
    await hold(keyspace, {})
    assert await unique.enqueue([job("a", rule, minted=False)]) == added("a")


async def test_an_id_that_a_job_without_the_key_has_is_returned_and_gets_no_key(unique, keyspace):
    await keyspace.seed(WAITING)
    assert await unique.enqueue([job("a", REJECT, minted=False)]) == [UniqueAnswer("there", "a", "q")]
    assert await keyspace.dump() == WAITING


# Signed payloads hold for one id and queue alone


async def test_what_is_signed_for_the_wrong_job_is_asked_for_anew(unique, keyspace):
    await hold(keyspace, WAITING)
    before = await left(keyspace)
    for signed in (Signed("b", "q"), Signed("c", "q", b"signed for c"), Signed("a", "r", b"signed for queue r")):
        assert await unique.enqueue([job(rule=REPLACE, signed=signed)]) == [UniqueAnswer("sign", "a", "q")]
        assert await left(keyspace) == before
    answers = await unique.enqueue([job(rule=REPLACE, signed=Signed("a", "q", b"signed for a"))])
    assert answers == [UniqueAnswer("replaced", "a", "q")]
    assert (await left(keyspace))["arq:job:a"] == b"signed for a"


async def test_what_is_signed_for_another_is_added_as_its_own_where_that_one_has_ended(unique, keyspace):
    await hold(keyspace, ENDED)
    assert await unique.enqueue([job(rule=REPLACE, signed=Signed("a", "q", b"signed for a"))]) == added()
    assert (await left(keyspace))["arq:job:b"] == b"B"


async def test_a_job_of_ones_own_id_needs_no_other_payload(unique, keyspace):
    await hold(keyspace, WAITING)
    answers = await unique.enqueue([job("a", REPLACE, minted=False, signed=Signed("a", "q"))])
    assert answers == [UniqueAnswer("replaced", "a", "q")]
    assert (await left(keyspace))["arq:job:a"] == b"B"


# What may be wrong with the server


async def test_a_full_server_takes_none_and_keeps_all_as_it_was(unique, keyspace, full):
    await hold(keyspace, WAITING)
    await keyspace.seed({"barque:unique": {"k": 5, "gone": 5}})
    await full()
    free = UniqueEnqueue(Enqueue("q", "z", b"Z", False), "other", DONE, minted=True)
    before = await left(keyspace)
    there, refused, replaced = await unique.enqueue([job(), free, job("c", REPLACE)])
    assert there == UniqueAnswer("there", "a", "q")
    for answer in (refused, replaced):
        assert isinstance(answer, ResponseError)
        assert "OOM" in str(answer)
    assert await left(keyspace) == before


async def test_a_queue_or_record_of_a_foreign_type_refuses_its_jobs_alone(unique, keyspace):
    await keyspace.seed({"bad": b"a string", "barque:unique:foreign": b"a string"})
    foreign = UniqueEnqueue(Enqueue("q", "f", b"F", False), "foreign", DONE, minted=True)
    bad, record, good = await unique.enqueue([job(queue="bad"), foreign, job("c")])
    assert good == added("c")[0]
    for answer in (bad, record):
        assert isinstance(answer, ResponseError)
        assert "WRONGTYPE" in str(answer)


# What goes by itself, and what is swept


async def test_meeting_a_job_that_is_there_keeps_its_record_alive(unique, keyspace, redis):
    await hold(keyspace, WAITING)
    await redis.pexpire("barque:unique:k", 60_000)
    await unique.enqueue([job()])
    found = await keyspace.dump()
    assert found["barque:unique:k"][1] == MONTH
    assert found["barque:unique"] == ({"k": "now+60s"}, MONTH)


async def test_who_looks_at_the_window_alone_does_not(unique, keyspace, redis):
    await hold(keyspace, WAITING, free=60)
    await redis.pexpire("barque:unique:k", 60_000)
    await unique.enqueue([job(rule=HOUR)])
    assert (await keyspace.dump())["barque:unique:k"][1] == "60s"


async def test_each_enqueue_sweeps_some_that_have_ended_and_leaves_those_that_have_not(unique, keyspace, redis):
    jobs = [UniqueEnqueue(Enqueue("q", f"i{n}", b"", False), f"k{n}", DONE, minted=True) for n in range(9)]
    await unique.enqueue(jobs)
    for n in (0, 2, 4):
        await redis.delete(f"arq:job:i{n}")
    await pass_time(redis, 70)
    await unique.enqueue([job("x", HOUR)])
    swept = {key.decode() for key in await redis.zrangebyscore("barque:unique", "-inf", "+inf")}
    assert swept == {f"k{n}" for n in (1, 3, 4, 5, 6, 7, 8)}, "three were looked at, in order"
    assert await redis.exists("barque:unique:k0", "barque:unique:k2") == 0
    assert await redis.exists(*(f"barque:unique:{key}" for key in swept)) == 7
    now = await keyspace.now_ms()
    assert await redis.zscore("barque:unique", "k1") > now + 60_000, "it is looked at again later"


async def test_a_record_that_went_by_itself_is_taken_off_the_list(unique, keyspace, redis):
    await keyspace.seed({"barque:unique": {"gone": 5}})
    await unique.enqueue([job(rule=HOUR)])
    assert not await redis.exists("barque:unique")


async def test_ids_and_queues_are_any_bytes(unique, keyspace):
    odd = b"\xff\x00 id".decode(errors="surrogateescape")
    assert await unique.enqueue([job(odd, minted=False)]) == added(odd)
    assert await unique.enqueue([job("c")]) == [UniqueAnswer("there", odd, "q")]
