"""What the demo makes of its workers' log lines and of the rows they stored."""

import json
import sqlite3

import msgspec
import pytest

from cli.demo.attempts import Journal, LogLine, LogTail, Percentiles, Tally, percentiles
from cli.demo.items import Item
from cli.demo.report import Failure, Paths, Report, WorkerFigures, as_data, as_markdown, print_report, write_report
from cli.demo.server import Answers
from cli.demo.verify import TABLE, Row, read_rows, verify

SAMPLE = b"""\
{"worker":"host-1-ab","queues":["q"],"event":"worker_started","level":"info","timestamp":"2026-01-01T00:00:00.000001Z"}
{"job_id":"j1","task":"fetch_checksum","queue":"q","attempt":1,"max_attempts":8,"worker":"host-1-ab","queued_ms":38,\
"run_ms":5000.5,"total_ms":5038.5,"error":"TimeoutError: the attempt ran past its timeout of 5 s","retry_in_ms":181,\
"event":"job_timed_out","level":"warning","timestamp":"2026-01-01T00:00:05.040001Z"}
{"job_id":"j1","task":"fetch_checksum","queue":"q","attempt":2,"max_attempts":8,"worker":"host-1-ab","queued_ms":4,\
"run_ms":61.25,"total_ms":65.25,"event":"job_succeeded","level":"info","timestamp":"2026-01-01T00:00:05.290001Z"}
"""


def line(task="fetch", job_id="1", event="job_succeeded", queued_ms=1.0, run_ms=10.0, retry_in_ms=None):
    return LogLine(event, task, job_id, queued_ms, run_ms, retry_in_ms)


def item(name, sha256="aa", size=1):
    return Item(name, f"http://host/{name}", f"label of {name}", size, sha256)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], Percentiles(7, 7, 7)),
        ([1.0, 2.0], Percentiles(1, 2, 2)),
        ([float(n) for n in range(100, 0, -1)], Percentiles(50, 95, 99)),
        ([float(n) for n in range(1, 1001)], Percentiles(500, 950, 990)),
        ([0.0] * 98 + [5.0, 6.0], Percentiles(0, 0, 5)),
    ],
)
def test_a_percentile_is_the_value_at_its_rank(values, expected):
    assert percentiles(values) == expected


def test_no_values_have_no_percentiles():
    with pytest.raises(ValueError, match="no values"):
        percentiles([])


class TestTally:
    def test_attempts_of_one_job_are_one_job(self):
        tally = Tally()
        tally.add(
            [
                line(event="job_retried", run_ms=30, retry_in_ms=200),
                line(event="job_timed_out", run_ms=5000, retry_in_ms=0),
                line(run_ms=70, queued_ms=9),
            ],
            worker=1,
        )
        (figures,) = tally.figures()
        assert (figures.jobs, figures.attempts, figures.retries, figures.timeouts, figures.failed) == (1, 3, 2, 1, 0)
        assert figures.run_ms == Percentiles(70, 5000, 5000)
        assert figures.queue_wait_ms == Percentiles(1, 9, 9)
        assert figures.run_seconds == pytest.approx(5.1)
        assert (tally.retries, tally.timeouts) == (2, 1)

    def test_a_last_attempt_that_fails_or_times_out_is_a_failed_job(self):
        tally = Tally()
        tally.add([line(event="job_failed"), line(job_id="2", event="job_timed_out")], worker=1)
        (figures,) = tally.figures()
        assert (figures.jobs, figures.retries, figures.timeouts, figures.failed) == (2, 0, 1, 2)

    def test_tasks_are_apart_and_the_busiest_comes_first(self):
        tally = Tally()
        tally.add([line("insert"), line("fetch"), line("fetch", "2")], worker=1)
        assert [figures.task for figures in tally.figures()] == ["fetch", "insert"]

    def test_successes_are_counted_by_worker(self):
        tally = Tally()
        tally.add([line(), line(job_id="2", event="job_retried", retry_in_ms=1)], worker=1)
        tally.add([line(job_id="3")], worker=2)
        assert tally.by_worker == {1: 1, 2: 1}

    @pytest.mark.parametrize("event", ["worker_started", "job_released", "download_progress"])
    def test_what_is_no_finished_attempt_does_not_count(self, event):
        tally = Tally()
        tally.add([line(event=event)], worker=1)
        assert tally.figures() == []


