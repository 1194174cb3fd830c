"""The benchmark's own arithmetic: statistics, goals, the report, and which peers there are."""

import json
import math
import re

import pytest

from benchmarks.adapters import discover
from benchmarks.environments import PEERS, Missing, NodeEnvironment, OwnEnvironment, PythonEnvironment, RubyEnvironment
from benchmarks.goals import GOALS, compared, evaluate, held_together
from benchmarks.harness import Scale, install, measure_all
from benchmarks.measures import MEASURES
from benchmarks.processes import Failed, trouble_in
from benchmarks.report import budget, markdown
from benchmarks.results import Results
from benchmarks.summary import Figure, percentile

PEER_NAMES = {"arq", "bullmq", "celery", "docket", "dramatiq", "rq", "saq", "sidekiq", "streaq", "taskiq"}


def results(samples=None, *, failures=None, missing=()):
    languages = {"sidekiq": "ruby", "bullmq": "node"}
    peers = {
        name: {"title": name.capitalize(), "language": languages.get(name, "python"), "settings": f"{name} | as it is"}
        | ({"missing": f"no {name}\nhere"} if name in missing else {"versions": {name: "1.0"}})
        for name in ("barque", "arq", "saq", "taskiq", "sidekiq", "bullmq")
    }
    about = {
        "date": "2026-01-01T00:00:00+00:00",
        "command": "python -m benchmarks",
        "source": "abc1234",
        "server": "Redis 7.0.15, loopback, no persistence",
        "scale": {"repeat": 3, "most_jobs": 200_000},
        "machine": {"processor": "One", "cores": 2, "memory_gib": 4, "system": "Linux", "python": "3.11.7"},
    }
    return Results(about, peers, samples or {}, failures or {})


def rates(measure, **of_peers):
    return {measure: {peer: {"jobs_per_s": [rate]} for peer, rate in of_peers.items()}}


def verdict(found, goal):
    (only,) = [each for each in evaluate(found) if each.goal == goal]
    return only


class TestFigure:
    def test_median_and_extremes_do_not_depend_on_the_order(self):
        figure = Figure.of([5.0, 1.0, 2.0])
        assert (figure.median, figure.least, figure.most) == (2.0, 1.0, 5.0)
        assert figure.samples == (5.0, 1.0, 2.0)

    def test_median_of_an_even_number_is_between_the_middle_two(self):
        assert Figure.of([1.0, 2.0, 4.0, 100.0]).median == 3.0

    def test_spread_is_half_the_range_as_a_share_of_the_median(self):
        assert Figure.of([90.0, 100.0, 120.0]).spread == pytest.approx(0.15)
        assert Figure.of([7.0]).spread == 0.0
        assert Figure.of([0.0, 0.0]).spread == 0.0

    def test_no_samples_and_no_numbers_are_errors(self):
        with pytest.raises(ValueError, match="no samples"):
            Figure.of([])
        with pytest.raises(ValueError, match="not a number"):
            Figure.of([1.0, math.nan])


class TestPercentile:
    @pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1, 100)])
    def test_is_the_nearest_rank(self, share, expected):
        assert percentile(list(range(100, 0, -1)), share) == expected

    def test_of_one_value_is_that_value(self):
        assert percentile([3.5], 0.99) == 3.5

    def test_says_what_it_cannot_do(self):
        with pytest.raises(ValueError, match="no values"):
            percentile([], 0.5)
        with pytest.raises(ValueError, match="a share"):
            percentile([1.0], 0)


