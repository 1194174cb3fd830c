"""common/deadlines.py: one timer for all timeouts, and memory that follows what runs."""

import asyncio

import pytest

from common.deadlines import Deadlines
from common.redis.store import Claimed
from workers.attempt import Attempt


class Clock:
    """An event loop's clock and its one timer, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timer: tuple[float, object] | None = None
        self.armed = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when, callback):
        self.timer = (when, callback)
        self.armed += 1
        return self

    def cancel(self) -> None:
        self.timer = None

    def move_to(self, now: float) -> None:
        self.now = now
        while self.timer is not None and self.timer[0] <= now:
            (_, callback), self.timer = self.timer, None
            callback()


def an_attempt(name="a") -> Attempt:
    return Attempt(Claimed(name, b"", 1, 0, False, 0, "w:1:1"), "q")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def overdue() -> list[str]:
    return []


@pytest.fixture
def deadlines(clock, overdue) -> Deadlines:
    return Deadlines(clock, lambda attempt: overdue.append(attempt.job_id))


def test_an_attempt_is_told_when_its_time_is_up_and_once(deadlines, clock, overdue):
    deadlines.add(an_attempt(), 10)
    clock.move_to(9.9)
    assert overdue == []
    clock.move_to(10)
    clock.move_to(100)
    assert overdue == ["a"]
    assert len(deadlines) == 0


def test_deadlines_come_in_their_order_whatever_the_order_they_were_added_in(deadlines, clock, overdue):
    for name, at in (("c", 30), ("a", 10), ("b", 20), ("a2", 10)):
        deadlines.add(an_attempt(name), at)
    clock.move_to(15)
    assert overdue == ["a", "a2"]
    clock.move_to(30)
    assert overdue == ["a", "a2", "b", "c"]


def test_one_that_ended_in_time_is_not_told(deadlines, clock, overdue):
    attempt = an_attempt()
    deadlines.add(attempt, 10)
    attempt.finished = True
    clock.move_to(20)
    assert overdue == []
    assert len(deadlines) == 0


def test_later_deadlines_do_not_move_the_timer(deadlines, clock):
    deadlines.add(an_attempt(), 10)
    for at in range(11, 500):
        deadlines.add(an_attempt(), at)
    assert clock.armed == 1
    deadlines.add(an_attempt(), 5)
    assert clock.armed == 2
    assert clock.timer[0] == 5


def test_memory_follows_the_attempts_that_run_and_not_the_jobs_done_within_a_timeout(deadlines, overdue):
    largest = 0
    running = []
    for number in range(50_000):
        attempt = an_attempt(str(number))
        deadlines.add(attempt, 300 + number / 1000)
        running.append(attempt)
        if len(running) > 100:
            ended = running.pop(0)
            ended.finished = True
        largest = max(largest, len(deadlines))
    assert largest < 2_500
    assert overdue == []


def test_a_sweep_loses_nobody_that_runs(deadlines, clock, overdue):
    survivors = {f"s{number}" for number in range(50)}
    for number in range(5000):
        attempt = an_attempt(f"x{number}")
        deadlines.add(attempt, 100)
        if number % 100 == 0:
            deadlines.add(an_attempt(f"s{number // 100}"), 100)
        attempt.finished = True
    clock.move_to(100)
    assert set(overdue) == survivors
    assert len(overdue) == len(survivors)


def test_what_is_added_as_another_is_told_is_told_in_its_turn(clock):
    told = []

    def overdue(attempt):
        told.append((attempt.job_id, clock.now))
        if attempt.job_id == "soft":
            deadlines.add(an_attempt("past already"), 5)
            deadlines.add(an_attempt("hard"), 20)

    deadlines = Deadlines(clock, overdue)
    deadlines.add(an_attempt("soft"), 10)
    deadlines.add(an_attempt("other"), 15)
    clock.move_to(12)
    assert told == [("soft", 12), ("past already", 12)]
    clock.move_to(16)
    clock.move_to(20)
    assert told[2:] == [("other", 16), ("hard", 20)]
    assert clock.timer is None


def test_a_callback_that_raises_stops_no_other_deadline(clock):
    told = []

    def overdue(attempt):
        told.append(attempt.job_id)
        if attempt.job_id == "a":
            deadlines.add(an_attempt("c"), 30)
            raise RuntimeError("broken")

    deadlines = Deadlines(clock, overdue)
    deadlines.add(an_attempt("a"), 10)
    deadlines.add(an_attempt("b"), 20)
    with pytest.raises(RuntimeError, match="broken"):
        clock.move_to(10)
    clock.move_to(30)
    assert told == ["a", "b", "c"]


def test_closing_forgets_all(deadlines, clock, overdue):
    deadlines.add(an_attempt(), 10)
    deadlines.close()
    deadlines.close()
    clock.move_to(20)
    assert overdue == []
    assert len(deadlines) == 0


async def test_on_a_real_loop():
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop, lambda _: told.set())
    deadlines.add(an_attempt(), loop.time())
    async with asyncio.timeout(10):
        await told.wait()
    deadlines.close()
