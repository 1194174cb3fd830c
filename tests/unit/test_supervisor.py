"""The supervisor's parts that need no processes: sums of figures, messages, which files count, cores, systemd."""

import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.errors import ConfigurationError
from common.settings import Settings, load_settings
from common.sizes import read_size
from workers.supervisor import child, cores, systemd, watch
from workers.supervisor.child import Line
from workers.supervisor.handover import VARIABLE, Handover, take
from workers.supervisor.messages import (
    Ask,
    Configured,
    Counted,
    Family,
    Figures,
    Lines,
    Message,
    Recycle,
    State,
    encode,
)
from workers.supervisor.processes import _folder
from workers.supervisor.sums import Totals, gauge, text
from workers.wellbeing import Wellbeing


def figures(jobs: float, memory: float, started: float, worker: str) -> list[Family]:
    buckets = [
        ("run_bucket", {"task": "a", "le": bound}, count) for bound, count in (("0.1", jobs - 1), ("+Inf", jobs))
    ]
    return [
        Family("jobs", "counter", "Jobs", [("jobs_total", {"task": "a"}, jobs)]),
        Family("run", "histogram", "Seconds", [*buckets, ("run_sum", {"task": "a"}, jobs / 2)]),
        Family("memory", "gauge", "Bytes", [("memory", {}, memory)]),
        Family("process_start_time_seconds", "gauge", "When", [("process_start_time_seconds", {}, started)]),
        Family("worker", "info", "Which", [("worker_info", {"worker": worker}, 1.0)]),
        Family("build", "info", "What", [("build_info", {"version": "1"}, 1.0)]),
    ]


def read(page: bytes) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_figures_of_several_processes_are_those_of_one():
    totals = Totals()
    totals.add(figures(3, 100, 50, "w1"))
    totals.add(figures(4, 10, 40, "w2"))
    assert read(text(totals.families())) == {
        ("jobs_total", "a"): 7,
        ("run_bucket", "0.1", "a"): 5,
        ("run_bucket", "+Inf", "a"): 7,
        ("run_sum", "a"): 3.5,
        ("memory",): 110,
        ("process_start_time_seconds",): 40,
        ("worker_info", "w1"): 1,
        ("worker_info", "w2"): 1,
        ("build_info", "1"): 1,
    }


def test_what_an_ended_process_counted_counts_on_and_what_it_had_is_gone():
    past, now = Totals(), Totals()
    past.add(figures(3, 100, 50, "w1"), has_ended=True)
    past.add(figures(2, 100, 50, "w2"), has_ended=True)
    now.add(figures(1, 7, 60, "w3"))
    now.add(past.families(), has_ended=True)
    found = read(text(now.families()))
    assert found["jobs_total", "a"] == found["run_bucket", "+Inf", "a"] == 6
    assert (found["memory",], found["process_start_time_seconds",]) == (7, 60)
    assert [key[1] for key in found if key[0] == "worker_info"] == ["w3"]


def test_names_of_tasks_are_written_so_that_they_are_read_as_they_are():
    odd = 'a"b\\c\nd {x="y"} é'
    page = text([gauge("g", "first\nsecond \\", ({"task": odd}, 1.5), ({"task": "b"}, math.inf))])
    assert read(page) == {("g", odd): 1.5, ("g", "b"): math.inf}
    assert page.count(b"\n") == 4


def test_messages_arrive_whole_in_whatever_pieces_they_come():
    sent = [
        Configured("w", 25.0, 60.0), State(alive=True, reasons={"paused": "é\n"}, running=3, memory=9),
        Recycle("it has had 5 jobs"), Figures(7, figures(1, 2, 3, "w")), Counted({"succeeded": 4}),
    ]  # fmt: skip
    data = b"".join(map(encode, sent))
    for size in (1, 7, len(data)):
        lines = Lines(Message)
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert [message for piece in pieces for message in lines.feed(piece)] == sent


def test_what_another_version_says_is_left_out():
    lines = Lines(Message)
    assert list(lines.feed(b'{"type":"news"}\nnonsense\n' + encode(Recycle("memory")))) == [Recycle("memory")]
    assert list(Lines(Ask).feed(encode(Ask(3)))) == [Ask(3)]


