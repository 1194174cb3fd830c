"""workers/garbage.py: what is there at the start is set aside, looks for garbage are as rare as garbage is, and who has
set the collector up is left alone."""

import gc
import weakref

import pytest

from workers.garbage import look_if_grown, settle


class Loop:
    def __init__(self) -> None:
        self.me = self
        alive.add(self)


alive: weakref.WeakSet[Loop] = weakref.WeakSet()


def test_what_is_there_is_not_looked_through_again():
    gc.set_threshold(700, 10, 10)
    settle(100)
    assert gc.get_freeze_count() > 10_000


@pytest.mark.parametrize("least", [700, 2000])
def test_the_interval_grows_while_no_garbage_is_made(least):
    gc.set_threshold(least, 10, 10)
    settle(100)
    kept = [[] for _ in range(60_000)]
    assert gc.get_threshold() == (10_000, 10, 10)
    assert len(kept) == 60_000


def test_garbage_is_looked_for_as_often_as_ever_where_it_is_made():
    gc.set_threshold(700, 10, 10)
    settle(100)
    kept = [[] for _ in range(60_000)]
    for _ in range(20_000):  # the first look that finds some comes after as many as are kept at a wide interval
        Loop()
    most = 0
    for _ in range(20_000):
        Loop()
        most = max(most, len(alive))
    assert most <= 1400
    assert gc.get_threshold() == (700, 10, 10)
    assert len(kept) == 60_000


def test_a_program_that_sets_a_threshold_later_keeps_it():
    gc.set_threshold(700, 10, 10)
    settle(100)
    gc.set_threshold(900, 10, 10)
    kept = [[] for _ in range(60_000)]
    assert gc.get_threshold() == (900, 10, 10)
    assert len(kept) == 60_000


def test_it_is_settled_once():
    gc.set_threshold(700, 10, 10)
    settle(100)
    callbacks = list(gc.callbacks)
    settle(100)
    assert gc.callbacks == callbacks


def test_with_many_slots_the_interval_is_wider():
    gc.set_threshold(700, 10, 10)
    settle(1000)
    kept = [[] for _ in range(150_000)]
    assert gc.get_threshold() == (25_000, 10, 10)
    assert len(kept) == 150_000


def test_a_process_that_has_grown_by_much_is_looked_through_at_once(monkeypatch):
    size = [200_000_000]
    monkeypatch.setattr("workers.garbage.memory", lambda: size[0])
    monkeypatch.setattr("workers.garbage._SIZED_EVERY", 0)
    gc.set_threshold(700, 10, 10)
    settle(100)
    kept = [[] for _ in range(60_000)]
    gc.collect()

    def left_by_jobs_of(growth: int) -> int:
        look_if_grown()
        for _ in range(100):
            Loop()
        size[0] += growth
        look_if_grown()
        return len(alive)

    assert left_by_jobs_of(60_000_000) == 100
    assert left_by_jobs_of(10_000_000) == 0, "it grows no less for growing step by step"
    assert left_by_jobs_of(-150_000_000) == 100
    assert left_by_jobs_of(70_000_000) == 0, "what it had at the least counts"
    gc.set_threshold(0)
    assert left_by_jobs_of(500_000_000) == 100, "the program has switched the collector off"
    assert len(kept) == 60_000


@pytest.mark.parametrize("set_up", [lambda: gc.set_threshold(5000, 10, 10), gc.disable, lambda: gc.set_threshold(0)])
def test_a_program_that_has_set_the_collector_up_is_left_alone(set_up):
    set_up()
    before = gc.get_threshold()
    settle(100)
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == before