class TestGoals:
    def test_nothing_measured_is_neither_met_nor_missed(self):
        found = evaluate(results())
        assert len(found) == len(GOALS) == 20
        assert {each.met for each in found} == {None}
        assert {each.word for each in found} == {"not measured"}

    @pytest.mark.parametrize(("ours", "met"), [(25_000, True), (24_999, False)])
    def test_a_ratio_is_of_medians_of_this_run(self, ours, met):
        samples = {"drain_noop": {"barque": {"jobs_per_s": [1, ours, 9e9]}, "arq": {"jobs_per_s": [1000.0]}}}
        assert verdict(results(samples), ">= 25x arq").met is met

    def test_the_fastest_python_peer_is_neither_barque_nor_of_another_language(self):
        samples = rates("drain_noop", barque=24_000, arq=1000, saq=2000, bullmq=20_000, sidekiq=6000)
        first = next(each for each in evaluate(results(samples)) if each.goal == ">= 12x the fastest Python peer")
        assert (first.value, first.met) == ("12.00x", True)

    def test_less_is_better_for_latency(self):
        def at(ours):
            return results({"pickup": {"barque": {"p50_ms": [ours]}, "taskiq": {"p50_ms": [1.0]}}})

        assert verdict(at(0.5), "<= 0.5x taskiq's").met is True
        assert verdict(at(0.51), "<= 0.5x taskiq's").met is False

    def test_a_result_is_held_against_barques_own_pickup(self):
        samples = {"pickup": {"barque": {"p50_ms": [0.4]}}, "round_trip": {"barque": {"p50_ms": [0.7]}}}
        assert verdict(results(samples), "<= 1.5x pickup").value == "1.75x"

    def test_a_peer_that_is_missing_leaves_its_goal_open(self):
        assert verdict(results(rates("bulk", barque=1.0), missing=("bullmq",)), ">= 4x BullMQ").met is None

    def test_scaling_is_judged_by_its_worst(self):
        samples = {
            "scaling": {
                "1": {"redis_us": [16.0], "jobs_per_s": [30_000.0]},
                "2": {"redis_us": [15.0], "jobs_per_s": [50_000.0]},
                "8": {"redis_us": [18.5], "jobs_per_s": [39_000.0]},
            }
        }
        found = {each.goal: each for each in evaluate(results(samples))}
        assert found["Redis CPU per job, enqueue to finish, <= 18 us"].value == "18.5 us"
        assert found["Redis CPU per job, enqueue to finish, <= 18 us"].met is False
        assert found["Redis CPU per job flat: most <= 1.25x least"].met is True
        assert found["no collapse past the cores: 8 >= 0.8x the best"].met is False

    def test_backlogs_are_held_against_the_short_one(self):
        samples = rates("backlog", short=100, long=84, scheduled=86)
        for kind, of_short in (("long", 0.84), ("scheduled", 0.86)):
            samples["backlog"][kind] |= {"backlog": [1_000_000], "of_short": [of_short]}
        found = {each.subject: each.met for each in evaluate(results(samples)) if each.met is not None}
        assert found == {"A backlog of 1,000,000": False, "1,000,000 scheduled jobs": True}

    def test_a_trial_with_fewer_jobs_meets_no_goal_about_many(self):
        samples = rates("backlog", short=100, long=100) | {
            "in_flight": {"barque": {"jobs": [9_999], "bytes_per_job": [1.0], "loop_late_p99_ms": [0.1]}}
        }
        samples["backlog"]["long"] |= {"backlog": [999_999], "of_short": [1.0]}
        assert {each.met for each in evaluate(results(samples))} == {None}
        samples["in_flight"]["barque"]["jobs"] = [10_000]
        assert verdict(results(samples), "<= 6 KB of worker memory a job").met is True


class TestReport:
    def test_names_what_is_missing_and_what_failed(self):
        found = results(
            rates("drain_noop", barque=2.0, arq=1.0),
            missing=("sidekiq",),
            failures={"drain_noop": {"saq": "no last job\nsecond line"}},
        )
        text = markdown(found, evaluate(found))
        assert "| Sidekiq | missing | no sidekiq here |" in text
        assert "| drain_noop | Saq | no last job |" in text
        assert "second line" not in text

    def test_orders_peers_by_rate_and_shows_the_spread(self):
        found = results({"bulk": {"arq": {"jobs_per_s": [900, 1000, 1200]}, "barque": {"jobs_per_s": [50_000]}}})
        text = markdown(found, [])
        assert "| **Barque** | 50,000 |" in text
        assert text.index("| **Barque** | 50,000 |") < text.index("| Arq | 1,000 (900-1,200) |")

    def test_every_table_has_as_many_cells_in_each_row(self):
        text = markdown(results(rates("drain_noop", barque=2.0)), evaluate(results()))
        for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(cells) == 1, table

    def test_counts_the_goals(self):
        found = results(rates("drain_noop", barque=25_000, arq=1000))
        assert "## Goals: 2 met, 0 not met, 18 not measured" in markdown(found, evaluate(found))

    def test_the_budget_adds_up_to_the_wall_time_of_a_job(self):
        samples = {
            "drain_noop": {"barque": {"jobs_per_s": [40_000.0], "worker_us": [20.0]}},
            "floor": {"asyncio_noop": {"worker_us": [2.0]}},
        }
        parts = budget(results(samples))
        assert [round(spent, 6) for _, spent in parts] == [2.0, 18.0, 5.0]
        assert budget(results()) is None

    def test_says_when_a_run_was_only_a_trial(self):
        found = results()
        assert "mean nothing" not in markdown(found, [])
        found.about["scale"]["most_jobs"] = 1000
        assert "at most 1,000 jobs a run: the figures mean nothing" in markdown(found, [])