def test_what_is_handed_over_is_taken_out_of_the_environment(monkeypatch):
    assert take() is None
    with socket.socket() as end:
        os.set_inheritable(end.fileno(), True)
        monkeypatch.setenv(VARIABLE, f'{{"fd": {end.fileno()}, "process": 2, "page": "host:1", "core": 3}}')
        assert take() == Handover(end.fileno(), 2, "host:1", 3)
        assert not end.get_inheritable()
        assert VARIABLE not in os.environ


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("my_app/tasks.py", True),
        ("native.so", True),
        ("pyproject.toml", True),
        (".env", True),
        ("notes.md", False),
        ("barque-data/files/fetched.py", False),
        (".git/hooks/x.py", False),
        (".venv/lib/python3.13/site-packages/x/y.py", False),
        ("env-of-another-name/lib/x.py", False),
        ("__pycache__/tasks.py", False),
        ("node_modules/tool/x.py", False),
    ],
)
def test_which_files_count(tmp_path, path, expected):
    (tmp_path / "build/project/env-of-another-name").mkdir(parents=True)
    (tmp_path / "build/project/env-of-another-name/pyvenv.cfg").touch()
    folder = tmp_path / "build/project"  # what lies above the folder does not matter
    assert watch.counts(folder / path, [folder]) is expected


def test_sources_that_lie_elsewhere_are_looked_at_too_and_not_imported(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    (there / "far_away").mkdir(parents=True)
    here.mkdir()
    (there / "far_away/__init__.py").write_text("raise AssertionError('imported')")
    (here / "near.py").touch()
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(there))
    monkeypatch.syspath_prepend(str(here))
    found = watch.folders_of(["near", "far_away.tasks", "no_such_module", "structlog", "workers.tasks"])
    assert found[:2] == [here, there / "far_away"]
    assert not any("site-packages" in folder.parts for folder in found)


def test_a_missing_extra_is_told_of(monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(ConfigurationError, match=r'pip install "barque\[watch\]"'):
        watch.SourceWatch([Path.cwd()], lambda _: None)


@pytest.mark.parametrize(("quota", "expected"), [("max 100000", 3), ("150000 100000", 2), ("5000 100000", 1), ("", 3)])
def test_one_process_a_core_counts_what_the_container_may_have(tmp_path, monkeypatch, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 7, 9}, raising=False)
    monkeypatch.setattr(cores, "can_pin", lambda: True)
    (tmp_path / "cpu.max").write_text(quota)
    assert cores.cores_in_use(tmp_path / "cpu.max") == expected
    assert cores.cores_in_use(tmp_path / "none") == 3
    assert [cores.core_of(number) for number in (1, 2, 3, 4)] == [4, 7, 9, 4]


def test_systemd_is_told(tmp_path, monkeypatch):
    systemd.ready("nobody asked")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd.ready("4 processes")
        assert end.recv(1000) == b"READY=1\nSTATUS=4 processes"
        systemd.reloading()
        assert end.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        systemd.stopping()
        assert end.recv(1000).startswith(b"STOPPING=1\n")
    systemd.ready("it is gone, and that harms nobody")


def test_the_supervisor_has_neither_engine_nor_tasks():
    unused = {"arq", "redis", "uvloop", "prometheus_client", "watchfiles", "workers.supervisor.child"}
    unused |= {"workers.engine", "workers.worker", "workers.tasks"}
    program = (
        "import sys\n"
        "import cli.main, cli.worker, workers.supervisor.supervisor\n"
        "from common.settings import load_settings; load_settings()\n"
        f"print(sorted({unused} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == "[]"


def test_a_worker_on_its_own_has_nothing_of_a_supervisor():
    program = (
        "import sys, workers.worker\n"
        "print(sorted(name for name in sys.modules if name.startswith('workers.supervisor')))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0", 0),
        ("1024", 1024),
        ("512M", 512 * 1024**2),
        ("1.5g", 1536 * 1024**2),
        ("2 GiB", 2 * 1024**3),
        ("3kb", 3072),
    ],
)
def test_amounts_of_memory(given, expected, monkeypatch):
    assert read_size(given) == expected
    monkeypatch.setenv("BARQUE_MAX_MEMORY", given)
    assert load_settings().max_memory == expected


@pytest.mark.parametrize("given", ["", "M", "-1", "512 MX", "1,5G"])
def test_what_is_no_amount_of_memory(given):
    with pytest.raises(ValueError, match="write bytes, or 512M"):
        read_size(given)


@pytest.mark.parametrize(("given", "expected"), [("auto", 0), ("AUTO", 0), ("0", 0), ("4", 4)])
def test_a_number_of_processes(given, expected, monkeypatch):
    monkeypatch.setenv("BARQUE_PROCESSES", given)
    assert load_settings().processes == expected


def test_what_is_no_number_of_processes(monkeypatch):
    monkeypatch.setenv("BARQUE_PROCESSES", "four")
    with pytest.raises(ConfigurationError, match="BARQUE_PROCESSES: 'four' is no whole number"):
        load_settings()


