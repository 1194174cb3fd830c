"""What `barque top`, `tail`, `workers` and `queues` print: tables that fit, figures in few characters, lines."""

import json
from datetime import UTC, datetime

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli import queues_view, top_view, workers_view
from cli.columns import Column, fitting
from cli.fleet_look import QueueStanding
from cli.main import app
from cli.measures import count, percentile_span, rate, size, span
from cli.output import styled
from cli.tail import _wanted
from cli.tail_view import attempt_line, gap_words, show_attempt
from cli.top_screen import has_screen
from cli.top_view import SECTIONS, SORTS, Picture, View, screen_of, show_once
from common.distribution import Distribution
from common.fleet import FleetHistory, FleetSnapshot
from common.pauses import Pause
from common.redis.fleet import Gap
from common.redis.inspect import QueueReport
from common.worker_reports import EndedAttempt, Figures, RunningAttempt, TaskFigures, WorkerReport

NOW = 1_700_000_000_000


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def an_attempt(outcome="succeeded", **more) -> EndedAttempt:
    known = {"job_id": f"{'0123456789abcdef' * 2}", "task": "fetch_url", "queue": "q", "attempt": 1, "ended_ms": NOW}
    return EndedAttempt(**known | {"queued_ms": 4, "run_ms": 12.345, "outcome": outcome} | more)


def figures(*seconds: float, failed: int) -> TaskFigures:
    run = Distribution.of(seconds)
    outcomes = {"succeeded": len(seconds) - failed, "failed": failed}
    return TaskFigures(outcomes, list(run.counts), list(run.counts), run.total, run.total, 0.5)


def a_report(number: int = 1, *, at: int = NOW, attempts: int = 100, **more) -> WorkerReport:
    known = {
        "longest": tuple(RunningAttempt(f"job{n}", "make_report", "q", 1, at - 60_000 * n) for n in range(1, 6)),
        "failures": (an_attempt("failed", error="ValueError: \x1b[2Jno"), an_attempt("retried", retry_in_ms=500)),
        "figures": Figures(1, {f"task_{n}": figures(*[n / 10] * attempts, failed=n) for n in range(3)}, [an_attempt()]),
    }
    return WorkerReport(
        f"a-host-with-a-long-name-{number}-abcdef", "host", 1, "0.1", ("q", "low"), 100, NOW - 90_061_000, at,
        running=7, succeeded=12 * attempts, failed=attempts, rss=123_456_789, worst_loop_lag_ms=250.0, loop_lag_ms=1.0,
        running_in={"q": 7}, **known | more,
    )  # fmt: skip


def queue(name="q", *, queued=0, workers=("w",), pause=None) -> QueueStanding:
    return QueueStanding(QueueReport(name, queued, 9, 12.5 if queued else None), 7, workers, 100, pause)


def a_picture(workers: int = 2, **more) -> Picture:
    history = FleetHistory()
    history.add(FleetSnapshot(NOW - 1000, tuple(a_report(n, at=NOW - 1000) for n in range(workers))))
    snapshot = FleetSnapshot(NOW, tuple(a_report(n, attempts=200) for n in range(workers)))
    return Picture("redis://h:1/0", snapshot, history.add(snapshot), [queue(), queue("low", queued=5)], 3, **more)


