"""workers/ahead.py: how many jobs a claim asks for, and what waits for a slot."""

from types import SimpleNamespace

import pytest

from common.jobs import OutcomeKind
from common.redis.store import Claimed
from workers.ahead import Ahead
from workers.attempt import Attempt, Outcome


class Loop:
    """An event loop's one timer, and a thread's processor time: both moved by hand."""

    def __init__(self) -> None:
        self.spent = self.now = 0.0
        self.looks: list[object] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds, callback):
        self.now += seconds
        self.looks.append(callback)
        return self

    def cancel(self) -> None:
        self.looks.clear()

    def look(self) -> None:
        self.looks.pop()()


def an_attempt(name="a", past="", places=None, lane=None) -> Attempt:
    attempt = Attempt(Claimed(name, b"", 1, 0, False, 0, "w:1:1", past), "q")
    attempt.runnable = SimpleNamespace(places=places)
    attempt.payload = SimpleNamespace(extras=SimpleNamespace(lane=lane))
    return attempt


def ended(count, seconds=0.0, *, attempts=5, kind=OutcomeKind.SUCCEEDED, **others):
    attempt = an_attempt(**others)
    attempt.max_attempts = attempts
    return [Outcome(attempt, kind, None, run_seconds=seconds)] * count


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def begun() -> list[str]:
    return []


@pytest.fixture
def given_back() -> list[str]:
    return []


@pytest.fixture
def released() -> list[str]:
    return []


@pytest.fixture
def free() -> dict[str, int]:
    """How many attempts may begin in all."""
    return {"slots": 0}


@pytest.fixture
def make(loop, begun, given_back, released, free):
    def begin(attempt):
        begun.append(attempt.job_id)

    def made(slots, *, may=True) -> Ahead:
        return Ahead(
            loop,
            slots,
            may=may,
            may_begin=lambda: free["slots"] > len(begun),
            start=begin,
            give_back=lambda attempt: attempt.past == "" and given_back.append(attempt.job_id) is None,
            release=lambda attempt: released.append(attempt.job_id),
            spent=lambda: loop.spent,
        )

    return made


def rounds(ahead, loop, count, *, each=0.0, runs=0.0):
    """Claim, run and ask again, `count` times; what a job takes of the processor, and of its slot's time."""
    asked = [ahead.most_at_once(True)]
    for _ in range(count):
        ahead.ended(ended(ahead.at_once, runs))
        loop.spent += each * ahead.at_once
        asked.append(ahead.most_at_once(True))
    return asked


def test_half_the_slots_are_asked_for_until_it_is_known_how_long_jobs_take(make):
    assert make(100).most_at_once(True) == 50
    assert make(1).most_at_once(True) == 1
    ahead = make(7)
    assert [ahead.most_at_once(True) for _ in range(3)] == [4, 4, 4]


def test_while_jobs_are_short_each_round_asks_for_twice_as_many(make, loop):
    assert rounds(make(100), loop, 5, each=20e-6, runs=5e-6) == [50, 100, 200, 250, 250, 250]


def test_a_worker_of_one_slot_grows_as_well(make, loop):
    assert rounds(make(1), loop, 4, each=20e-6, runs=5e-6) == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("each", "runs", "most"),
    [
        (50e-6, 0, 100),  # a hundred of these are five ms of the processor's
        (10e-3, 0, 50),
        (20e-6, 2e-3, 250),  # of two ms each: in a hundred slots, 250 of them begin within five
        (20e-6, 5e-3, 100),
        (20e-6, 1.0, 50),
    ],
)
def test_what_begins_within_five_ms_is_claimed_and_no_less_than_half_the_slots(each, runs, most, make, loop):
    assert rounds(make(100), loop, 6, each=each, runs=runs)[-1] == most


def test_one_round_of_long_jobs_is_enough_to_claim_no_more_ahead(make, loop):
    ahead = make(100)
    rounds(ahead, loop, 4, each=20e-6)
    ahead.ended(ended(250, 3.0))
    assert ahead.most_at_once(True) == 50


@pytest.mark.parametrize(
    "other",
    [
        {"attempts": 1},  # a worker that is killed takes a job its last attempt
        {"kind": OutcomeKind.PASSED_ON},
        {"kind": OutcomeKind.RETRIED},
        {"past": "lost"},
        {"places": object()},
        {"lane": "1f"},
    ],
)
def test_nothing_is_claimed_ahead_while_there_is_one_of_another_kind(other, make, loop):
    ahead = make(100)
    rounds(ahead, loop, 4, each=20e-6)
    ahead.ended([*ended(249), *ended(1, **other)])
    assert ahead.most_at_once(True) == 50
    ahead.ended(ended(50))
    assert ahead.most_at_once(True) == 100, "it is looked at round by round"


def test_nothing_is_learned_of_a_part_of_a_round(make, loop):
    ahead = make(100)
    rounds(ahead, loop, 2, each=20e-6)
    ahead.ended(ended(ahead.at_once - 1, 0))
    assert ahead.most_at_once(True) == 200


def test_a_claim_that_brought_less_than_it_asked_for_leaves_the_rest_to_others(make, loop):
    ahead = make(100)
    rounds(ahead, loop, 3, each=20e-6)
    assert ahead.most_at_once(False) == 50
    assert ahead.most_at_once(True) == 50, "it is measured anew"


