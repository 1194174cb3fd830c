"""workers/time_limits.py: which limit comes first, and that one attempt costs the heap one entry at a time."""

import pytest
import structlog

from common.codec import Extras, decode_job, encode_job
from common.redis.store import Claimed
from workers.attempt import Attempt, StopReason
from workers.runnables import Runnable
from workers.time_limits import TimeLimits

NOW = 1_700_000_000_000


class Loop:
    """An event loop's clock and its one timer, moved by hand, and the server's clock with it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timer: tuple[float, object] | None = None

    def time(self) -> float:
        return self.now

    def call_at(self, when, callback):
        self.timer = (when, callback)
        return self

    def cancel(self) -> None:
        self.timer = None

    def now_ms(self) -> int:
        return round(NOW + (self.now - 1000) * 1000)

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        while self.timer is not None and self.timer[0] <= self.now:
            (_, callback), self.timer = self.timer, None
            callback()

    def get_loop(self):
        return self


class Stops(list):
    def __call__(self, attempt: Attempt, reason: StopReason) -> None:
        attempt.stop = reason
        self.append(reason)


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def stops() -> Stops:
    return Stops()


@pytest.fixture
def limits(loop, stops) -> TimeLimits:
    return TimeLimits(loop, loop, stops)


@pytest.fixture
def lines():
    with structlog.testing.capture_logs() as captured:
        yield captured


def an_attempt(loop, *, age: float = 0.0, **extras) -> Attempt:
    raw = encode_job("work", (), {}, enqueued_ms=round(NOW - age * 1000), extras=Extras(**extras) if extras else None)
    attempt = Attempt(Claimed("j", raw, 1, NOW, False, 0, "w:1:1"), "q")
    attempt.payload = decode_job(raw)
    attempt.task = loop
    return attempt


def a_task(timeout=None, soft=None, deadline=None) -> Runnable:
    runnable = Runnable("work", timeout=timeout, max_attempts=5, keep_ms=0)
    runnable.soft_timeout = soft
    runnable.deadline_ms = None if deadline is None else round(deadline * 1000)
    return runnable


def begin(limits, attempt, task) -> Attempt:
    limits.set_deadline(attempt, task, attempt.payload.extras)
    limits.begin(attempt, task, attempt.payload.extras)
    return attempt


def test_without_a_limit_nothing_is_watched(limits, loop):
    attempt = begin(limits, an_attempt(loop), a_task())
    assert loop.timer is None
    assert attempt.time_left is None


def test_the_timeout_stops_and_until_then_the_time_runs_down(limits, loop, stops):
    attempt = begin(limits, an_attempt(loop), a_task(timeout=10))
    assert attempt.time_left == 10
    loop.pass_by(9)
    assert (attempt.time_left, stops) == (1, [])
    loop.pass_by(1)
    assert (attempt.time_left, stops) == (0, [StopReason.TIMED_OUT])
    assert not attempt.stopping


def test_the_soft_timeout_tells_and_the_hard_one_stops(limits, loop, stops, lines):
    attempt = begin(limits, an_attempt(loop), a_task(timeout=10, soft=6))
    loop.pass_by(5.9)
    assert not attempt.stopping
    loop.pass_by(0.1)
    assert attempt.stopping.why == "soft_timeout"
    assert stops == []
    (line,) = lines
    assert (line["event"], line["soft_timeout"], line["stopped_in_s"]) == ("job_soft_timeout", 6, 4)
    loop.pass_by(4)
    assert stops == [StopReason.TIMED_OUT]


def test_a_soft_timeout_alone_tells_and_never_stops(limits, loop, stops, lines):
    attempt = begin(limits, an_attempt(loop), a_task(soft=6))
    assert attempt.time_left is None
    loop.pass_by(1000)
    assert attempt.stopping
    assert lines[0]["stopped_in_s"] is None
    assert stops == []


def test_a_soft_timeout_behind_the_hard_one_tells_nobody(limits, loop, stops, lines):
    attempt = begin(limits, an_attempt(loop, timeout=5.0), a_task(timeout=100, soft=6))
    loop.pass_by(5)
    assert stops == [StopReason.TIMED_OUT]
    loop.pass_by(5)
    assert not attempt.stopping
    assert lines == []


def test_one_that_is_being_stopped_is_not_told_as_well(limits, loop, lines):
    attempt = begin(limits, an_attempt(loop), a_task(timeout=10, soft=6))
    attempt.stop = StopReason.ABORTED
    loop.pass_by(7)
    assert not attempt.stopping
    assert lines == []


def test_a_job_may_have_its_own_limits(limits, loop, stops):
    attempt = begin(limits, an_attempt(loop, timeout=20.0, soft=2.0), a_task(timeout=10, soft=6))
    loop.pass_by(2)
    assert attempt.stopping
    loop.pass_by(17.9)
    assert stops == []
    loop.pass_by(0.1)
    assert stops == [StopReason.TIMED_OUT]


@pytest.mark.parametrize(
    ("timeout", "deadline", "age", "after", "reason"),
    [
        (10, 60, 0, 10, StopReason.TIMED_OUT),
        (10, 60, 55, 5, StopReason.DEADLINE),
        (None, 60, 0, 60, StopReason.DEADLINE),
    ],
)
def test_of_timeout_and_deadline_the_first_one_stops(limits, loop, stops, timeout, deadline, age, after, reason):
    attempt = begin(limits, an_attempt(loop, age=age), a_task(timeout=timeout, deadline=deadline))
    assert attempt.time_left == after
    loop.pass_by(after - 0.1)
    assert stops == []
    loop.pass_by(0.1)
    assert stops == [reason]


def test_a_deadline_counts_from_when_the_job_was_first_due(limits, loop):
    attempt = an_attempt(loop, age=3600, due=NOW - 10_000)
    limits.set_deadline(attempt, a_task(deadline=60), attempt.payload.extras)
    assert attempt.deadline_ms == NOW + 50_000


def test_a_jobs_own_deadline_is_the_moment_itself(limits, loop):
    attempt = an_attempt(loop, age=3600, end=NOW + 5)
    limits.set_deadline(attempt, a_task(deadline=60), attempt.payload.extras)
    assert attempt.deadline_ms == NOW + 5
    assert not limits.deadline_passed(attempt)
    loop.pass_by(0.005)
    assert limits.deadline_passed(attempt)


def test_without_a_deadline_none_has_passed(limits, loop):
    assert not limits.deadline_passed(an_attempt(loop))


def test_the_end_of_the_worker_may_come_before_the_timeout(limits, loop):
    attempt = begin(limits, an_attempt(loop), a_task(timeout=10))
    attempt.leaves_by = loop.now + 3
    assert attempt.time_left == 3


def test_one_attempt_has_one_entry_in_the_heap_at_a_time(limits, loop):
    running = [begin(limits, an_attempt(loop), a_task(timeout=10, soft=6)) for _ in range(3)]
    heap = limits._deadlines
    assert len(heap) == 3
    loop.pass_by(6)
    assert len(heap) == 3
    for attempt in running:
        attempt.finished = True
    loop.pass_by(4)
    assert len(heap) == 0


def test_closing_watches_nothing_any_more(limits, loop, stops):
    begin(limits, an_attempt(loop), a_task(timeout=10))
    limits.close()
    loop.pass_by(20)
    assert stops == []