class TestTrouble:
    @pytest.mark.parametrize(
        "line",
        [
            "Traceback (most recent call last):",
            '{"event":"job_failed","traceback":"Traceback (most recent call last):\\n"}',
            '{"event":"worker_broken","level":"error"}',
            "    at Worker.process (/srv/worker.js:12:34)",
            "pid=7 tid=x WARN: Errno::ECONNREFUSED",
        ],
    )
    def test_a_log_that_tells_of_failure_is_seen(self, line):
        assert trouble_in(f"all well\n{line}\nall well again") is not None

    @pytest.mark.parametrize(
        "line", ["", "INFO: done at 12:30:15", '{"event":"job_succeeded","level":"info"}', "warnings: none, errors: 0"]
    )
    def test_a_log_of_success_is_not(self, line):
        assert trouble_in(line) is None


class TestResults:
    def test_come_back_from_their_file(self, tmp_path):
        path = tmp_path / "deep" / "run.json"
        written = results(rates("bulk", barque=1.5))
        written.write(path)
        assert Results.read(path) == written

    def test_refuse_another_form(self, tmp_path):
        path = tmp_path / "run.json"
        path.write_text(json.dumps({"form": 0}))
        with pytest.raises(ValueError, match="form 0"):
            Results.read(path)


class TestAdapters:
    def test_every_peer_of_the_comparison_is_there_and_barque_is_first(self):
        found = discover()
        assert next(iter(found)) == "barque"
        assert set(found) == PEER_NAMES | {"barque"}
        assert all(name == adapter.name for name, adapter in found.items())

    def test_each_has_programs_settings_and_pins(self):
        for name, adapter in discover().items():
            assert (PEERS / name).is_dir(), name
            assert adapter.settings, name
            assert adapter.drain_rate > 0, name
            assert adapter.enqueue_rate > 0, name
            program = adapter.worker(adapter.at_once(100))
            assert program.argv, name
            assert adapter.client().argv, name
            kinds = {PythonEnvironment, OwnEnvironment, NodeEnvironment, RubyEnvironment}
            assert type(adapter.environment) in kinds, name

    def test_python_peers_pin_every_package_they_report(self):
        for name, adapter in discover().items():
            if not isinstance(adapter.environment, PythonEnvironment):
                continue
            lines = adapter.environment.requirements.read_text().splitlines()
            unpinned = [line for line in lines if line and not re.match(r"[A-Za-z0-9._-]+(\[[^]]*\])?==\S+", line)]
            assert not unpinned, name
            pinned = {line.partition("==")[0].partition("[")[0] for line in lines}
            assert set(adapter.versions_of) <= pinned, name

    def test_the_lock_file_of_node_names_no_host(self):
        lock = json.loads((PEERS / "bullmq" / "package-lock.json").read_text())
        assert not [name for name, package in lock["packages"].items() if "resolved" in package]

    def test_one_that_cannot_be_installed_is_named_with_the_reason(self):
        class Broken:
            title = "Broken"

            class environment:  # noqa: N801 - stands in for a property
                @staticmethod
                def make():
                    raise Missing("needs what is not here")

        said = []
        there, missing = install({"broken": Broken()}, said.append)
        assert there == {}
        assert missing == {"broken": "needs what is not here"}
        assert "needs what is not here" in said[0]


