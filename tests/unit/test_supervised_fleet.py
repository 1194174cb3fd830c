"""What a supervisor decides (workers/supervisor/fleet.py), by a clock of the test's and processes that are none."""

import signal
from collections import Counter

import pytest
from structlog.testing import capture_logs

from workers.leaving import LEAVING
from workers.supervisor import fleet as subject
from workers.supervisor.children import delay, how_it_ended
from workers.supervisor.fleet import Fleet

GRACE = 25.0
USAGE, UNAVAILABLE = 2, 3


class World:
    """Processes that exist on paper, and time that passes when it is told to."""

    def __init__(self, size: int = 3, **options) -> None:
        self.now = 1000.0
        self.sent: list[tuple[int, str]] = []
        self.started: list[int] = []  # places, in the order of starts; a pid is 101 for the first
        self.refuse = False
        self.fleet = Fleet(size, self, grace=GRACE, clock=lambda: self.now, **options)
        with capture_logs() as self.lines:
            self.fleet.start()

    def start(self, place: int) -> int:
        if self.refuse:
            raise OSError(11, "Resource temporarily unavailable")
        self.started.append(place)
        return 100 + len(self.started)

    def send(self, pid: int, signum: int) -> None:
        self.sent.append((pid, signal.Signals(signum).name))

    def do(self, name: str, *arguments) -> list[str]:
        """Call a method of the fleet; return the events it logged, with how each process ended."""
        with capture_logs() as lines:
            getattr(self.fleet, name)(*arguments)
        self.lines += lines
        return [line["event"] for line in lines]

    def passes(self, seconds: float) -> list[str]:
        """Let time pass, from one thing that is due to the next."""
        until, events = self.now + seconds, []
        while (due := self.fleet.next_due()) is not None and due <= until:
            self.now = max(self.now, due)
            events += self.do("tick")
        self.now = until
        return events

    def all_ready(self) -> None:
        self.do("configured", 101, GRACE)
        for pid in range(101, 101 + len(self.started)):
            self.do("ready", pid)

    def standing(self) -> list[int | None]:
        return [None if place.current is None else place.current.pid for place in self.fleet.places]

    def last(self, event: str) -> dict:
        return next(line for line in reversed(self.lines) if line["event"] == event)

    def take_sent(self) -> list[tuple[int, str]]:
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def running() -> World:
    world = World()
    world.all_ready()
    world.now += 100  # all have run well
    return world


def test_the_others_start_once_one_has_its_settings_and_tasks():
    world = World()
    assert world.started == [1]
    world.passes(3600)
    assert world.started == [1], "nothing else until the first has said that it is configured"
    world.do("configured", 101, GRACE)
    assert world.started == [1, 2, 3]
    assert not world.fleet.all_ready
    world.all_ready()
    assert world.fleet.all_ready
    assert world.fleet.over is None


def test_a_wrong_setting_ends_all_at_once_with_its_code():
    world = World()
    world.do("ended", 101, USAGE)
    assert world.fleet.over == USAGE
    assert world.started == [1]
    assert "worker_process_died" not in [line["event"] for line in world.lines]


def test_what_shows_only_after_the_tasks_are_there_ends_the_others_in_order():
    world = World()
    world.do("configured", 101, GRACE)
    world.do("ended", 102, USAGE)
    assert world.fleet.over is None
    assert sorted(world.take_sent()) == [(101, "SIGTERM"), (103, "SIGTERM")]
    world.do("ended", 101, 0)
    world.do("ended", 103, -signal.SIGTERM)
    assert world.fleet.over == USAGE


def test_once_one_has_worked_a_wrong_setting_ends_nothing(running):
    running.do("ended", 102, 1)
    running.passes(1)
    assert running.started == [1, 2, 3, 2]
    assert running.do("ended", 104, USAGE) == ["worker_process_died"]
    assert running.fleet.over is None


def test_a_server_that_is_away_at_the_start_is_waited_for_with_growing_pauses():
    world = World(size=1)
    pauses = []
    for number in range(12):
        assert world.do("ended", 101 + number, UNAVAILABLE) == ["worker_process_died"]
        line = world.last("worker_process_died")
        assert (line["how"], line["failures"]) == ("exit code 3", number + 1)
        pauses.append(line["again_in_s"])
        world.passes(line["again_in_s"] - 0.001)
        assert len(world.started) == number + 1
        world.passes(0.002)
        assert len(world.started) == number + 2
    for number, pause in enumerate(pauses):
        longest = min(0.5 * 2**number, 60)
        assert longest / 2 - 0.001 <= pause <= longest + 0.001
    assert pauses[-1] >= 30


