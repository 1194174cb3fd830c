"""workers/ahead.py: how many jobs a claim asks for, and what waits for a slot."""

import pytest

from common.jobs import OutcomeKind
from common.redis.store import Claimed
from workers.ahead import Ahead
from workers.attempt import Attempt, Outcome


class Loop:
    """An event loop's one timer, and a thread's processor time: both moved by hand."""

    def __init__(self) -> None:
        self.spent = 0.0
        self.looks: list[object] = []

    def call_later(self, seconds, callback):
        self.looks.append(callback)
        return self

    def cancel(self) -> None:
        self.looks.clear()

    def look(self) -> None:
        self.looks.pop()()


def an_attempt(name="a") -> Attempt:
    return Attempt(Claimed(name, b"", 1, 0, False, 0, "w:1:1"), "q")


def ended(count, seconds=0.0, *, attempts=5):
    attempt = an_attempt()
    attempt.max_attempts = attempts
    return [Outcome(attempt, OutcomeKind.SUCCEEDED, None, run_seconds=seconds)] * count


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
def make(loop, begun, given_back):
    def made(slots, *, may=True) -> Ahead:
        return Ahead(
            loop,
            slots,
            may=may,
            start=lambda attempt: begun.append(attempt.job_id),
            give_back=lambda attempt: given_back.append(attempt.job_id),
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


def test_nothing_is_claimed_ahead_where_a_worker_that_dies_takes_a_job_its_last_attempt(make, loop):
    ahead = make(100)
    rounds(ahead, loop, 4, each=20e-6)
    ahead.ended([*ended(249), *ended(1, attempts=1)])
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


@pytest.mark.parametrize(("slots", "may"), [(100, False), (500, True)])
def test_who_may_not_or_has_slots_enough_stays_at_half_of_them(slots, may, make, loop):
    ahead = make(slots, may=may)
    assert set(rounds(ahead, loop, 3, each=20e-6)) == {slots // 2}
    assert ahead.room(running=slots - 1) == 1


def test_there_is_room_for_two_claims_one_at_work_here_and_one_at_the_server(make, loop):
    ahead = make(100)
    assert (ahead.room(0), ahead.room(60), ahead.room(100)) == (100, 40, 0)
    rounds(ahead, loop, 3, each=20e-6)
    assert (ahead.room(0), ahead.room(100)) == (500, 400)
    for number in range(150):
        ahead.put(an_attempt(str(number)))
    assert ahead.room(100) == 250


def test_what_waits_begins_in_its_order(make, begun):
    ahead = make(1)
    for name in "abc":
        ahead.put(an_attempt(name))
    ahead.begin_next()
    ahead.begin_next()
    assert begun == ["a", "b"]
    assert [attempt.job_id for attempt in ahead.waiting] == ["c"]


def test_what_waited_at_the_look_before_is_put_back_and_all_behind_it(make, loop, begun, given_back):
    ahead = make(100)
    rounds(ahead, loop, 3, each=20e-6)
    ahead.put(an_attempt("a"))
    ahead.put(an_attempt("b"))
    ahead.begin_next()
    loop.look()
    ahead.put(an_attempt("c"))
    assert given_back == [], "b came after the look before"
    loop.look()
    assert (begun, given_back) == (["a"], ["b", "c"])
    assert (ahead.at_once, len(ahead.waiting), loop.looks) == (50, 0, [])


def test_what_came_after_the_look_before_waits_on(make, loop, begun, given_back):
    ahead = make(100)
    ahead.put(an_attempt("a"))
    ahead.begin_next()
    ahead.put(an_attempt("b"))
    loop.look()
    assert (begun, given_back) == (["a"], [])
    ahead.begin_next()
    loop.look()
    assert (begun, given_back, loop.looks) == (["a", "b"], [], [])
    ahead.put(an_attempt("c"))
    assert len(loop.looks) == 1, "it looks again"


def test_what_is_put_back_at_a_stop_is_all_that_waits(make, begun, given_back, loop):
    ahead = make(1)
    for name in "abc":
        ahead.put(an_attempt(name))
    ahead.begin_next()
    ahead.give_back()
    assert (begun, given_back, len(ahead.waiting)) == (["a"], ["b", "c"], 0)
    ahead.close()
    assert loop.looks == []
