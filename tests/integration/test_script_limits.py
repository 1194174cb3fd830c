"""common/redis/lua/admit.lua and leave.lua: what becomes of jobs and of the keyspace, step by step."""

import itertools
import math

import pytest
from redis.exceptions import ResponseError

from common.redis import keys
from common.redis.control import Abort, ControlStore
from common.redis.layout import id_bytes
from common.redis.limits import Answer, Ask, Gate, Leaver, LimitStore, gate
from common.redis.records import HeldLease
from common.redis.scores import read_score
from common.redis.store import Store

LEASE_MS = 60_000
DAY = 86_400_000
SINCE = 1_700_000_000_000
"""When the jobs of a test were due: long ago, one a millisecond."""

RATE = gate("rate", "r", None, DAY, (1000.0, 1))  # one a second
FAST = gate("rate", "f", None, DAY, (10.0, 1))
PAIR = gate("concurrency", "c", None, DAY, (2,))
ONE = gate("concurrency", "one", None, DAY, (1,))
BREAKER = gate("breaker", "b", None, DAY, (1, 30_000, 300_000, 0.5, 2, 60_000))
DOOR = gate("door", "d", None, DAY)

pytestmark = pytest.mark.leaves_keys


class Fleet:
    """Claims jobs as a worker does, and asks for them."""

    def __init__(self, redis) -> None:
        self.redis = redis
        self.store = LimitStore(redis)
        self.claims = 0

    def token(self, attempt: int) -> str:
        self.claims += 1
        return f"w:{attempt}:{self.claims}"

    async def now(self) -> float:
        seconds, micros = await self.redis.time()
        return seconds * 1000 + micros / 1000

    async def claim(self, *ids: str, gates: tuple[Gate, ...], cost=1.0, past="", attempt=1, due=None, priority=0):
        """Take jobs under leases and return what asks for them."""
        asks = []
        for place, job_id in enumerate(ids):
            token = self.token(attempt)
            await self.redis.set(id_bytes(keys.lease(job_id)), token, px=LEASE_MS)
            await self.redis.set(id_bytes(keys.job(job_id)), b"payload")
            await self.redis.zadd("q", {id_bytes(job_id): await self.now() + LEASE_MS + 1.5})
            lease = HeldLease(0, job_id, token, attempt)
            gated = tuple((each, cost) for each in gates)
            asks.append(Ask(lease, attempt, SINCE + place if due is None else due, past, priority, gated))
        return asks

    async def admit(self, asks: list[Ask], **watched: bool) -> list[Answer]:
        return (await self.store.admit(("q",), asks, lease_ms=LEASE_MS, wait_ms=100, lead_ms=50, **watched)).answers

    async def words(self, *ids: str, **claim) -> list[str]:
        return [answer.word for answer in await self.admit(await self.claim(*ids, **claim))]

    async def end(self, ask: Ask, *gates: Gate, word="") -> None:
        """End an attempt: its lease and its place in the queue go, then it leaves."""
        await self.redis.delete(keys.lease(ask.lease.job_id), keys.job(ask.lease.job_id))
        await self.redis.zrem("q", ask.lease.job_id)
        await self.leave(ask, *gates, word=word)

    async def leave(self, ask: Ask, *gates: Gate, word="", ms=0):
        leavers = [Leaver(each, ask.lease.job_id, ask.lease.token, word, ms) for each in gates]
        return await self.store.leave(leavers, lease_ms=LEASE_MS)

    async def is_up(self, job_id: str) -> bool:
        """Whether a job in the queue was called up."""
        score = await self.redis.zscore("q", job_id)
        return score is not None and score % 1 == 2044 / 2048

    async def score(self, job_id: str) -> tuple[int, str]:
        score = await self.redis.zscore("q", job_id)
        due, past, _ = read_score(repr(score).encode(), job_id.encode())
        return due, past