def test_pauses_are_not_in_step():
    assert len({delay(5) for _ in range(20)}) > 10


def test_a_process_that_ran_well_starts_over_with_short_pauses(running):
    for number in range(3):
        running.do("ended", running.standing()[1], 1)
        assert running.last("worker_process_died")["failures"] == number + 1
        running.passes(60)
        if number == 1:
            running.do("ready", running.standing()[1])
            running.passes(subject._RAN_WELL - 1)
    running.do("ready", running.standing()[1])
    running.passes(subject._RAN_WELL)
    running.do("ended", running.standing()[1], -signal.SIGKILL)
    line = running.last("worker_process_died")
    assert (line["failures"], line["how"]) == (1, "killed by SIGKILL")
    assert line["ready_for_s"] == subject._RAN_WELL
    assert running.standing()[::2] == [101, 103], "its neighbours go on"


def test_a_system_that_gives_no_process_is_asked_again():
    world = World(size=1)
    world.do("ready", 101)
    world.refuse = True
    world.do("ended", 101, 1)
    world.passes(30)
    line = world.last("worker_process_died")
    assert "Resource temporarily unavailable" in line["how"]
    assert line["pid"] is None
    world.refuse = False
    world.passes(60)
    assert world.standing() == [102]


def test_a_process_is_replaced_once_another_one_is_ready(running):
    running.do("replace", 102, "it has had 1,000 jobs")
    assert running.started == [1, 2, 3, 2]
    assert running.take_sent() == []
    assert running.standing() == [101, 102, 103], "it works on until the other is ready"
    running.do("configured", 104, GRACE)
    running.do("ready", 104)
    assert running.standing() == [101, 104, 103]
    assert running.take_sent() == [(102, "SIGTERM")]
    assert running.do("ended", 102, 0) == ["worker_process_ended"]
    assert running.last("worker_process_ended")["why"] == "it has had 1,000 jobs"


def test_processes_are_replaced_one_at_a_time(running):
    for pid in (101, 102, 103, 101):
        running.do("replace", pid, "memory")
    assert running.started[3:] == [1]
    running.do("ready", 104)
    assert running.started[3:] == [1], "the next turn waits until the old one has ended"
    running.do("ended", 101, 0)
    assert running.started[3:] == [1, 2]
    running.do("ready", 105)
    running.do("ended", 102, 0)
    running.do("ready", 106)
    running.do("ended", 103, 0)
    assert running.started[3:] == [1, 2, 3]
    assert running.standing() == [104, 105, 106]


def test_one_whose_successor_does_not_start_works_on_and_may_ask_again(running):
    running.do("replace", 101, "memory")
    assert running.do("ended", 104, 1) == ["worker_process_not_replaced"]
    running.passes(3600)
    assert running.standing() == [101, 102, 103]
    assert len(running.started) == 4
    running.do("replace", 101, "memory")
    running.do("ready", 105)
    assert running.standing()[0] == 105


def test_a_successor_that_does_not_become_ready_is_ended_by_force(running):
    running.do("replace", 101, "memory")
    running.passes(subject._READY_WITHIN - 1)
    assert running.take_sent() == []
    assert running.passes(1) == ["worker_process_killed"]
    assert running.take_sent() == [(104, "SIGKILL")]
    assert running.do("ended", 104, -9) == ["worker_process_not_replaced"]


def test_one_that_dies_while_its_successor_starts_is_not_started_twice(running):
    running.do("replace", 101, "memory")
    assert running.do("ended", 101, -9) == ["worker_process_died"]
    assert "again_in_s" not in running.last("worker_process_died"), "its successor is on the way already"
    running.passes(120)
    assert len(running.started) == 4
    running.do("ready", 104)
    assert running.standing() == [104, 102, 103]
    running.do("replace", 102, "memory")
    assert running.started[-1] == 2, "and the next may be replaced"


def test_where_both_die_another_one_is_started(running):
    running.do("replace", 101, "memory")
    running.do("ended", 101, -9)
    assert running.do("ended", 104, 1) == ["worker_process_died", "worker_process_not_replaced"]
    running.passes(1)
    assert running.standing() == [105, 102, 103]


def test_one_that_took_the_place_and_dies_while_the_old_one_leaves_is_started_again(running):
    running.do("replace", 101, "memory")
    running.do("ready", 104)
    running.do("ended", 104, 1)
    running.passes(1)
    assert running.standing() == [105, 102, 103]


