"""common/fleet.py, distribution.py, worker_reports.py: what several workers counted, put together."""

import msgspec
import pytest

from common.attempt_filter import AttemptFilter
from common.distribution import SECONDS_BOUNDS, Distribution
from common.fleet import FleetHistory, FleetSnapshot, TaskSummary, activity
from common.redis.looks import read_look
from common.worker_reports import EndedAttempt, Figures, RunningAttempt, TaskFigures, WorkerReport, bounded


def a_report(worker: str = "w", *, at: int = 10_000, started: int = 0, queues=("q",), **more) -> WorkerReport:
    return WorkerReport(worker, "host", 1, "0.1", queues, 10, started, at, **more)


def counted(*seconds: float, failed: int = 0, waited: float = 0.2) -> TaskFigures:
    run, wait = Distribution.of(seconds), Distribution.of([waited] * len(seconds))
    outcomes = {"succeeded": len(seconds) - failed, "failed": failed}
    return TaskFigures(outcomes, list(wait.counts), list(run.counts), wait.total, run.total, 0.001 * len(seconds))


def an_attempt(outcome="succeeded", **more) -> EndedAttempt:
    known = {
        "job_id": "j",
        "task": "fetch_url",
        "queue": "q",
        "attempt": 1,
        "ended_ms": 1,
        "queued_ms": 0,
        "run_ms": 5.0,
    }
    return EndedAttempt(**known | {"outcome": outcome} | more)


class TestDistribution:
    def test_percentiles_fall_between_the_bounds_their_values_are_between(self):
        found = Distribution.of([0.02] * 90 + [2.0] * 9 + [50.0])
        assert 0.01 < found.percentile(50) <= 0.025
        assert 1.0 < found.percentile(95) <= 2.5
        assert 30.0 < found.percentile(99.5) <= 60.0

    def test_values_of_one_bucket_are_taken_as_evenly_spread(self):
        found = Distribution.of([0.07] * 100)
        assert found.percentile(0) == 0.05
        assert found.percentile(50) == pytest.approx(0.075)
        assert found.percentile(100) == pytest.approx(0.1)

    def test_percentiles_never_go_back(self):
        found = Distribution.of([0.0005, 0.003, 0.003, 0.4, 7.0, 5000.0])
        asked = [found.percentile(percent) for percent in range(101)]
        assert asked == sorted(asked)

    def test_of_none_there_is_none(self):
        assert (Distribution().percentile(50), Distribution().mean, Distribution().count) == (None, None, 0)

    def test_what_is_past_the_last_bound_counts_as_that(self):
        assert Distribution.of([9e9]).percentile(50) == SECONDS_BOUNDS[-1]

    @pytest.mark.parametrize("percent", [-1, 101, float("nan")])
    def test_a_percentage_that_is_none_is_refused(self, percent):
        with pytest.raises(ValueError, match="percent is"):
            Distribution.of([1.0]).percentile(percent)

    def test_two_together_are_as_if_one_had_counted(self):
        first, second = [0.001, 0.2, 4.0], [0.2, 0.3, 4000.0]
        together = Distribution.of(first) + Distribution.of(second)
        assert together == Distribution.of([*first, *second])
        assert together - Distribution.of(first) == Distribution.of(second)
        assert together.mean == pytest.approx(sum(first + second) / 6)

    def test_other_buckets_than_ours_count_for_nothing(self):
        assert Distribution.read([1, 2, 3], 4.0) == Distribution()