@pytest.fixture
def fleet(redis) -> Fleet:
    return Fleet(redis)


async def everything_expires(redis) -> None:
    found = [key async for key in redis.scan_iter("barque:limit*")]
    assert found
    for key in found:
        assert await redis.pttl(key) > 0, key


async def test_a_rate_gives_each_job_a_time_of_its_own_in_order(fleet, redis):
    before = await fleet.now()
    assert await fleet.words("a", "b", "c", gates=(RATE,)) == ["start", "held", "held"]
    dues = []
    for job_id in ("b", "c"):
        due, past = await fleet.score(job_id)
        dues.append(due)
        assert past == "reserved"
        assert await redis.exists(keys.lease(job_id), keys.retry(job_id)) == 0
        assert await redis.get(keys.limit_wait(job_id)) == b"rate:r"
    assert dues[0] + 50 - before >= 1000
    assert 1000 <= dues[1] - dues[0] <= 1100
    await everything_expires(redis)


@pytest.mark.parametrize(("gate", "past"), [(RATE, "reserved"), (RATE, "displaced"), (ONE, "parked")])
async def test_where_somebody_watches_it_is_known_for_how_long_a_job_was_held_back(fleet, redis, gate, past):
    asks = await fleet.claim("a", "b", gates=(gate,))
    before = await fleet.now()
    assert [answer.word for answer in await fleet.admit(asks, watched=True)] == ["start", "held"]
    named, since = (await redis.get(keys.limit_wait("b"))).split()
    assert named.decode() == gate.id
    assert before - 1 <= int(since) <= await fleet.now()
    if gate is ONE:
        await fleet.end(asks[0], gate)
    else:
        await redis.hset(keys.LIMIT + gate.id, mapping=dict.fromkeys(("tat", "next", "floor"), 0))
    again = await fleet.claim("b", gates=(gate,), past=past)
    (answer,) = await fleet.admit(again, watched=True)
    assert (answer.word, answer.since_ms, answer.waited_for) == ("start", int(since), gate.id)


async def test_one_that_is_held_back_again_has_waited_since_the_first_time(fleet, redis):
    await fleet.admit(await fleet.claim("a", "b", gates=(RATE,)), watched=True)
    _, since = (await redis.get(keys.limit_wait("b"))).split()
    (answer,) = await fleet.admit(await fleet.claim("b", gates=(RATE,), past="reserved"), watched=True)
    assert answer.word == "held"
    assert (await redis.get(keys.limit_wait("b"))).split() == [b"rate:r", since]


@pytest.mark.parametrize("mark", [b"rate:r", b"", b"rate:r never", b"\xff 12x", None])
async def test_what_nobody_kept_of_a_wait_is_not_known(fleet, redis, mark):
    asks = await fleet.claim("b", gates=(RATE,), past="reserved")
    if mark is not None:
        await redis.set(keys.limit_wait("b"), mark, px=60_000)
    (answer,) = await fleet.admit(asks, watched=True)
    assert (answer.word, answer.since_ms, answer.waited_for) == ("start", 0, "")


async def test_near_times_are_waited_for_by_the_worker(fleet):
    answers = await fleet.admit(await fleet.claim(*map(str, range(12)), gates=(FAST,)))
    assert [answer.word for answer in answers] == ["start"] * 11 + ["held"]
    assert [round(answer.wait_ms) for answer in answers[:11]] == list(range(0, 110, 10))


async def test_a_job_whose_time_has_come_starts_by_the_floor_alone(fleet):
    await fleet.words("a", "b", "c", gates=(RATE,))
    assert await fleet.words("c", gates=(RATE,), past="reserved") == ["held"], "a second before it, one started"
    assert (await fleet.score("c"))[1] == "displaced"