def test_a_reload_replaces_all_one_after_the_other(running):
    running.do("reload")
    for number, old in enumerate((101, 102, 103)):
        assert len(running.started) == 4 + number
        assert running.fleet.reloading
        running.do("ready", 104 + number)
        assert running.take_sent() == [(old, "SIGTERM")]
        running.do("ended", old, 0)
    assert running.standing() == [104, 105, 106]
    assert not running.fleet.reloading
    assert running.last("reload_done")["processes"] == 3


def test_a_reload_stops_where_one_does_not_start_and_the_old_ones_go_on(running):
    running.do("reload")
    running.do("ready", 104)
    running.do("ended", 101, 0)
    assert running.do("ended", 105, USAGE) == ["worker_process_not_replaced", "reload_stopped"]
    assert [running.last("reload_stopped")[key] for key in ("replaced", "left", "log_level")] == [1, 2, "error"]
    running.passes(3600)
    assert running.standing() == [104, 102, 103]
    assert not running.fleet.reloading
    assert running.fleet.over is None
    assert len(running.started) == 5
    running.do("reload")
    assert running.fleet.reloading, "once it is mended"


def test_a_reload_with_wrong_settings_replaces_none(running):
    assert running.do("reload", "BARQUE_LEASE: no") == ["reload_stopped"]
    assert len(running.started) == 3
    assert running.last("reload_stopped")["error"] == "BARQUE_LEASE: no"


def test_a_reload_during_a_reload_comes_after_it(running):
    running.do("reload")
    running.do("reload")
    for number in range(6):
        running.do("ready", 104 + number)
        running.do("ended", 101 + number, 0)
    assert Counter(running.started) == {1: 3, 2: 3, 3: 3}
    assert not running.fleet.reloading


def test_a_reload_starts_those_at_once_that_wait(running):
    for _ in range(8):
        running.do("ended", running.standing()[1], 1)
        running.passes(60)
    running.do("ended", running.standing()[1], 1)
    before = len(running.started)
    running.do("reload")
    assert Counter(running.started[before:]) == {2: 1, 1: 1}, "one with the new code, and the first one's successor"


def test_one_that_asked_for_it_is_not_replaced_twice_by_a_reload(running):
    running.do("replace", 102, "memory")
    running.do("replace", 103, "memory")
    running.do("reload")
    for number, old in enumerate((102, 101, 104, 103)):
        running.do("ready", 104 + number)
        running.do("ended", old, 0)
    assert Counter(running.started) == {1: 2, 2: 3, 3: 2}, "place 2 twice: its successor may have read the old code"
    assert not running.fleet.reloading


def test_the_first_signal_is_passed_on_once_also_to_who_leaves_already(running):
    running.do("replace", 101, "memory")
    running.do("ready", 104)
    running.take_sent()
    running.do("stop", signal.SIGINT)
    assert sorted(running.take_sent()) == [(102, "SIGTERM"), (103, "SIGTERM"), (104, "SIGTERM")]
    running.do("stop", signal.SIGINT)
    # Another signal: two of a kind that come together would be one.
    assert sorted(running.take_sent()) == [(pid, "SIGINT") for pid in (101, 102, 103, 104)]
    for pid in (101, 102, 103, 104):
        assert running.fleet.over is None
        running.do("ended", pid, 0)
    assert running.fleet.over == 0


def test_no_process_starts_once_it_is_to_stop(running):
    running.do("ended", 101, 1)
    running.do("replace", 102, "memory")
    running.do("stop", signal.SIGTERM)
    running.do("reload")
    running.do("replace", 103, "memory")
    running.passes(10)
    assert running.started == [1, 2, 3, 2]
    for pid in (102, 103, 104):
        running.do("ended", pid, -signal.SIGTERM)
    assert running.fleet.over == 0


def test_one_that_outlives_its_grace_period_is_killed_and_it_is_said(running):
    running.do("configured", 101, 60.0)  # it has a longer one
    running.do("stop", signal.SIGTERM)
    running.take_sent()
    assert running.passes(GRACE + LEAVING + 1.5) == [], "its own last resort comes first"
    assert running.passes(5) == ["worker_process_killed"] * 2
    assert sorted(running.take_sent()) == [(102, "SIGKILL"), (103, "SIGKILL")]
    running.passes(60 - GRACE)
    assert (101, "SIGKILL") in running.take_sent()
    assert running.passes(10)[-1] == "worker_process_killed", "again, while it is there"


def test_after_a_third_signal_nobody_is_waited_for(running):
    for _ in range(3):
        running.do("stop", signal.SIGINT)
    running.passes(1)
    sent = running.take_sent()
    for pid in (101, 102, 103):
        assert [how for told, how in sent if told == pid] == ["SIGTERM", "SIGINT", "SIGTERM", "SIGKILL"]
    for pid in (101, 102, 103):
        running.do("ended", pid, -9)
    assert running.fleet.over == 130


