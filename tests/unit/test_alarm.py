"""common/alarm.py: one timer for a limit that is set again and again."""

import pytest

from common import alarm as module
from common.alarm import Alarm


class Handle:
    def __init__(self, when, call) -> None:
        self.when, self.call, self.cancelled = when, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 0.0
        self.handles: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when, call) -> Handle:
        self.handles.append(Handle(when, call))
        return self.handles[-1]

    def turn_to(self, now: float) -> None:
        self.now = now
        for handle in [handle for handle in self.handles if handle.when <= now and not handle.cancelled]:
            self.handles.remove(handle)
            handle.call()


@pytest.fixture
def loop(monkeypatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr(module.asyncio, "get_running_loop", lambda: loop)
    return loop


@pytest.fixture
def late() -> list[str]:
    return []


@pytest.fixture
def alarm(loop, late) -> Alarm:
    return Alarm(lambda: late.append("late"))


def test_it_calls_back_once_the_time_has_passed(alarm, loop, late):
    alarm.set(5)
    loop.turn_to(4.9)
    assert late == []
    loop.turn_to(5)
    assert late == ["late"]
    assert loop.handles == []


def test_what_was_taken_back_calls_nobody(alarm, loop, late):
    alarm.set(5)
    alarm.clear()
    loop.turn_to(6)
    assert late == []
    assert loop.handles == [], "nor is there a timer for it any longer"


def test_a_thousand_times_that_are_set_and_taken_back_need_one_timer(alarm, loop, late):
    for n in range(1000):
        loop.now = n / 1000
        alarm.set(loop.now + 5)
        alarm.clear()
    assert len(loop.handles) == 1
    alarm.set(5.9)
    loop.turn_to(5.5)
    assert late == [], "it went off for the first, and was wound up for the last"
    loop.turn_to(5.9)
    assert late == ["late"]


def test_it_can_be_set_again_by_what_it_calls(loop):
    rung = []

    def late() -> None:
        rung.append(loop.now)
        if loop.now < 3:
            alarm.set(loop.now + 1)

    alarm = Alarm(late)
    alarm.set(1)
    for now in (1, 2, 3, 4):
        loop.turn_to(now)
    assert rung == [1, 2, 3]


def test_stopped_it_leaves_no_timer(alarm, loop, late):
    alarm.set(5)
    (handle,) = loop.handles
    alarm.stop()
    assert handle.cancelled
    loop.turn_to(6)
    assert late == []
