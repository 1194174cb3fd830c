"""What a supervisor makes of signals, silence and what processes say, without any process; and its page."""

import json
import signal
import time
from types import SimpleNamespace

import pytest
import typer
from structlog.testing import capture_logs

from cli.worker import _supervise
from common.errors import ConfigurationError
from common.settings import Settings
from workers.supervisor import cores, supervisor
from workers.supervisor.messages import Configured, Recycle, State
from workers.supervisor.page import Page
from workers.supervisor.processes import Process
from workers.supervisor.sums import Totals
from workers.supervisor.supervisor import Supervisor


class Parts:
    """A supervisor of two processes that are none, and which of its fleet's methods were called."""

    def __init__(self, monkeypatch, **settings) -> None:
        self.sent: list[tuple[int, int]] = []
        self.settings = Settings(processes=2, **settings)
        self.supervisor = Supervisor(self.settings, ["no-such-program"], settings_again=lambda: self.settings)
        self.fleet = self.supervisor.fleet
        processes = self.supervisor._processes
        monkeypatch.setattr(processes, "start", self._start)
        monkeypatch.setattr(processes, "send", lambda pid, signum: self.sent.append((pid, signum)))
        self.by_pid = processes.by_pid
        with capture_logs():
            self.fleet.start()
        self.hear(101, Configured("w-101", 25.0, 60.0))

    def _start(self, place: int) -> int:
        pid = 101 + len(self.by_pid)
        self.by_pid[pid] = Process(place, SimpleNamespace(pid=pid), SimpleNamespace())
        return pid

    def hear(self, pid: int, message: Configured | State | Recycle) -> list[str]:
        self.supervisor._processes._note(self.by_pid[pid], message)
        with capture_logs() as lines:
            self.supervisor._heard(self.by_pid[pid], message)
        return [line["event"] for line in lines]

    def signal(self, number: int) -> list[str]:
        with capture_logs() as lines:
            self.supervisor._on_signal(number)
        return [line["event"] for line in lines]

    def all_ready(self) -> None:
        for pid in (101, 102):
            self.hear(pid, State(alive=True, reasons={}))

    def ends(self, pid: int, code: int) -> None:
        del self.by_pid[pid]
        with capture_logs():
            self.fleet.ended(pid, code)

    def page(self, path: str) -> tuple[int, dict]:
        found = Page(self.fleet, self.supervisor._processes, lambda: self.supervisor._turned).answer(path)
        return found.status, json.loads(found.body)


@pytest.fixture
def parts(monkeypatch) -> Parts:
    monkeypatch.setattr(supervisor, "_has_terminal", lambda: False)
    return Parts(monkeypatch)


def test_a_process_is_ready_when_it_takes_jobs_or_would_if_its_queues_were_not_paused(parts):
    assert parts.hear(101, State(alive=True, reasons={"starting": "it opens what its tasks share"})) == []
    assert parts.hear(101, State(alive=True, reasons={"server_away": "Redis does not answer"})) == []
    assert parts.hear(101, State(alive=True, reasons={"paused": "all of its queues are"})) == ["worker_process_ready"]
    assert parts.hear(101, State(alive=True, reasons={})) == []


def test_a_process_that_asks_for_it_is_replaced(parts):
    parts.all_ready()
    assert parts.hear(102, Recycle("memory")) == ["worker_process_started"]


def test_a_process_whose_event_loop_stands_still_is_ended(parts):
    parts.all_ready()
    assert parts.hear(102, State(alive=False, reasons={"loop_blocked": "a task"})) == ["worker_process_hung"]
    assert parts.sent == [(102, signal.SIGKILL)]


def look(parts: Parts) -> list[str]:
    with capture_logs() as lines:
        parts.supervisor._note_the_time()
        parts.supervisor._look_for_the_silent()
    return [line["event"] for line in lines]


def test_a_process_that_says_nothing_for_too_long_is_ended_once(parts):
    parts.all_ready()
    parts.hear(102, Configured("w-102", 25.0, 60.0))
    process = parts.by_pid[102]
    process.heard = time.monotonic() - 65
    assert look(parts) == []
    process.heard = time.monotonic() - 71
    assert look(parts) == ["worker_process_hung"]
    assert look(parts) == []
    assert parts.sent == [(102, signal.SIGKILL)]


def test_one_that_has_not_begun_or_ends_may_be_silent(parts):
    parts.by_pid[102].heard = time.monotonic() - 3600
    parts.hear(101, State(alive=True, reasons={"stopping": "it closes what its tasks share"}))
    parts.by_pid[101].heard = time.monotonic() - 3600
    assert look(parts) == []


def test_where_the_supervisor_itself_stood_still_nobody_was_silent(parts):
    parts.all_ready()
    parts.hear(102, Configured("w-102", 25.0, 60.0))
    for process in parts.by_pid.values():
        process.heard = time.monotonic() - 3600
    parts.supervisor._turned -= 3600
    assert look(parts) == []


