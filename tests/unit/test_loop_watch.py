"""workers/loop_watch.py: who keeps the event loop is said once, with the place, and its end as well."""

import asyncio
import re
import threading

import pytest
import structlog

from workers.loop_watch import LoopWatch


@pytest.fixture
def lines():
    with structlog.testing.capture_logs() as captured:
        yield captured


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_loop_that_turns_is_not_written_about(lines):
    clock = Clock()
    watch = LoopWatch(lambda _: {}, clock)
    for _ in range(5):
        assert watch.look() == 0
        await turn()
        clock.now += 0.5
    assert lines == []


async def test_a_blocked_loop_is_said_once_with_its_job_and_where_it_stands_and_then_its_end(lines):
    clock = Clock()
    me = asyncio.current_task()
    watch = LoopWatch(lambda task: {"job_id": "j1", "task": "spin"} if task is me else {}, clock)
    watch.look()
    seen = []
    for _ in range(4):  # nothing is awaited: the loop stands still
        clock.now += 0.6
        seen.append(watch.look())
    assert seen == pytest.approx([0.6, 1.2, 1.8, 2.4])
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("event_loop_blocked", "warning")
    assert (line["job_id"], line["task"], line["seconds"]) == ("j1", "spin", 1.2)
    assert "test_a_blocked_loop_is_said_once" in line["stack"]
    await turn()
    assert watch.look() == 0
    assert [line["event"] for line in lines] == ["event_loop_blocked", "event_loop_resumed"]
    await turn()


async def test_the_place_is_where_the_program_calls_what_blocks_and_not_within_a_library(lines):
    clock = Clock()
    watch = LoopWatch(lambda _: {}, clock)
    watch.look()
    clock.now += 2
    looked = threading.Event()

    def look():
        watch.look()
        looked.set()

    thread = threading.Thread(target=look)
    thread.start()
    looked.wait(20)  # blocks in threading.py
    thread.join()
    (line,) = lines
    assert re.match(rf"{re.escape(__file__)}:\d+ in test_the_place_is_where_the_program_calls", line["place"])
    assert "threading.py" in line["stack"].splitlines()[-2]
    for way_out in ("plain `def`", "@task(cpu=True)", "asyncio.to_thread"):
        assert way_out in line["advice"]
    await turn()


async def test_a_process_that_stood_still_as_a_whole_is_not_the_loops_fault(lines):
    clock = Clock()
    watch = LoopWatch(lambda _: {}, clock)
    watch.look()
    clock.now += 3600
    assert watch.look(late=3599.5) == pytest.approx(0.5)
    assert lines == []
    await turn()


async def test_an_error_in_telling_the_job_costs_only_its_keys(lines):
    clock = Clock()
    watch = LoopWatch(lambda _: {}[1], clock)
    watch.look()
    clock.now += 2
    watch.look()
    assert [line["event"] for line in lines] == ["event_loop_blocked"]
    await turn()


async def test_blocks_and_their_seconds_are_counted_and_never_less_than_before():
    clock = Clock()
    watch = LoopWatch(lambda _: {}, clock)
    counted = [(watch.blocks, watch.blocked_s)]
    for _ in range(2):
        watch.look()
        for _ in range(3):  # nothing is awaited: the loop stands still
            clock.now += 0.6
            watch.look()
            counted.append((watch.blocks, watch.blocked_s))
        await turn()
        watch.look()
        counted.append((watch.blocks, watch.blocked_s))
        await turn()
    assert counted == [
        *((0, 0.0), (0, 0.0), (1, pytest.approx(1.2)), (1, pytest.approx(1.8)), (1, pytest.approx(1.8))),
        *((1, pytest.approx(1.8)), (2, pytest.approx(3.0)), (2, pytest.approx(3.6)), (2, pytest.approx(3.6))),
    ]