async def test_reservations_that_are_overdue_together_are_put_off_in_order(fleet, redis):
    ids = [f"j{n}" for n in range(10)]
    await fleet.words("first", *ids, gates=(RATE,))
    await redis.hset("barque:limit:rate:r", "floor", await fleet.now() - 60_000)  # as if a minute had gone by
    answers = await fleet.admit(await fleet.claim(*ids, gates=(RATE,), past="reserved"))
    assert [answer.word for answer in answers] == ["start"] + ["held"] * 9
    scores = [await fleet.score(job_id) for job_id in ids[1:]]
    assert {past for _, past in scores} == {"displaced"}
    dues = [due for due, _ in scores]
    assert [later - sooner for sooner, later in itertools.pairwise(dues)] == [pytest.approx(1000, abs=1)] * 8
    assert await fleet.words("next", gates=(RATE,), past="reserved") == ["held"], "nobody gets in between"
    assert (await fleet.score("next"))[0] > dues[-1]


@pytest.mark.parametrize("past", ["", "reserved"])
async def test_whose_time_has_come_is_claimed_before_what_has_never_asked(fleet, redis, past):
    await fleet.words("a", gates=(RATE,))
    await fleet.words("b", gates=(RATE,), past=past)
    await redis.zrem("q", "a")
    due = math.floor(await fleet.now()) - 1000
    await redis.zadd("q", {f"backlog{n}": due - 3_600_000 + n for n in range(5)})
    for key in ("q", "barque:lift:q"):  # as if its time had come
        score = await redis.zscore(key, "b")
        await redis.zadd(key, {"b": due + score % 1})
    claim = await Store(redis).claim(("q",), most=2, lease_ms=LEASE_MS, worker="w", number=99)
    assert [job.job_id for job in claim.jobs] == ["b", "backlog0"]
    assert (claim.jobs[0].due_ms, claim.jobs[0].past) == (due, "displaced" if past else "reserved")
    assert await redis.exists("barque:lift:q") == 0


async def test_a_hold_keeps_everybody_back(fleet):
    (ask,) = await fleet.claim("a", gates=(FAST,))
    await fleet.admit([ask])
    await fleet.leave(ask, FAST, word="hold", ms=20_000)
    before = await fleet.now()
    assert await fleet.words("b", gates=(FAST,)) == ["held"]
    assert await fleet.words("c", gates=(FAST,), past="reserved") == ["held"]
    for job_id in ("b", "c"):
        assert 19_000 < (await fleet.score(job_id))[0] - before < 21_000


async def test_a_job_that_costs_nothing_starts_at_once_and_takes_nothing(fleet):
    await fleet.words("a", gates=(RATE,))
    assert await fleet.words("free", gates=(RATE,), cost=0.0) == ["start"]
    assert await fleet.words("b", gates=(RATE,), cost=5.0) == ["held"]


async def test_a_slow_gate_does_not_hold_up_the_fast_one_beside_it(fleet):
    await fleet.words("a", gates=(RATE, FAST))
    await fleet.words("b", "c", "d", gates=(RATE, FAST))
    answers = await fleet.admit(await fleet.claim("e", gates=(FAST,)))
    assert answers[0].word == "start"


async def test_places_are_given_on_in_order_and_the_next_is_due_at_once(fleet, redis):
    asks = await fleet.claim("a", "b", "c", "d", gates=(PAIR,))
    assert [answer.word for answer in await fleet.admit(asks)] == ["start", "start", "held", "held"]
    assert (await fleet.score("c"))[1] == (await fleet.score("d"))[1] == "parked"
    near, far = (await fleet.score("c"))[0], (await fleet.score("d"))[0]
    assert near - await fleet.now() == pytest.approx(LEASE_MS, abs=2000), "when a lease may lapse"
    assert far - await fleet.now() > 300_000
    await redis.delete("barque:wake:q")
    await fleet.end(asks[1], PAIR)
    assert await fleet.score("c") == (SINCE + 2, "reserved"), "due since when it was"
    assert await redis.exists("barque:wake:q")
    assert (await fleet.score("d"))[0] < far, "it is the first now"
    assert await fleet.words("late", gates=(PAIR,)) == ["held"]
    assert await fleet.words("c", gates=(PAIR,), past="reserved") == ["start"]
    await everything_expires(redis)