class TestReadingLogs:
    def test_only_new_lines_are_read_and_half_ones_are_left(self, tmp_path):
        log = tmp_path / "worker-1.jsonl"
        tail = LogTail(log)
        assert tail.read() == []
        log.write_bytes(b'{"event":"one"}\n{"event":"tw')
        assert [found.event for found in tail.read()] == ["one"]
        assert tail.read() == []
        with log.open("ab") as file:
            file.write(b'o"}\n')
        assert [found.event for found in tail.read()] == ["two"]

    def test_what_is_no_log_line_is_counted_not_raised(self, tmp_path):
        log = tmp_path / "worker-1.jsonl"
        log.write_bytes(b'Segmentation fault\n"text"\n{"event":"fine"}\n\xff\n')
        tail = LogTail(log)
        assert [found.event for found in tail.read()] == ["fine"]
        assert tail.unreadable == 3

    def test_a_worker_s_lines_become_figures(self, tmp_path):
        log = tmp_path / "worker-1.jsonl"
        log.write_bytes(SAMPLE)
        journal = Journal([log])
        journal.read()
        (figures,) = journal.tally.figures()
        assert journal.unreadable == 0
        assert journal.tally.by_worker == {1: 1}
        assert (figures.task, figures.jobs, figures.attempts) == ("fetch_checksum", 1, 2)
        assert (figures.retries, figures.timeouts, figures.failed) == (1, 1, 0)
        assert (figures.queue_wait_ms, figures.run_ms) == (Percentiles(4, 38, 38), Percentiles(61.25, 5000.5, 5000.5))

    def test_a_journal_knows_which_workers_have_started(self, tmp_path):
        logs = [tmp_path / "worker-1.jsonl", tmp_path / "worker-2.jsonl"]
        journal = Journal(logs)
        logs[1].write_bytes(b'{"event":"worker_started"}\n')
        journal.read()
        assert journal.started == {2}


class TestVerify:
    def test_one_right_row_each_is_right(self):
        verdict = verify([item("a"), item("b", "bb")], [Row("b", 1, "bb"), Row("a", 1, "aa")])
        assert verdict.ok
        assert verdict.rows == 2

    def test_a_missing_row_is_found(self):
        verdict = verify([item("a"), item("b")], [Row("a", 1, "aa")])
        assert not verdict.ok
        assert verdict.missing == ["label of b"]

    @pytest.mark.parametrize("row", [Row("a", 1, "ab"), Row("a", 2, "aa")])
    def test_a_wrong_row_is_found(self, row):
        verdict = verify([item("a")], [row])
        assert not verdict.ok
        assert verdict.wrong == ["label of a"]

    def test_a_second_row_is_found_even_if_both_are_right(self):
        verdict = verify([item("a")], [Row("a", 1, "aa"), Row("a", 1, "aa")])
        assert not verdict.ok
        assert verdict.duplicated == ["label of a"]

    def test_a_wrong_row_beside_a_right_one_is_both(self):
        verdict = verify([item("a")], [Row("a", 1, "aa"), Row("a", 1, "xx")])
        assert (verdict.wrong, verdict.duplicated) == (["label of a"], ["label of a"])

    def test_a_row_nobody_asked_for_is_found(self):
        verdict = verify([item("a")], [Row("a", 1, "aa"), Row("z", 1, "aa")])
        assert not verdict.ok
        assert verdict.unasked == ["z"]

    def test_a_failed_item_is_not_also_missing(self):
        assert verify([item("a")], [], failed={"a"}).missing == []

    def test_without_a_checksum_a_row_is_enough(self):
        assert verify([item("a", None, None)], [Row("a", 3, "anything")]).ok

    def test_rows_are_read_from_the_database(self, tmp_path):
        path = tmp_path / "fetched.sqlite3"
        assert read_rows(path) == []
        with sqlite3.connect(path) as connection:
            assert read_rows(path) == []
            connection.execute(TABLE)
            connection.execute("INSERT INTO fetched VALUES ('a', 200, 1, 'aa', 1, 'w', 0.5)")
        connection.close()
        assert read_rows(path) == [Row("a", 1, "aa")]

    def test_the_table_keeps_a_second_row_of_a_name_out(self):
        connection = sqlite3.connect(":memory:")
        connection.execute(TABLE)
        insert = "INSERT INTO fetched VALUES ('a', 200, 1, 'aa', 1, 'w', 0.5)"
        connection.execute(insert)
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(insert)
        connection.close()