class TestSnapshot:
    def test_tasks_are_those_of_all_workers_together(self):
        figures = [Figures(0, {"a": counted(0.02, 0.02, failed=1), "b": counted(1.0)}), Figures(5, {"a": counted(3.0)})]
        snapshot = FleetSnapshot(1, tuple(a_report(str(n), figures=one) for n, one in enumerate(figures)))
        assert list(snapshot.tasks) == ["a", "b"]
        assert snapshot.tasks["a"].outcomes == {"succeeded": 2, "failed": 1}
        assert snapshot.tasks["a"].run == Distribution.of([0.02, 0.02, 3.0])
        assert (snapshot.tasks["a"].ended, snapshot.tasks["a"].failed) == (3, 1)

    def test_of_a_fleet_that_nobody_observes_there_are_no_figures(self):
        snapshot = FleetSnapshot(1, (a_report(),))
        assert (snapshot.observed, snapshot.tasks, snapshot.slowest()) == (False, {}, [])

    def test_what_runs_longest_is_first_whoever_runs_it(self):
        running = [RunningAttempt(f"j{at}", "t", "q", 1, at) for at in (3, 1, 2)]
        snapshot = FleetSnapshot(1, (a_report("a", longest=tuple(running[:2])), a_report("b", longest=(running[2],))))
        assert [(one.job_id, one.worker) for one in snapshot.longest(2)] == [("j1", "a"), ("j2", "b")]

    def test_the_newest_failure_and_the_slowest_attempt_are_first(self):
        failures = tuple(an_attempt("failed", job_id=str(at), ended_ms=at) for at in (1, 5))
        slow = Figures(0, slowest=[an_attempt(run_ms=9.0), an_attempt(run_ms=3.0)])
        workers = (
            a_report("a", failures=failures, figures=slow),
            a_report("b", failures=(an_attempt("lost", ended_ms=3),)),
        )
        snapshot = FleetSnapshot(1, workers)
        assert [(one.ended_ms, one.worker) for one in snapshot.failures()] == [(5, "a"), (3, "b"), (1, "a")]
        assert [one.run_ms for one in snapshot.slowest()] == [9.0, 3.0]

    def test_what_runs_of_a_queue(self):
        alone = a_report("a", running=4)
        both = a_report("b", queues=("q", "low"), running=5, running_in={"q": 2, "low": 3})
        snapshot = FleetSnapshot(1, (alone, both))
        assert (snapshot.running(), snapshot.running("q"), snapshot.running("low"), snapshot.running("x")) == (
            9,
            6,
            3,
            0,
        )
        assert (snapshot.serving("q"), snapshot.serving("low"), snapshot.concurrency) == (2, 1, 20)

    def test_a_worker_is_paused_when_all_its_queues_are(self):
        assert a_report(queues=("a", "b"), paused=("queue:a", "queue:b", "task:t")).is_paused
        assert not a_report(queues=("a", "b"), paused=("queue:a",)).is_paused

    def test_how_long_a_worker_has_been_silent(self):
        assert FleetSnapshot(14_500, (a_report(at=10_000),)).silent_s(a_report(at=10_000)) == 4.5


class TestActivity:
    def test_rates_are_over_the_time_between_a_workers_own_reports(self):
        earlier = FleetSnapshot(10_500, (a_report(at=10_000, succeeded=100, retried=10, failed=1, cpu_s=5.0),))
        later = FleetSnapshot(14_900, (a_report(at=12_000, succeeded=300, retried=14, failed=2, cpu_s=6.0),))
        found = activity(earlier, later)
        assert (found.succeeded, found.retried, found.failed, found.ended) == (100.0, 2.0, 0.5, 102.5)
        assert found.workers["w"].cpu == 0.5

    def test_a_worker_that_has_not_reported_again_did_nothing_yet(self):
        snapshot = FleetSnapshot(1, (a_report(succeeded=5),))
        assert activity(snapshot, snapshot).ended == 0.0

    def test_a_worker_that_started_meanwhile_counts_from_its_start(self):
        later = FleetSnapshot(30_000, (a_report(started=20_000, at=25_000, succeeded=50),))
        assert activity(FleetSnapshot(15_000), later).succeeded == 10.0

    def test_a_worker_whose_earlier_report_is_not_known_is_left_out(self):
        later = FleetSnapshot(30_000, (a_report(started=1_000, at=25_000, succeeded=50),))
        assert dict(activity(FleetSnapshot(15_000), later).workers) == {}

    def test_tasks_are_what_was_counted_in_between(self):
        then = a_report(at=10_000, figures=Figures(7, {"a": counted(9.0, 9.0), "idle": counted(1.0)}))
        both = {"a": counted(9.0, 9.0, 0.02, 0.02, failed=1), "idle": counted(1.0), "new": counted(0.2)}
        now = a_report(at=12_000, figures=Figures(7, both))
        found = activity(FleetSnapshot(1, (then,)), FleetSnapshot(2, (now,))).tasks
        assert list(found) == ["a", "new"]
        assert (found["a"].ended, found["a"].failed) == (1.0, 0.5)
        assert found["a"].summary.run.percentile(99) < 0.03

    def test_another_count_is_not_taken_for_the_earlier_one_going_on(self):
        then = a_report(at=10_000, figures=Figures(7, {"a": counted(*[9.0] * 50)}))
        now = a_report(at=12_000, figures=Figures(11_000, {"a": counted(0.02, 0.02)}))
        found = activity(FleetSnapshot(1, (then,)), FleetSnapshot(2, (now,))).tasks["a"]
        assert (found.ended, found.summary.ended) == (2.0, 2)

    def test_rates_of_several_workers_add_up(self):
        def looks(at, *counts):
            return FleetSnapshot(
                at,
                tuple(
                    a_report(str(n), at=at, figures=Figures(1, {"a": counted(*[0.1] * count)})) for n, count in counts
                ),
            )

        found = activity(looks(10_000, (1, 10), (2, 20)), looks(20_000, (1, 30), (2, 80)))
        assert found.tasks["a"].ended == pytest.approx(8.0)
        assert found.tasks["a"].summary.ended == 80

    def test_a_history_looks_back_over_its_span(self):
        history = FleetHistory(10)
        for second in range(60):
            found = history.add(FleetSnapshot(second * 1000, (a_report(at=second * 1000, succeeded=second**2),)))
        assert found.succeeded == pytest.approx((59**2 - 49**2) / 10)

    def test_the_first_look_of_a_history_knows_no_rates(self):
        assert FleetHistory().add(FleetSnapshot(1, (a_report(succeeded=5),))).ended == 0.0