async def test_a_lane_is_in_order_of_due_times_and_priorities(fleet, redis):
    (runs,) = await fleet.claim("runs", gates=(ONE,))
    await fleet.admit([runs])
    hour = 3_600_000
    for job_id, due, priority in (
        ("old", SINCE + 5 * hour, 0),
        ("older", SINCE + 4 * hour, 0),
        ("urgent", SINCE + 8 * hour, 9),
    ):
        assert await fleet.words(job_id, gates=(ONE,), due=due, priority=priority) == ["held"]
    order = []
    while len(order) < 3:
        await fleet.end(runs, ONE)
        (job_id,) = [each for each in ("old", "older", "urgent") if await fleet.is_up(each)]
        order.append(job_id)
        due = (await fleet.score(job_id))[0]
        (runs,) = await fleet.claim(job_id, gates=(ONE,), past="reserved", due=due)
        assert [answer.word for answer in await fleet.admit([runs])] == ["start"]
    assert order == ["urgent", "older", "old"]
    assert due == SINCE + 5 * hour


async def test_a_place_is_valid_as_long_as_its_lease(fleet, redis):
    (dead, lives) = await fleet.claim("dead", "lives", gates=(PAIR,))
    await fleet.admit([dead, lives])
    await redis.delete(keys.lease("dead"))  # its worker is gone
    assert await fleet.words("a", gates=(PAIR,)) == ["held"], "nobody looks before a lease's time has passed"
    await redis.zadd("barque:limit-held:concurrency:c", {"dead": 1, "lives": 1})
    assert await fleet.words("b", gates=(PAIR,)) == ["held"]
    assert (await fleet.score("a"))[1] == "reserved", "who was first gets it"
    held = dict(await redis.zrange("barque:limit-held:concurrency:c", 0, -1, withscores=True))
    assert held.keys() == {b"lives", b"a"}
    assert held[b"lives"] > await fleet.now()


async def test_what_left_the_lane_in_other_ways_is_passed_over(fleet, redis):
    asks = await fleet.claim("runs", *(f"w{n}" for n in range(250)), gates=(ONE,))
    await fleet.admit(asks)
    moved = round(await fleet.now()) + 3_600_000
    await redis.zrem("q", *(f"w{n}" for n in range(245)))
    await redis.zadd("q", {"w245": moved})  # somebody gave it another time
    await redis.set(keys.lease("w246"), b"1")  # a stock arq worker runs it
    await redis.zadd("q", {"w246": 5})
    await fleet.end(asks[0], ONE)
    assert await redis.zscore("q", "w245") == moved
    assert await redis.zscore("q", "w246") == 5
    assert await redis.zrange("barque:limit-held:concurrency:one", 0, -1) == [b"w246"], (
        "which has the place while it runs"
    )
    await fleet.leave(Ask(HeldLease(0, "w246", "1", 1), 1, 0, "", 0, ()), ONE)
    assert (await fleet.score("w247"))[1] == "reserved"


async def test_who_leaves_late_takes_nothing_from_its_next_attempt(fleet, redis):
    (first,) = await fleet.claim("a", gates=(ONE,))
    await fleet.admit([first])
    (again,) = await fleet.claim("a", gates=(ONE,), attempt=2)  # a retry that was due at once
    assert [answer.word for answer in await fleet.admit([again])] == ["start"]
    await fleet.leave(first, ONE)
    assert await fleet.words("b", gates=(ONE,)) == ["held"]
    await fleet.leave(again, ONE)
    assert (await fleet.score("b"))[1] == "reserved"


