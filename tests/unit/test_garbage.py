"""workers/garbage.py: what is there at the start is set aside, and who has set the collector up is left alone."""

import gc

import pytest

from workers.garbage import settle


@pytest.fixture(autouse=True)
def as_it_was():
    thresholds, enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    (gc.enable if enabled else gc.disable)()


def test_what_is_there_is_not_looked_through_again():
    gc.set_threshold(700, 10, 10)
    settle()
    assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold()[0] == 10_000
    assert gc.get_threshold()[1:] == (10, 10)


@pytest.mark.parametrize("set_up", [lambda: gc.set_threshold(5000, 10, 10), gc.disable, lambda: gc.set_threshold(0)])
def test_a_program_that_has_set_the_collector_up_is_left_alone(set_up):
    set_up()
    before = gc.get_threshold()
    settle()
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == before


def test_cycles_are_still_collected():
    gc.set_threshold(700, 10, 10)
    settle()
    gone = []

    class Loop:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            gone.append(1)

    for _ in range(60_000):
        Loop()
    assert len(gone) > 10_000