def test_a_hang_up_is_a_reload_and_wrong_settings_stop_it(parts):
    parts.all_ready()
    assert parts.signal(signal.SIGHUP) == ["reload_started", "worker_process_started"]

    def wrong() -> Settings:
        raise ConfigurationError("BARQUE_LEASE: 'x' is no number")

    parts.supervisor._settings_again = wrong
    assert parts.signal(signal.SIGHUP) == ["reload_stopped"]
    assert parts.sent == []


@pytest.mark.parametrize(
    ("there_now", "nohup", "expected"),
    [
        (True, False, ["reload_started", "worker_process_started"]),
        (False, False, ["supervisor_stopping"]),
        (False, True, []),
    ],
)
def test_a_hang_up_of_its_terminal_is_none(monkeypatch, there_now, nohup, expected):
    terminal = [True]
    monkeypatch.setattr(supervisor, "_has_terminal", lambda: terminal[0])
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
    try:
        parts = Parts(monkeypatch)
    finally:
        signal.signal(signal.SIGHUP, before)
    parts.all_ready()
    terminal[0] = there_now
    assert parts.signal(signal.SIGHUP) == expected
    if not there_now:
        assert parts.signal(signal.SIGHUP) == [], "the kernel and the shell both tell of one closed window"
        assert {number for _, number in parts.sent} == (set() if nohup else {signal.SIGTERM})


def test_systemd_is_told_when_all_are_ready_and_of_a_reload(parts, monkeypatch):
    told = []
    for word in ("ready", "reloading", "stopping"):
        monkeypatch.setattr(supervisor.systemd, word, lambda *_, word=word: told.append(word))
    parts.supervisor._tell_systemd()
    assert told == []
    parts.all_ready()
    for _ in range(3):
        parts.supervisor._tell_systemd()
    assert told == ["ready"]
    parts.signal(signal.SIGHUP)
    parts.supervisor._tell_systemd()
    parts.ends(103, 1)  # the first successor
    parts.supervisor._tell_systemd()
    parts.signal(signal.SIGTERM)
    parts.supervisor._tell_systemd()
    assert told == ["ready", "reloading", "ready", "stopping"]


def test_the_page_says_what_keeps_any_process_from_taking_jobs(parts):
    status, said = parts.page("/readyz")
    assert status == 503
    assert said["reasons"] == {"starting": "process 1: it imports its tasks; process 2: it imports its tasks"}
    parts.all_ready()
    status, said = parts.page("/readyz")
    assert (status, said["alive"], said["ready"], said["reasons"]) == (200, True, True, {})
    assert [one["pid"] for one in said["processes"]] == [101, 102]
    parts.hear(102, State(alive=True, reasons={"server_away": "Redis does not answer"}))
    parts.ends(101, 3)
    status, said = parts.page("/readyz")
    assert status == 503
    assert said["reasons"] == {
        "starting": "process 1: its process ended (exit code 3), and another one is started",
        "server_away": "process 2: Redis does not answer",
    }
    assert parts.page("/livez")[0] == parts.page("/healthz")[0] == 200, "a restart would not help"


def test_a_supervisor_that_stops_is_not_ready_and_one_that_stands_still_not_alive(parts):
    parts.all_ready()
    parts.signal(signal.SIGTERM)
    status, said = parts.page("/readyz")
    assert (status, list(said["reasons"])) == (503, ["stopping"])
    parts.supervisor._turned -= 31
    assert parts.page("/livez")[0] == parts.page("/readyz")[0] == 503


def test_the_page_has_no_other_paths(parts):
    assert Page(parts.fleet, parts.supervisor._processes, time.monotonic).answer("/") is None


def test_the_page_counts_processes(parts, monkeypatch):
    monkeypatch.setattr(parts.supervisor._processes, "totals", lambda _: Totals())
    parts.all_ready()
    parts.ends(102, 1)
    found = Page(parts.fleet, parts.supervisor._processes, time.monotonic).answer("/metrics").body.decode()
    lines = [line for line in found.splitlines() if not line.startswith("#")]
    assert 'barque_worker_processes{state="ready"} 1.0' in lines
    assert 'barque_worker_processes{state="not_ready"} 1.0' in lines
    assert 'barque_not_ready{reason="starting"} 1.0' in lines
    assert "barque_worker_process_deaths_total 1.0" in lines


def test_what_a_platform_does_not_have_is_said(monkeypatch):
    monkeypatch.setattr(cores, "can_pin", lambda: False)
    with pytest.raises(ConfigurationError, match="BARQUE_CPU_AFFINITY: this platform"):
        _supervise(Settings(processes=2, cpu_affinity=True), burst=False, watch=False, as_json=False)


def test_a_burst_is_not_for_developing():
    with pytest.raises(typer.BadParameter, match="choose one of the two"):
        _supervise(Settings(), burst=True, watch=True, as_json=False)