def printed(renderable, width: int) -> list[str]:
    console = Console(width=width, height=99, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get().splitlines()


@pytest.mark.parametrize(
    ("show", "value", "shown"),
    [
        (span, None, "-"), (span, 0.0004, "0.4ms"), (span, 0.0123, "12ms"), (span, 0.9994, "999ms"),
        (span, 1.0, "1.0s"), (span, 59.99, "1m 0s"), (span, 3599.7, "1h 0m"), (span, 90_000, "1d 1h"),
        (percentile_span, 0.0005, "<1ms"), (percentile_span, 1800.0, ">30m 0s"), (percentile_span, 0.02, "20ms"),
        (rate, 0.0, "0"), (rate, 0.05, "3.0/min"), (rate, 0.5, "0.5/s"), (rate, 1234.4, "1,234/s"),
        (count, 99_999, "99,999"), (count, 1_234_567, "1.2M"), (count, 123_456, "123k"), (count, 10**13, "10.0T"),
        (size, None, "-"), (size, 84_000_000, "84 MB"), (size, 1_234_000_000, "1.2 GB"),
    ],
)  # fmt: skip
def test_figures_take_few_characters(show, value, shown):
    assert show(value) == shown


class TestColumns:
    def columns(self) -> list[Column]:
        task, rates = Column("Task", least=8), Column("Rate", number=True)
        extra, worker = Column("CPU", number=True, matters=1), Column("Worker", least=8, matters=2)
        for n in range(3):
            task.cells.append(styled(f"a_task_with_a_name_{n}"))
            rates.cells.append(styled(f"{10**n}/s"))
            extra.cells.append(styled("3%"))
            worker.cells.append(styled(f"host-{n}"))
        return [task, rates, extra, worker]

    def test_what_matters_least_is_left_out_first(self):
        titles = {width: printed(fitting(self.columns(), width), width)[0].split() for width in (60, 26, 20)}
        assert titles == {60: ["Task", "Rate", "CPU", "Worker"], 26: ["Task", "Rate", "Worker"], 20: ["Task", "Rate"]}

    @pytest.mark.parametrize("width", range(16, 70))
    def test_no_line_is_longer_than_there_is_room_and_numbers_stay_whole(self, width):
        lines = printed(fitting(self.columns(), width), width)
        assert len(lines) == 4
        assert max(map(len, lines)) <= width
        assert all(f"{10**n}/s" in lines[n + 1] for n in range(3))

    def test_what_is_too_long_ends_so_that_one_sees_it_or_goes_on_below(self):
        assert "…" in printed(fitting(self.columns(), 18), 18)[1]
        folded = printed(fitting(self.columns(), 18, fold=True), 18)
        assert len(folded) > 4
        assert "…" not in "".join(folded)


@pytest.mark.parametrize(
    ("term", "tty", "screen"),
    [("xterm", True, True), ("dumb", True, False), ("", True, False), ("xterm", False, False)],
)
def test_a_screen_is_a_terminal_on_which_places_can_be_written_to(monkeypatch, term, tty, screen):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stdout.isatty", lambda: tty)
    assert has_screen() is screen


class TestScreen:
    @pytest.mark.parametrize("height", [6, 9, 12, 17, 24, 60])
    @pytest.mark.parametrize("width", [24, 40, 80, 200])
    def test_it_fits_whatever_the_screen(self, width, height):
        lines = printed(screen_of(a_picture(), View(), width, height), width)
        assert len(lines) <= height
        assert max(map(len, lines)) <= width
        assert "\x1b" not in "".join(lines)
        assert lines[-1].startswith("q end")

    def test_a_large_screen_shows_all_there_is(self):
        text = "\n".join(printed(screen_of(a_picture(), View(), 200, 60), 200))
        for found in ("QUEUES 2", "WORKERS 2", "TASKS 3", "RUNNING LONGEST 10", "FAILED LAST 4", "SLOWEST OF"):
            assert found in text
        assert "5m 0s" in text
        assert "\\x1b[2Jno" in text

    def test_a_table_that_is_cut_says_of_how_many_it_shows_some(self):
        text = "\n".join(printed(screen_of(a_picture(workers=30), View(), 80, 24), 80))
        assert "WORKERS 3 of 30" in text or "WORKERS 4 of 30" in text

    @pytest.mark.parametrize("section", SECTIONS)
    def test_one_table_alone_has_the_whole_screen(self, section):
        lines = printed(screen_of(a_picture(), View(section=section), 80, 24), 80)
        titles = [title for title in top_view._TITLES.values() if any(line.startswith(title) for line in lines)]
        assert titles == [top_view._TITLES[section]]

    @pytest.mark.parametrize(
        ("sort", "first"), [("rate", "task_0"), ("p95", "task_2"), ("failures", "task_2"), ("name", "task_0")]
    )
    def test_tasks_are_sorted_by_what_was_asked_for(self, sort, first):
        assert sort in SORTS
        then, now = (
            FleetSnapshot(at, (a_report(at=at, figures=Figures(1, {
                f"task_{n}": figures(*[0.1 + n] * (scale * (9 - n)), failed=scale * n) for n in range(3)
            })),))
            for at, scale in ((NOW - 1000, 1), (NOW, 2))
        )  # fmt: skip
        history = FleetHistory()
        history.add(then)
        picture = Picture("r", now, history.add(now), [], 0)
        lines = printed(screen_of(picture, View(sort=sort, section="tasks"), 80, 20), 80)
        assert next(line for line in lines if line.startswith("task_")).startswith(first)

    def test_trouble_is_told_above_what_was_last_known(self):
        lines = printed(screen_of(a_picture(), View(trouble="Redis: connection refused"), 80, 20), 80)
        assert "Redis: connection refused" in lines[2]
        assert len(lines) <= 20

    def test_help_names_every_key(self):
        text = "\n".join(printed(screen_of(a_picture(), View(help=True), 80, 24), 80))
        assert all(f"\n{key} " in text for key in ("q", "Tab", "1-6", "s", "Space", "?"))

    def test_a_fleet_without_workers_says_how_to_start_one(self):
        picture = Picture("r", FleetSnapshot(NOW), FleetHistory().add(FleetSnapshot(NOW)), [], 0)
        text = "\n".join(printed(screen_of(picture, View(), 80, 24), 80))
        assert "0 workers" in text
        assert "`barque worker` starts one" in text

    def test_who_may_not_look_on_is_told_so(self):
        snapshot = FleetSnapshot(NOW, (a_report(figures=None),))
        picture = Picture("r", snapshot, FleetHistory().add(snapshot), [], 0, may_observe=False)
        assert "barque doctor --acl" in "\n".join(printed(screen_of(picture, View(section="tasks"), 100, 24), 100))


class TestOnce:
    def test_as_text_at_eighty_columns(self, capsys):
        show_once(a_picture(workers=30), as_json=False)
        text = capsys.readouterr().out
        assert max(map(len, text.splitlines())) <= 80
        assert "WORKERS 10 of 30" in text
        assert "\x1b" not in text

    def test_as_json(self, capsys):
        show_once(a_picture(), as_json=True)
        document = json.loads(capsys.readouterr().out)
        assert document["per_second"]["ended"] == 2600.0
        assert [task["task"] for task in document["tasks"]] == ["task_0", "task_1", "task_2"]
        assert document["tasks"][2]["outcomes"] == {"succeeded": 200}
        assert document["tasks"][1]["run"]["p95"] == pytest.approx(0.0975)
        assert document["workers"][0]["per_second"]["succeeded"] == 1200.0
        assert len(document["running_longest"]) == 10
        assert document["failures"][0]["worker"].startswith("a-host")
        assert document["queues"][1]["oldest_due_seconds"] == 12.5


class TestQueues:
    PAUSE = Pause("queue", "low", datetime(2026, 1, 1, tzinfo=UTC), "ada@web1", "moving the database")

    def test_what_is_paused_and_what_nobody_serves_is_said_in_words(self, capsys):
        queues_view.show_queues([queue("low", pause=self.PAUSE), queue("q", queued=3, workers=())], as_json=False)
        text = " ".join(capsys.readouterr().out.split())
        assert "low is paused" in text
        assert "by ada@web1: moving the database" in text
        assert "q has jobs that are due, and no worker serves it" in text

    def test_running_jobs_are_not_counted_as_scheduled(self):
        assert (queue().scheduled, queue().forgotten, queue("q", queued=1, workers=()).forgotten) == (2, False, True)

    def test_as_json(self, capsys):
        queues_view.show_queues([queue("low", queued=3, pause=self.PAUSE)], as_json=True)
        (document,) = json.loads(capsys.readouterr().out)
        assert document == {
            "queue": "low", "queued": 3, "oldest_due_seconds": 12.5, "running": 7, "scheduled": 2, "workers": ["w"],
            "slots": 100, "paused": {
                "kind": "queue", "name": "low", "since": "2026-01-01T00:00:00+00:00", "by": "ada@web1",
                "reason": "moving the database", "waiting": None,
            },
        }  # fmt: skip


class TestWorkers:
    def show(self, capsys, *workers, named=False, as_json=False) -> str:
        workers_view.show_workers(FleetSnapshot(NOW, workers), workers, named=named, as_json=as_json)
        return capsys.readouterr().out

    def test_many_are_one_a_line_at_eighty_columns(self, capsys):
        text = self.show(capsys, a_report(), a_report(2, state="stopping", given_up=2))
        assert max(map(len, text.splitlines())) <= 80
        for whole in ("7/100", "7/100 +2", "250ms", "123 MB", "1,300", "stopping"):
            assert whole in text

    def test_one_that_is_named_tells_all(self, capsys):
        reasons = {"fenced": "its event loop stood still past BARQUE_BLOCK_LIMIT"}
        text = self.show(capsys, a_report(state="fenced", reasons=reasons, python="3.11.7"), named=True)
        for said in ("fenced", "BARQUE_BLOCK_LIMIT", "Python 3.11.7", "1d 1h ago", "5m 0s", "retried", "\\x1b[2Jno"):
            assert said in " ".join(text.split())
        assert "\x1b" not in text

    def test_as_json_it_is_the_whole_report(self, capsys):
        (document,) = json.loads(self.show(capsys, a_report(), as_json=True))
        assert set(document) == set(WorkerReport.__struct_fields__)
        assert document["figures"]["tasks"]["task_1"]["outcomes"] == {"succeeded": 99, "failed": 1}
        assert document["failures"][0]["worker"] == document["worker"]

    @pytest.mark.parametrize(
        ("alive", "named", "said"), [((), False, "starts one"), ((), True, "starts one"), ((1,), True, "None of these")]
    )
    def test_where_there_is_none_it_says_so(self, capsys, alive, named, said):
        workers_view.show_workers(FleetSnapshot(NOW, tuple(map(a_report, alive))), [], named=named, as_json=False)
        captured = capsys.readouterr()
        assert (captured.out, said in captured.err) == ("", True)


class TestTail:
    def test_a_line_says_when_how_for_how_long_and_what(self):
        assert attempt_line(an_attempt()).plain == f"22:13:20 succeeded    12ms fetch_url {an_attempt().job_id}"

    def test_it_says_what_is_out_of_the_ordinary(self):
        line = attempt_line(
            an_attempt("retried", attempt=2, queued_ms=5000, retry_in_ms=1500, error="OSError:\nno\x1b")
        )
        assert line.plain.endswith(" attempt 2 waited 5.0s again in 1.5s OSError: no\\x1b")

    def test_long_lines_say_where(self):
        line = attempt_line(an_attempt(worker="w1", busy_ms=2.0), long=True)
        assert line.plain.endswith(" waited 4.0ms busy 2.0ms in q on w1")

    def test_a_line_is_not_folded(self, capsys):
        show_attempt(an_attempt("failed", error="x" * 300), long=False, as_json=False)
        assert capsys.readouterr().out.count("\n") == 1

    def test_as_json(self, capsys):
        show_attempt(an_attempt(worker="w"), long=False, as_json=True)
        document = json.loads(capsys.readouterr().out)
        assert set(document) == set(EndedAttempt.__struct_fields__)

    @pytest.mark.parametrize(
        ("gap", "words"),
        [(Gap(1234, "why", "w1"), "… 1,234 not shown of w1: why"), (Gap(None, "gone"), "… some not shown: gone")],
    )
    def test_what_is_not_shown_is_said(self, gap, words):
        assert gap_words(gap) == words

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("tail", "--outcome", "sucess"), "there are succeeded, retried"),
            (("tail", "--slower", "quick"), "quick"),
            (("top", "--every", "0"), "five times a second"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, arguments, said):
        ended = CliRunner().invoke(app, list(arguments))
        assert ended.exit_code == 2
        assert said in " ".join(ended.stderr.replace("│", " ").split())

    def test_failures_are_all_the_ways_to_fail(self):
        wanted = _wanted(["a*"], None, None, None, failed=True, slower=0.5)
        assert wanted.outcomes == {"retried", "failed", "timed_out", "lost"}
        assert (wanted.tasks, wanted.slower_than_ms) == (("a*",), 500.0)