async def test_all_gates_or_none(fleet, redis):
    (runs,) = await fleet.claim("runs", gates=(ONE,))
    await fleet.admit([runs])
    assert await fleet.words("a", gates=(PAIR, RATE, ONE)) == ["held"]
    assert await redis.exists("barque:limit-held:concurrency:c") == 0
    assert await redis.hget("barque:limit:rate:r", "floor") == b"0.000000"
    await fleet.end(runs, ONE)
    await fleet.words("other", gates=(RATE,))
    assert await fleet.words("a", gates=(PAIR, RATE, ONE), past="reserved") == ["held"]
    assert (await fleet.score("a"))[1] == "displaced"
    assert await redis.exists("barque:limit-held:concurrency:one", "barque:limit-held:concurrency:c") == 0


async def test_a_place_that_is_given_up_for_a_rate_goes_to_the_next(fleet):
    (runs,) = await fleet.claim("runs", gates=(ONE,))
    await fleet.admit([runs])
    await fleet.words("a", gates=(RATE, ONE), due=SINCE)
    await fleet.words("b", gates=(ONE,), due=SINCE + 1)
    await fleet.end(runs, ONE)
    await fleet.words("other", gates=(RATE,))
    assert await fleet.words("a", gates=(RATE, ONE), past="reserved") == ["held"]
    assert (await fleet.score("b"))[1] == "reserved"


async def test_sent_again_it_neither_moves_nor_counts_a_job_twice(fleet, redis):
    asks = await fleet.claim("a", "b", "c", gates=(PAIR,))
    await fleet.admit(asks)
    before = await redis.zrange("q", 0, -1, withscores=True)
    assert [answer.word for answer in await fleet.admit(asks)] == ["start", "start", "lost"]
    assert await redis.zrange("q", 0, -1, withscores=True) == before
    assert await redis.zcard("barque:limit-held:concurrency:c") == 2


async def test_what_was_counted_before_stays_counted(fleet, redis):
    await fleet.words("a", gates=(ONE,))
    await fleet.words("third", gates=(ONE,), attempt=3)
    assert await redis.get(keys.retry("third")) == b"2"
    (expires,) = await fleet.claim("expires", gates=(ONE,))
    await redis.pexpire(keys.job("expires"), 60_000)
    await fleet.admit([expires])
    assert await redis.get(keys.retry("expires")) == b"0", "known of when its payload is gone"
    await fleet.words("put_off_before", gates=(ONE,), attempt=0)
    assert await redis.get(keys.retry("put_off_before")) == b"0", "so that its history is known of"


async def test_a_wish_to_abort_ends_the_job_rather_than_have_it_wait(fleet, redis):
    asks = await fleet.claim("a", "b", gates=(ONE,))
    await redis.zadd(keys.ABORT, {"b": round(await fleet.now()) + 0.25})
    assert [answer.word for answer in await fleet.admit(asks)] == ["start", "aborted"]
    assert await redis.get(keys.lease("b")) == asks[1].lease.token.encode()


async def test_a_wish_of_a_stock_client_may_be_older_than_the_job_and_is_left_to_its_next_claim(fleet, redis):
    asks = await fleet.claim("a", "b", gates=(ONE,))
    await redis.zadd(keys.ABORT, {"b": 1})
    assert [answer.word for answer in await fleet.admit(asks)] == ["start", "held"]


async def test_a_door_that_is_shut_lets_nobody_in_until_it_is_opened(fleet, redis):
    assert await fleet.words("a", gates=(DOOR,)) == ["start"]
    await ControlStore(redis).pause("task", "d", b"")
    waiting = [f"w{n}" for n in range(150)]
    assert set(await fleet.words(*waiting, gates=(DOOR,))) == {"held"}
    assert (await fleet.score("w0"))[0] - await fleet.now() > 300_000
    await ControlStore(redis).resume("task", "d")
    assert await fleet.words("late", gates=(DOOR,)) == ["start"]
    gone = [job_id for job_id in waiting if (await fleet.score(job_id))[1] == "reserved"]
    assert gone == waiting[:100], "who passes lets others go, a step at a time; ControlStore.call_up all of them"
    first_left = (await fleet.score("w100"))[0]
    assert first_left - await fleet.now() < 1000, "it comes by itself, and lets the others go"
    assert await fleet.words("w100", gates=(DOOR,), past="parked") == ["start"]
    assert (await fleet.score("w149"))[1] == "reserved"
    assert await redis.pttl("barque:limit:door:d") > 0