def test_one_that_hangs_is_ended_and_started_again(running):
    assert running.do("hung", 102, "its event loop stands still") == ["worker_process_hung"]
    assert running.take_sent() == [(102, "SIGKILL")]
    running.do("ended", 102, -9)
    running.passes(1)
    assert running.standing() == [101, 104, 103]
    assert running.fleet.kills == 1


def test_one_that_leaves_may_stand_still_until_its_time_is_over(running):
    running.do("stop", signal.SIGTERM)
    running.take_sent()
    assert running.do("hung", 102, "its event loop stands still") == [] == running.take_sent()


def test_a_burst_ends_when_all_have(running):
    world = World(burst=True)
    world.all_ready()
    world.do("ended", 102, 0)
    world.passes(3600)
    assert world.fleet.over is None
    assert world.standing() == [101, None, 103]
    world.do("ended", 101, 0)
    world.do("ended", 103, 0)
    assert world.fleet.over == 0


def test_a_burst_may_be_over_before_a_process_is_ready():
    world = World(burst=True)
    world.do("configured", 101, GRACE)
    for pid in (101, 102, 103):
        world.do("ended", pid, 0)
    assert world.fleet.over == 0


def test_a_burst_that_cannot_start_ends_with_that_code():
    world = World(burst=True)
    world.do("ended", 101, UNAVAILABLE)
    assert world.fleet.over == UNAVAILABLE


def test_a_burst_goes_on_without_one_that_was_killed():
    world = World(burst=True)
    world.all_ready()
    world.do("ended", 102, -9)
    world.passes(1)
    assert world.started == [1, 2, 3, 2]
    for pid in (101, 103, 104):
        world.do("ended", pid, 0)
    assert world.fleet.over == 0


def test_a_burst_is_not_reloaded():
    world = World(burst=True)
    world.all_ready()
    assert world.do("reload") == ["reload_stopped"]


class TestWhereTheCodeIsWatched:
    @pytest.fixture
    def watched(self) -> World:
        world = World(size=2, waits_for_changes=True)
        world.all_ready()
        return world

    def test_a_change_starts_others_at_once_and_has_the_old_ones_leave(self, watched):
        watched.do("changed", ["my_tasks.py"])
        assert sorted(watched.take_sent()) == [(101, "SIGTERM"), (102, "SIGTERM")]
        assert watched.started == [1, 2, 1]
        watched.do("configured", 103, GRACE)
        assert watched.started == [1, 2, 1, 2]
        watched.do("ready", 103)
        watched.do("ready", 104)
        watched.do("ended", 101, 0)
        watched.do("ended", 102, 0)
        assert watched.standing() == [103, 104]
        assert watched.fleet.all_ready

    def test_code_that_does_not_start_is_said_once_and_the_next_change_is_waited_for(self, watched):
        watched.do("changed", ["my_tasks.py"])
        assert watched.do("ended", 103, USAGE) == ["code_does_not_start"]
        watched.passes(3600)
        assert len(watched.started) == 3
        assert watched.fleet.over is None
        watched.do("changed", ["my_tasks.py"])
        assert len(watched.started) == 4

    def test_it_is_waited_for_at_the_very_start_too(self):
        world = World(size=2, waits_for_changes=True)
        world.do("ended", 101, USAGE)
        world.passes(3600)
        assert world.started == [1]
        assert world.fleet.over is None
        world.do("stop", signal.SIGINT)
        assert world.fleet.over == 0

    def test_what_old_code_says_starts_nothing(self, watched):
        watched.do("changed", [])
        watched.do("changed", [])
        watched.do("configured", 103, GRACE)
        watched.do("ready", 103)
        assert watched.started == [1, 2, 1, 1]
        assert watched.standing() == [104, None]

    def test_the_end_of_old_code_is_not_that_of_a_turn(self, watched):
        watched.do("changed", [])
        watched.do("configured", 103, GRACE)
        watched.do("ready", 103)
        watched.do("ready", 104)
        watched.do("replace", 103, "memory")
        watched.do("replace", 104, "memory")
        watched.do("ended", 101, 0)
        watched.do("ended", 102, 0)
        assert watched.started == [1, 2, 1, 2, 1], "still one at a time"


def test_how_a_process_ended_is_said_in_words():
    words = [how_it_ended(code) for code in (0, 3, -15, -11, -99)]
    assert words == ["exit code 0", "exit code 3", "killed by SIGTERM", "killed by SIGSEGV", "killed by signal 99"]