class FakeMeasure:
    name = "fake"
    title = "Fake"

    def __init__(self):
        self.ran = []

    def subjects(self, adapters):
        return list(adapters)

    def repetitions(self, scale):
        return scale.repeat

    def run(self, bench, subject):
        self.ran.append(subject)
        if subject == "bad":
            raise Failed("it did not\nlog line")
        return {"jobs_per_s": float(len(self.ran))}


class FakeAdapter:
    language = "python"

    def __init__(self, *, in_goals):
        self.in_goals = in_goals


class FakeBench:
    def __init__(self, *, once_else=False):
        self.adapters = {name: FakeAdapter(in_goals=name != "two") for name in ("one", "bad", "two")}
        self.scale = Scale(repeat=3, once_else=once_else)


class TestHarness:
    def test_repetitions_alternate_and_a_failure_is_not_repeated(self):
        measure, found = FakeMeasure(), results()
        measure_all(FakeBench(), [measure], found, lambda line: None)
        assert measure.ran == ["one", "bad", "two", "one", "two", "one", "two"]
        assert found.samples == {
            "fake": {"one": {"jobs_per_s": [1.0, 4.0, 6.0]}, "two": {"jobs_per_s": [3.0, 5.0, 7.0]}}
        }
        assert found.failures == {"fake": {"bad": "it did not\nlog line"}}

    def test_the_short_set_runs_what_no_goal_looks_at_once(self):
        measure = FakeMeasure()
        measure_all(FakeBench(once_else=True), [measure], results(), lambda line: None)
        assert measure.ran == ["one", "bad", "two"]
        measure = FakeMeasure()
        measure.name = "drain_nap"  # the fastest of the Python peers is looked for there
        measure_all(FakeBench(once_else=True), [measure], results(), lambda line: None)
        assert measure.ran == ["one", "bad", "two", "one", "one"]
        measure = FakeMeasure()
        measure.subjects = lambda adapters: ["1", "2"]  # of Barque alone
        measure_all(FakeBench(once_else=True), [measure], results(), lambda line: None)
        assert measure.ran == ["1", "2"] * 3

    def test_measures_that_a_goal_holds_against_each_other_take_turns(self):
        order = []
        measures = []
        for name in ("drain_noop", "pickup", "single", "round_trip"):
            measure = FakeMeasure()
            measure.name, measure.title = name, name
            measure.repetitions = lambda scale, name=name: 3 if name == "pickup" else 2
            measure.subjects = lambda adapters: ["one"]
            measure.run = lambda bench, subject, name=name: order.append(name) or {"jobs_per_s": 1.0}
            measures.append(measure)
        measure_all(FakeBench(), measures, results(), lambda line: None)
        assert order == ["drain_noop"] * 2 + ["pickup", "round_trip"] * 2 + ["pickup"] + ["single"] * 2
        assert held_together() == [{"pickup", "round_trip"}]

    def test_what_the_goals_look_at(self):
        seen = compared({"barque": "python", "taskiq": "python", "saq": "python", "bullmq": "node"})
        assert {peer for measure, peer in seen if measure == "pickup"} == {"barque", "taskiq"}
        assert {peer for measure, peer in seen if measure == "round_trip"} == {"barque"}
        assert {peer for measure, peer in seen if measure == "drain_nap"} == {"barque", "taskiq", "saq"}

    def test_a_run_is_sized_by_the_rate_within_its_limits(self):
        scale = Scale(seconds=2.0, most_jobs=10_000)
        assert scale.jobs(1000) == 2000
        assert scale.jobs(10) == 200
        assert scale.jobs(10, least=5) == 20
        assert scale.jobs(1e9) == 10_000

    def test_every_goal_reads_a_measure_that_exists(self):
        seen = set()

        class Watching(Results):
            def median(self, measure, subject, metric):
                seen.add(measure)
                return super().median(measure, subject, metric)

            def subjects(self, measure):
                seen.add(measure)
                return super().subjects(measure)

        empty = results()
        evaluate(Watching(empty.about, empty.peers, empty.samples, empty.failures))
        assert seen
        assert seen <= set(MEASURES)