@pytest.mark.parametrize("slots", [1, 100, 500])
def test_who_may_not_stays_at_half_the_slots(slots, make, loop):
    ahead = make(slots, may=False)
    assert set(rounds(ahead, loop, 3, each=20e-6)) == {(slots + 1) // 2}
    assert ahead.room(running=slots - 1) == 1


def test_who_has_slots_enough_asks_for_half_of_them_and_has_room_for_some_beyond(make, loop):
    ahead = make(1000)
    assert set(rounds(ahead, loop, 3, each=10e-6, runs=10e-3)) == {500}
    assert ahead.room(running=1000) == 250


@pytest.mark.parametrize(("runs", "beyond"), [(10e-3, 50), (20e-3, 25), (30e-3, 0), (0.4, 0)])
def test_beyond_the_slots_there_is_room_for_what_begins_within_five_ms(runs, beyond, make, loop):
    ahead = make(100)
    rounds(ahead, loop, 3, each=20e-6, runs=runs)
    assert (ahead.at_once, ahead.room(running=100)) == (50, beyond)
    ahead.most_at_once(False)
    assert ahead.room(running=100) == 0, "what there is may be for others as well"


def test_there_is_room_for_two_claims_one_at_work_here_and_one_at_the_server(make, loop):
    ahead = make(100)
    assert (ahead.room(0), ahead.room(60), ahead.room(100)) == (100, 40, 0)
    rounds(ahead, loop, 3, each=20e-6)
    assert (ahead.room(0), ahead.room(100)) == (500, 400)
    for number in range(150):
        ahead.put(an_attempt(str(number)))
    assert ahead.room(100) == 250


def test_what_waits_begins_in_its_order_as_slots_are_free(make, begun, free):
    ahead = make(1)
    for name in "abc":
        ahead.put(an_attempt(name))
    ahead.begin()
    assert begun == []
    free["slots"] = 2
    ahead.begin()
    assert begun == ["a", "b"]
    assert [attempt.job_id for attempt in ahead.waiting] == ["c"]


def test_one_that_ends_within_its_beginning_begins_the_next_without_a_deeper_stack(loop, begun):
    def begin_and_end(attempt):
        begun.append(attempt.job_id)
        ahead.begin()

    ahead = Ahead(loop, 1, may=True, may_begin=lambda: True, start=begin_and_end, give_back=bool, release=bool)
    for number in range(5000):
        ahead.put(an_attempt(str(number)))
    ahead.begin()
    assert len(begun) == 5000


def test_what_waited_at_the_look_before_is_put_back_and_all_behind_it(make, loop, begun, given_back, free):
    ahead = make(100)
    rounds(ahead, loop, 3, each=20e-6)
    ahead.put(an_attempt("a"))
    ahead.put(an_attempt("b"))
    free["slots"] = 1
    ahead.begin()
    loop.look()
    ahead.put(an_attempt("c"))
    assert given_back == [], "b came after the look before"
    loop.look()
    assert (begun, given_back) == (["a"], ["b", "c"])
    assert (ahead.at_once, len(ahead.waiting), loop.looks) == (50, 0, [])


def test_what_came_after_the_look_before_waits_on(make, loop, begun, given_back, free):
    ahead = make(100)
    ahead.put(an_attempt("a"))
    free["slots"] = 1
    ahead.begin()
    ahead.put(an_attempt("b"))
    loop.look()
    assert (begun, given_back) == (["a"], [])
    free["slots"] = 2
    ahead.begin()
    loop.look()
    assert (begun, given_back, loop.looks) == (["a", "b"], [], [])
    ahead.put(an_attempt("c"))
    assert len(loop.looks) == 1, "it looks again"


@pytest.mark.parametrize("first", ["the look", "a slot that is free"])
def test_all_is_put_back_where_a_look_comes_late(first, make, loop, begun, given_back, released, free):
    ahead = make(100)
    for name, past in (("a", ""), ("b", ""), ("c", "lost")):
        ahead.put(an_attempt(name, past))
    free["slots"] = 1
    ahead.begin()
    loop.now += 1.0
    if first == "the look":
        loop.look()
    else:
        free["slots"] = 2
        ahead.begin()
    assert (begun, given_back, released) == (["a"], ["b"], ["c"]), "leases may have ended"


def test_what_cannot_be_put_back_waits_on_in_its_order(make, loop, begun, given_back, free):
    ahead = make(100)
    for name, past in (("a", ""), ("b", "lost"), ("c", ""), ("d", "lost")):
        ahead.put(an_attempt(name, past))
    loop.look()
    assert given_back == ["a", "c"]
    assert len(loop.looks) == 1
    loop.look()
    free["slots"] = 2
    ahead.begin()
    assert (begun, given_back) == (["b", "d"], ["a", "c"])


def test_who_stops_puts_all_back(make, loop, given_back, released):
    ahead = make(1)
    for name, past in (("a", ""), ("b", "lost"), ("c", "")):
        ahead.put(an_attempt(name, past))
    ahead.release()
    assert (given_back, released, len(ahead.waiting)) == (["a", "c"], ["b"], 0)
    loop.look()
    assert loop.looks == []
    ahead.put(an_attempt("d"))
    ahead.close()
    assert loop.looks == []
