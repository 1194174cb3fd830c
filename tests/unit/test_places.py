"""workers/places.py: places are taken in the order of coming, by as many as there are; what is over goes back."""

import asyncio
import time

import pytest

from workers.clock import ServerClock
from workers.places import NoPlaceLeft, Places


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def in_line(places, order, name):
    async def enter():
        await places.enter()
        order.append(name)

    return asyncio.create_task(enter())


async def test_places_are_taken_in_the_order_of_coming():
    places, order = Places(2), []
    tasks = [in_line(places, order, n) for n in range(5)]
    await turn()
    assert (order, places.taken, places.waiting) == ([0, 1], 2, 3)
    places.leave()
    await turn()
    assert (order, places.taken) == ([0, 1, 2], 2)
    places.leave()
    places.leave()
    await turn()
    assert (order, places.taken, places.waiting) == ([0, 1, 2, 3, 4], 2, 0)
    await asyncio.gather(*tasks)


async def test_one_who_comes_late_does_not_pass_those_who_wait():
    places, order = Places(1), []
    tasks = [in_line(places, order, n) for n in range(2)]
    await turn()
    places.leave()  # the place is the second one's from here, though it has not run yet
    tasks.append(in_line(places, order, "late"))
    await turn()
    assert order == [0, 1]
    places.leave()
    await asyncio.gather(*tasks)


async def test_the_line_is_full_when_as_many_wait_as_there_are_places():
    places, order = Places(2), []
    fullness, tasks = [], []
    for n in range(4):
        fullness.append(places.full)
        tasks.append(in_line(places, order, n))
        await turn()
    assert [*fullness, places.full] == [False, False, False, False, True]
    places.leave()
    assert not places.full
    tasks.append(in_line(places, order, 4))
    await turn()
    assert places.full
    places.gives_back = False
    assert not places.full
    for _ in range(3):
        places.leave()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(("seconds", "most"), [(0.001, 16), (0.1, 10), (0.5, 2), (60, 1)])
async def test_as_many_wait_as_will_soon_have_their_turn(seconds, most):
    places, order = Places(1), []
    await places.enter()
    places.leave(seconds)
    await places.enter()
    tasks = []
    while not places.full:
        tasks.append(in_line(places, order, None))
        await turn()
    assert len(tasks) == most
    for _ in tasks:
        places.leave()
    await asyncio.gather(*tasks)


async def test_who_goes_away_leaves_the_line_as_it_was():
    places, order = Places(1), []
    first, second, third = (in_line(places, order, n) for n in range(3))
    await turn()
    second.cancel()
    await turn()
    assert places.waiting == 1
    places.leave()
    await asyncio.gather(first, third)
    assert order == [0, 2]


async def test_a_place_given_to_one_who_is_just_leaving_goes_to_the_next():
    places, order = Places(1), []
    first, second, third = (in_line(places, order, n) for n in range(3))
    await turn()
    places.leave()
    second.cancel()  # in the very step in which it was given the place
    await asyncio.wait({second})
    await asyncio.gather(first, third)
    assert (order, places.taken, places.waiting) == ([0, 2], 1, 0)


async def test_a_place_given_back_in_the_step_in_which_the_first_in_line_is_cancelled_goes_to_the_next():
    places, order = Places(1), []
    first, second, third = (in_line(places, order, n) for n in range(3))
    await turn()
    second.cancel()
    places.leave(0.1)  # nor does whoever gives it back hear of that
    await asyncio.wait({second})
    await asyncio.gather(first, third)
    assert (order, places.taken, places.waiting) == ([0, 2], 1, 0)
    places.leave()
    assert places.taken == 0


async def test_who_is_cancelled_in_the_step_in_which_the_last_place_is_closed_is_just_cancelled():
    places, order = Places(1, "none is left"), []
    tasks = [in_line(places, order, n) for n in range(3)]
    await turn()
    tasks[1].cancel()
    places.close_one()
    await asyncio.wait(tasks)
    assert tasks[1].cancelled()
    with pytest.raises(NoPlaceLeft, match="none is left"):
        await tasks[2]
    assert places.waiting == 0


async def test_when_the_last_place_is_closed_those_who_wait_hear_of_it():
    places, order = Places(1, "none is left"), []
    tasks = [in_line(places, order, n) for n in range(2)]
    await turn()
    places.close_one()
    assert places.full
    with pytest.raises(NoPlaceLeft, match="none is left"):
        await tasks[1]
    with pytest.raises(NoPlaceLeft, match="none is left"):
        await places.enter()
    places.leave()
    assert (places.taken, places.full) == (0, True)
    places.open_one()
    await places.enter()
    assert places.taken == 1


async def test_a_place_that_is_opened_admits_the_first_in_the_line():
    places, order = Places(2), []
    places.close_one()
    tasks = [in_line(places, order, n) for n in range(2)]
    await turn()
    assert order == [0]
    places.open_one()
    await asyncio.gather(*tasks)
    assert order == [0, 1]


@pytest.mark.parametrize(("seconds", "apart"), [(0.0, 1), (0.01, 5), (60, 20)])
def test_what_goes_back_comes_back_as_fast_as_it_can_be_run_twice_over(seconds, apart):
    places, clock = Places(1), ServerClock()
    for _ in range(100):
        places.taken += 1
        places.leave(seconds)
    now = clock.now_ms()
    due = [int(places.due_again(clock)) for _ in range(2000)]
    assert now + 250 <= due[0] <= clock.now_ms() + 500
    assert due == sorted(due)
    assert due[-1] - due[0] == pytest.approx(1999 * apart, rel=0.01, abs=260)
    assert time.time() * 1000 == pytest.approx(now, abs=60_000), "Unix ms"