class TestReport:
    @pytest.fixture
    def report(self, tmp_path):
        tally = Tally()
        tally.add([line(event="job_retried", retry_in_ms=5), line(run_ms=3990), line("insert", "2")], worker=1)
        paths = Paths(*(str(tmp_path / name) for name in ("report.md", "report.json", "fetched.sqlite3", "logs")))
        return Report(
            started_at="2026-01-02T03:04:05+00:00",
            what="1 source",
            redis="an embedded Valkey",
            concurrency=20,
            items=1,
            checked=1,
            bytes=1,
            wall_seconds=2.0,
            run_seconds=4.0,
            tasks=tally.figures(),
            workers=[WorkerFigures(1, 4711, 2, 0)],
            answers=Answers(requests=2, errors=1, busy=0, stalled=0),
            failures=[],
            verdict=verify([item("a")], [Row("a", 1, "aa")]),
            unreadable_lines=0,
            paths=paths,
        )

    def test_all_right_is_ok(self, report, capsys):
        assert report.ok
        assert "All 1 rows are there" in as_markdown(report)
        print_report(report)
        out = capsys.readouterr().out
        assert "2.0 times faster" in " ".join(out.split())
        assert report.paths.database in out

    def test_it_is_written_for_people_and_for_programs(self, report, tmp_path):
        write_report(report)
        data = json.loads((tmp_path / "report.json").read_text())
        assert data == as_data(report)
        assert (data["ok"], data["gain"], data["tasks"][0]["retries"]) == (True, 2.0, 1)
        assert (
            "| fetch | 1 | 2 | 1 | 0 | 0 | 1.0 | 1.0 | 1.0 | 10 | 3,990 | 3,990 |"
            in (tmp_path / "report.md").read_text()
        )

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"verdict": verify([item("a")], [])}, ["1 missing", "label of a"]),
            ({"verdict": verify([item("a")], [Row("a", 1, "x")])}, ["1 wrong", "label of a"]),
            ({"verdict": verify([item("a")], [Row("a", 1, "aa")] * 2)}, ["1 there more than once", "label of a"]),
            ({"verdict": verify([], [Row("z", 1, "aa")])}, ["1 not asked for", "z"]),
            ({"failures": [Failure("b", "HttpStatusError: 404")]}, ["1 failed", "b: HttpStatusError: 404"]),
            ({"workers": [WorkerFigures(1, 4711, 2, -9)]}, ["worker 1 did not end in order", "(pid 4711): -9"]),
        ],
    )
    def test_anything_wrong_is_said_and_is_not_ok(self, report, capsys, change, words):
        changed = msgspec.structs.replace(report, **change)
        print_report(changed)
        out = capsys.readouterr().out
        assert not changed.ok
        assert as_data(changed)["ok"] is False
        for word in words:
            assert word in out
            assert word in as_markdown(changed)
        assert "All 1" not in out

    def test_many_names_are_shortened_on_the_screen_and_whole_in_the_data(self, report, capsys):
        items = [item(f"file{number:02}") for number in range(25)]
        changed = msgspec.structs.replace(report, verdict=verify(items, []))
        print_report(changed)
        out = capsys.readouterr().out
        assert "file09" in out
        assert "file10" not in out
        assert "and 15 more" in out
        assert len(as_data(changed)["verdict"]["missing"]) == 25

    def test_nothing_gained_is_not_called_faster(self, report):
        assert "faster" not in as_markdown(msgspec.structs.replace(report, run_seconds=0.5))

    def test_what_a_server_sent_is_shown_not_obeyed(self, report, capsys):
        print_report(msgspec.structs.replace(report, failures=[Failure("a", "\x1b[2J [bold]x[/bold]")]))
        out = capsys.readouterr().out
        assert "\\x1b[2J [bold]x[/bold]" in out
        assert "\x1b" not in out