class TestReports:
    def test_a_report_of_an_older_worker_is_read(self):
        old = {"worker": "w", "host": "h", "pid": 1, "version": "0.1", "queues": ["q"], "concurrency": 1}
        read = msgspec.json.decode(msgspec.json.encode(old | {"started_ms": 1, "reported_ms": 2}), type=WorkerReport)
        assert (read.state, read.longest, read.rss, read.figures) == ("running", (), None, None)

    def test_a_state_and_fields_of_a_newer_worker_hide_no_report(self):
        newer = msgspec.json.decode(msgspec.json.encode(a_report())) | {"state": "dreaming", "dreams": 3}
        assert msgspec.json.decode(msgspec.json.encode(newer), type=WorkerReport).state == "dreaming"

    @pytest.mark.parametrize(
        ("text", "shown"), [("plain", "plain"), ("schön", "schön"), ("x\udcff", "x\\udcff"), ("abcdefghij", "abcdefg…")]
    )
    def test_whatever_a_name_holds_a_report_can_hold_it(self, text, shown):
        assert bounded(text, 8 if len(text) == 10 else 20) == shown
        assert msgspec.json.decode(msgspec.json.encode(bounded(text, 20)))


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (AttemptFilter(), True),
        (AttemptFilter(tasks=("fetch_*", "x")), True),
        (AttemptFilter(tasks=("fetch",)), False),
        (AttemptFilter(tasks=("fetch_[u]rl",)), True),
        (AttemptFilter(outcomes=frozenset({"failed", "lost"})), False),
        (AttemptFilter(slower_than_ms=5.0), True),
        (AttemptFilter(slower_than_ms=5.1), False),
        (AttemptFilter(workers=("host-*",), queues=("q",)), True),
        (AttemptFilter(workers=("host-*",), queues=("low",)), False),
    ],
)
def test_which_attempts_fit(wanted, fits):
    assert wanted.fits(an_attempt(worker="host-1")) is fits


@pytest.mark.parametrize(
    ("message", "look"),
    [
        (b"figures 15", ("figures", 15)),
        (b"attempts 999999999999999999", ("attempts", 60)),
        (b"abort 5", None),
        (b"figures", None),
        (b"figures -5", None),
        (b"", None),
        (b"\xff \xff", None),
    ],
)
def test_what_is_said_by_who_looks_on(message, look):
    assert read_look(message) == look


def test_summaries_subtract_to_what_came_in_between():
    before, later = TaskSummary.read(counted(0.1, 0.2)), TaskSummary.read(counted(0.1, 0.2, 0.3, failed=1))
    assert (later - before).outcomes == {"failed": 1}
    assert (later - before).run.count == 1