async def test_a_breaker_opens_tries_and_closes(fleet, redis):
    (bad, worse) = await fleet.claim("bad", "worse", gates=(BREAKER,))
    await fleet.admit([bad, worse])
    assert await fleet.leave(bad, BREAKER, word="bad") == []
    (opened,) = await fleet.leave(worse, BREAKER, word="bad")
    assert (opened.word, opened.numbers) == ("opened", (2, 2, 30_000))
    assert await fleet.words("a", "b", gates=(BREAKER,)) == ["held", "held"]
    assert (await fleet.score("a"))[0] - await fleet.now() == pytest.approx(30_000, abs=2000)
    await redis.hset("barque:limit:breaker:b", "till", 1)
    asks = await fleet.claim("a", "b", gates=(BREAKER,), past="parked")
    admitted = await fleet.store.admit(("q",), asks, lease_ms=LEASE_MS, wait_ms=100, lead_ms=50)
    assert [answer.word for answer in admitted.answers] == ["start", "held"]
    assert [event.word for event in admitted.events] == ["half_open"]
    (again,) = await fleet.leave(asks[0], BREAKER, word="bad")
    assert again.numbers == (1, 1, 60_000), "for twice as long"
    await redis.hset("barque:limit:breaker:b", "till", 1)
    (trial,) = await fleet.claim("b", gates=(BREAKER,), past="parked")
    await fleet.admit([trial])
    assert await fleet.words("c", gates=(BREAKER,)) == ["held"]
    (closed,) = await fleet.leave(trial, BREAKER, word="ok")
    assert closed.word == "closed"
    assert (await fleet.score("c"))[1] == "reserved"
    await everything_expires(redis)


async def test_a_trial_that_is_lost_or_put_back_leaves_its_place_to_the_next(fleet, redis):
    (bad, worse) = await fleet.claim("bad", "worse", gates=(BREAKER,))
    await fleet.admit([bad, worse])
    await fleet.leave(bad, BREAKER, word="bad")
    await fleet.leave(worse, BREAKER, word="bad")
    await redis.hset("barque:limit:breaker:b", "till", 1)
    trial, waits = await fleet.claim("t", "u", gates=(BREAKER,))
    assert [answer.word for answer in await fleet.admit([trial, waits])] == ["start", "held"]
    await redis.delete(keys.lease("t"))
    await fleet.leave(trial, BREAKER)
    assert (await fleet.score("u"))[1] == "reserved"


async def test_a_retry_of_a_trial_that_comes_before_its_verdict_does_not_hide_it(fleet, redis):
    (bad, worse) = await fleet.claim("bad", "worse", gates=(BREAKER,))
    await fleet.admit([bad, worse])
    await fleet.leave(bad, BREAKER, word="bad")
    await fleet.leave(worse, BREAKER, word="bad")
    await redis.hset("barque:limit:breaker:b", "till", 1)
    (trial,) = await fleet.claim("t", gates=(BREAKER,))
    await fleet.admit([trial])
    await fleet.admit(await fleet.claim("t", gates=(BREAKER,), attempt=2))
    (event,) = await fleet.leave(trial, BREAKER, word="bad")
    assert event.word == "opened"


