"""workers/wellbeing.py: when a worker is alive, when it is ready, and what it says where it is not."""

import os
import time
from datetime import UTC, datetime

import pytest

from common.pauses import Pause
from common.settings import Settings
from workers.watching import Watching
from workers.wellbeing import REASONS, Condition, Wellbeing, blocked, still_limit


class Part:
    """Any part of a worker, with what is set on it."""

    def __init__(self, **known) -> None:
        self.__dict__.update(known)


class World:
    def __init__(self) -> None:
        self.claimer = Part(accepting=True, claiming=True, server_answers=True, trouble="")
        self.executor = Part(running=3)
        self.heartbeat = Part(trouble="")
        self.leases = Part(fenced="")
        self.paused: list[Pause] = []
        self.condition = Condition(
            queues=("high", "low"),
            claimer=self.claimer,
            executor=self.executor,
            heartbeat=self.heartbeat,
            leases=self.leases,
            pauses=Part(of_queues=lambda: self.paused),
        )

    def pause(self, name: str, by: str = "") -> None:
        self.paused.append(Pause("queue", name, datetime.now(tz=UTC), by))


@pytest.fixture
def world():
    return World()


def test_a_worker_that_works_has_nothing_against_it(world):
    assert world.condition.reasons() == {}
    assert world.condition.about() == {
        "claiming": True,
        "server_answers": True,
        "running": 3,
        "paused_queues": [],
    }


def test_one_that_is_to_stop_says_how_many_jobs_run_still_and_nothing_else(world):
    world.claimer.accepting = False
    world.claimer.trouble = "ConnectionError"
    assert list(world.condition.reasons()) == ["stopping"]
    assert "3 now" in world.condition.reasons()["stopping"]


def test_one_that_has_not_heard_of_its_server_yet_is_starting(world):
    world.claimer.server_answers = False
    assert list(world.condition.reasons()) == ["starting"]


@pytest.mark.parametrize("part", ["claimer", "heartbeat"])
def test_whichever_part_finds_the_server_away_says_so(world, part):
    getattr(world, part).trouble = "ConnectionError"
    (why,) = world.condition.reasons().values()
    assert list(world.condition.reasons()) == ["server_away"]
    assert "(ConnectionError)" in why
    assert "a restart would not help" in why


def test_one_that_lost_its_leases_is_fenced(world):
    world.leases.fenced = "its leases could not be renewed"
    assert world.condition.reasons() == {"fenced": "its leases could not be renewed"}


def test_it_is_paused_only_where_all_of_its_queues_are(world):
    world.pause("low", by="ada@ops")
    assert world.condition.reasons() == {}
    assert world.condition.about()["paused_queues"] == ["low"]
    world.pause("high")
    assert "low (by ada@ops), high (by somebody)" in world.condition.reasons()["paused"]


def test_several_things_may_be_wrong_at_once(world):
    world.leases.fenced = "…"
    world.heartbeat.trouble = "TimeoutError"
    world.pause("low")
    world.pause("high")
    assert set(world.condition.reasons()) == {"fenced", "server_away", "paused"} <= set(REASONS)


@pytest.mark.parametrize("limit", [1.0, 5.0, 10.0, 60.0, 3600.0])
def test_a_worker_is_not_ready_before_it_is_not_alive(limit):
    assert 0 < still_limit(limit) < limit
    assert "Restart it" in blocked(limit, limit)
    assert "Restart it" not in blocked(still_limit(limit), limit)


def test_ready_is_alive_and_nothing_against_it():
    assert Wellbeing(alive=True, reasons={}).ready
    assert not Wellbeing(alive=False, reasons={}).ready
    assert not Wellbeing(alive=True, reasons={"paused": "…"}).ready


@pytest.mark.parametrize(
    ("seconds", "alive", "told"),
    [(0, True, None), (30, True, "a task blocks it"), (100, False, "Restart it")],
)
def test_a_worker_whose_loop_stands_still_is_first_not_ready_and_then_not_alive(seconds, alive, told):
    watching = Watching(Settings(block_limit=60), "w-1-abc", ["q"], connected=lambda: True)
    watching._kept_at = time.monotonic() - seconds
    found = watching._wellbeing()
    assert found.alive is alive
    assert ("loop_blocked" in found.reasons) is (told is not None)
    assert told is None or told in found.reasons["loop_blocked"]
    assert (found.about["worker"], found.about["pid"]) == ("w-1-abc", os.getpid())