class Listener:
    """The supervisor's end of a line, and a process that counts what it is told to."""

    def __init__(self, monkeypatch) -> None:
        self.killed = threading.Event()
        self.memory = 100
        self.run = SimpleNamespace(jobs_complete=0, jobs_retried=0, jobs_failed=0)
        monkeypatch.setattr(child, "_LOOK", 0.01)
        monkeypatch.setattr(child, "memory_or_most", lambda: self.memory)
        monkeypatch.setattr(os, "kill", self._kill)
        self.end, theirs = socket.socketpair()
        self.end.settimeout(30)
        self.line = Line(Handover(theirs.detach(), 1))
        self.said = self._messages()

    def _kill(self, pid: int, signum: int) -> None:
        assert (pid, signum) == (os.getpid(), signal.SIGTERM)
        self.killed.set()

    def _messages(self) -> Iterator[object]:
        lines = Lines(Message)
        while data := self.end.recv(65536):
            yield from lines.feed(data)

    def next(self, kind: type):
        return next(message for message in self.said if isinstance(message, kind))

    def close(self) -> None:
        self.end.close()
        assert self.killed.wait(30)


@pytest.fixture
def listener(monkeypatch):
    found = Listener(monkeypatch)
    yield found
    found.close()


def well() -> Wellbeing:
    return Wellbeing(alive=True, reasons={}, about={"running": 3})


def test_a_process_says_how_it_is_and_what_it_has_counted(listener):
    listener.line.begin(Settings(shutdown_grace=7, block_limit=9), "w-1", listener.run)
    assert listener.next(Configured) == Configured("w-1", 7, 9)
    listener.line.show(well, lambda: figures(1, 2, 3, "w-1"))
    assert listener.next(State) == State(alive=True, reasons={}, running=3, memory=100)
    listener.end.sendall(encode(Ask(5)))
    assert listener.next(Figures) == Figures(5, figures(1, 2, 3, "w-1"))
    listener.line.end()
    assert "stopping" in listener.next(State).reasons
    assert listener.next(Figures).asked == 0
    listener.line.counted({"succeeded": 4})
    assert listener.next(Counted) == Counted({"succeeded": 4})


def test_a_process_that_has_had_its_share_asks_to_be_replaced(listener):
    listener.line.begin(Settings(max_jobs=100, max_memory=1000), "w-1", listener.run)
    listener.line.show(well, None)
    listener.next(State)
    listener.run.jobs_complete, listener.run.jobs_failed = 50, 50
    assert "100 jobs" in listener.next(Recycle).why


def test_a_process_that_holds_too_much_asks_to_be_replaced(listener):
    listener.line.begin(Settings(max_memory=1000), "w-1", listener.run)
    listener.line.show(well, None)
    listener.run.jobs_retried, listener.memory = 1, 1000
    assert "BARQUE_MAX_MEMORY" in listener.next(Recycle).why


def test_one_that_holds_too_much_before_its_first_job_is_not_replaced_for_ever(listener, capfd):
    listener.memory = 1000
    listener.line.begin(Settings(max_memory=1000, max_jobs=10), "w-1", listener.run)
    listener.line.show(well, None)
    by = time.monotonic() + 30
    while listener.line._most_memory:  # until it has looked
        assert time.monotonic() < by
        time.sleep(0.01)
    listener.run.jobs_complete = 10
    assert "BARQUE_MAX_JOBS" in listener.next(Recycle).why, "and not for its memory"
    assert capfd.readouterr().out.count("max_memory_too_low") == 1


def test_an_event_loop_that_stands_still_is_told_of_at_the_second_look(listener):
    looks = 0

    def still() -> Wellbeing:
        nonlocal looks
        looks += 1
        return Wellbeing(alive=False, reasons={"loop_blocked": "it stands still"})

    listener.line.show(still, None)
    assert listener.next(State) == State(alive=False, reasons={"loop_blocked": "it stands still"}, memory=100)
    assert looks >= 2


def test_an_error_of_our_own_leaves_the_line_open(listener):
    def broken() -> Wellbeing:
        listener.line.show(well, None)
        raise RuntimeError("changed while it was read")

    listener.line.show(broken, None)
    assert listener.next(State).alive


def test_limits_are_drawn_so_that_processes_are_not_replaced_together():
    drawn = {child._somewhat_below(1000) for _ in range(50)}
    assert len(drawn) > 10
    assert 900 <= min(drawn) <= max(drawn) <= 1000
    assert child._somewhat_below(0) == 0


def test_a_folder_is_known_by_the_name_it_was_entered_by(tmp_path, monkeypatch):
    (tmp_path / "release-1").mkdir()
    (tmp_path / "current").symlink_to("release-1")
    monkeypatch.chdir(tmp_path / "current")
    for named, expected in (
        (tmp_path / "current", tmp_path / "current"),
        (tmp_path, tmp_path / "release-1"),
        (tmp_path / "gone", tmp_path / "release-1"),
    ):
        monkeypatch.setenv("PWD", str(named))
        assert _folder() == str(expected)