async def test_a_gate_of_a_foreign_type_changes_nothing(fleet, redis):
    await redis.set("barque:limit-held:concurrency:c", b"mine")
    asks = await fleet.claim("a", gates=(RATE, PAIR))
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await fleet.admit(asks)
    assert await redis.get(keys.lease("a")) == asks[0].lease.token.encode()
    assert await redis.exists("barque:limit:rate:r") == 0


async def test_with_the_memory_full_jobs_still_start_wait_and_end(fleet, redis, full):
    asks = await fleet.claim("a", "b", gates=(ONE,))
    await fleet.admit(asks[:1])
    await full()
    assert [answer.word for answer in await fleet.admit(asks[1:])] == ["held"]
    await fleet.leave(asks[0], ONE)
    assert (await fleet.score("b"))[1] in {"parked", "reserved"}


async def test_ids_and_names_may_be_any_bytes(fleet, redis):
    odd = gate("concurrency", "n:#\udcff" * 100, "k\udcff\n" * 500, DAY, (1,))
    ids = ("3:q", "\udcff\udcfe", "a b", "")
    assert await fleet.words("first", *ids[:3], gates=(odd,)) == ["start", "held", "held", "held"]
    assert max([len(key) async for key in redis.scan_iter("barque:limit:*")]) < 100
    (shown,) = await fleet.store.standing()
    assert shown.waiting == 3
    assert len(shown.key) == 200


async def test_lanes_hold_jobs_of_several_queues(fleet, redis):
    (runs,) = await fleet.claim("runs", gates=(ONE,))
    await fleet.admit([runs])
    (other,) = await fleet.claim("other", gates=(ONE,))
    await fleet.store.admit(("another queue",), [other], lease_ms=LEASE_MS, wait_ms=100, lead_ms=50)
    await redis.zrem("q", "other")
    await fleet.end(runs, ONE)
    assert read_score(repr(await redis.zscore("another queue", "other")).encode(), b"other")[:2] == (SINCE, "reserved")
    assert await redis.exists("barque:wake:another queue")


async def test_a_lower_limit_after_a_deploy_lets_nobody_in_until_there_is_room(fleet):
    asks = await fleet.claim("a", "b", gates=(PAIR,))
    await fleet.admit(asks)
    lower = gate("concurrency", "c", None, DAY, (1,))
    assert await fleet.words("c", gates=(lower,)) == ["held"]
    await fleet.end(asks[0], lower)
    assert (await fleet.score("c"))[1] == "parked"
    await fleet.end(asks[1], lower)
    assert (await fleet.score("c"))[1] == "reserved"


async def looks_now(fleet, job_id: str) -> bool:
    due, past = await fleet.score(job_id)
    return past == "parked" and due <= await fleet.now()


async def first_and_next(fleet) -> list[Ask]:
    """Have one run, two wait; the first of them looks when the lease of the one that runs is over."""
    asks = await fleet.claim("runs", "first", "next", gates=(ONE,))
    assert [answer.word for answer in await fleet.admit(asks)] == ["start", "held", "held"]
    assert not await looks_now(fleet, "first")
    return asks


@pytest.mark.parametrize("how", ["abort", "reschedule", "aside"])
async def test_when_the_first_of_a_lane_goes_otherwise_the_next_one_looks(fleet, redis, how):
    await first_and_next(fleet)
    when = await redis.zscore("q", "first")
    assert await redis.zscore("q", "next") > when
    if how == "abort":
        await ControlStore(redis).abort("q", [Abort("first", b"R")], keep_ms=0)
    elif how == "reschedule":
        await ControlStore(redis).reschedule("q", "first", delay_ms=3_600_000)
    else:
        (ask,) = await fleet.claim("first", gates=(ONE,), past="parked")
        assert await fleet.store.stand_aside(("q",), [ask.lease]) == 1
    if how == "aside":
        assert await looks_now(fleet, "next"), "it had come to look, and did not"
    else:
        assert await redis.zscore("q", "next") == when, "in its stead"
    assert await redis.exists("barque:wake:q", keys.limit_wait("first")) == 1
    assert await redis.zrange("barque:limit-lane:concurrency:one", 0, -1) == [b"1:qnext"]


@pytest.mark.parametrize("how", ["abort", "reschedule", "aside"])
async def test_a_place_kept_for_one_that_goes_otherwise_is_the_next_ones(fleet, redis, how):
    runs, *_ = await first_and_next(fleet)
    await fleet.end(runs, ONE)
    assert await fleet.is_up("first")
    if how == "abort":
        await ControlStore(redis).abort("q", [Abort("first", b"R")], keep_ms=0)
    elif how == "reschedule":
        await ControlStore(redis).reschedule("q", "first", delay_ms=3_600_000)
    else:
        (ask,) = await fleet.claim("first", gates=(ONE,), past="reserved")
        await redis.delete(keys.lease("first"))
        await redis.zrem("q", "first")  # its deadline had passed, and that is recorded
        assert await fleet.store.stand_aside(("q",), [ask.lease]) == 1
    assert await looks_now(fleet, "next")
    assert await fleet.words("next", gates=(ONE,), past="parked") == ["start"]


async def test_a_job_that_came_back_to_wait_is_not_taken_out_of_its_lane(fleet, redis):
    await first_and_next(fleet)
    late = HeldLease(0, "first", "w:1:0", 1)
    assert await fleet.store.stand_aside(("q",), [late]) == 0
    await fleet.claim("first", gates=(ONE,), past="parked")
    assert await fleet.store.stand_aside(("q",), [late]) == 0, "another attempt of it is about to ask"
    assert await redis.zcard("barque:limit-lane:concurrency:one") == 2


async def test_whose_queue_is_paused_keeps_nobody_of_another_queue_waiting(fleet, redis):
    asks = await fleet.claim("runs", "first", gates=(ONE,))
    await fleet.admit(asks)
    moved = await redis.zscore("q", "first")
    await redis.zadd("other", {"first": moved})
    await redis.zrem("q", "first")
    lane = "barque:limit-lane:concurrency:one"
    await redis.zadd(lane, {"5:otherfirst": (await redis.zrange(lane, 0, 0, withscores=True))[0][1]})
    await redis.zrem(lane, "1:qfirst")
    await fleet.words("next", gates=(ONE,))
    await ControlStore(redis).pause("queue", "other", b"")
    await fleet.end(asks[0], ONE)
    assert await fleet.is_up("next")
    assert await redis.zrange("barque:limit-held:concurrency:one", 0, -1) == [b"next"]
    assert (await redis.zscore("other", "first")) % 1 == 2044 / 2048, "due, for when its queue is resumed"


async def test_the_first_of_a_paused_queue_is_not_the_one_to_look(fleet, redis):
    await first_and_next(fleet)
    lane = "barque:limit-lane:concurrency:one"
    far = await redis.zscore("q", "next")
    await redis.zadd("other", {"paused": far})
    await redis.zadd(lane, {"5:otherpaused": SINCE + 1.5})
    await ControlStore(redis).pause("queue", "other", b"")
    when = await redis.zscore("q", "first")
    await ControlStore(redis).abort("q", [Abort("first", b"R")], keep_ms=0)
    assert await redis.zscore("q", "next") == when
    assert await redis.zscore("other", "paused") == far


async def test_a_place_whose_job_is_gone_is_not_shown_as_taken(fleet, redis):
    (dead, lives) = await fleet.claim("dead", "lives", gates=(PAIR,))
    await fleet.admit([dead, lives])
    await redis.delete(keys.lease("dead"))  # its worker was killed, and whoever had the job next ended it unasked
    await redis.zadd("barque:limit-held:concurrency:c", {"dead": 1, "lives": 1})
    (shown,) = await fleet.store.standing()
    assert (shown.in_use, shown.waiting) == (1, 0)
