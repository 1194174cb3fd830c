"""The verdict sees what went wrong: each promise is broken once, on paper."""

import io

import msgspec
import pytest
from rich.console import Console

from tests.chaos.driver.oracle import Oracle
from tests.chaos.driver.report import Report, as_json, as_markdown, as_tables
from tests.chaos.driver.verdict import Fault, Outcome, judge


@pytest.fixture
def judged(tmp_path):
    def judge_lines(lines, *, faults=(), outcomes=None, ended=None, leftovers=()):
        """Judge what these lines say: `label: a line of its ledger`."""
        for line in lines:
            label, _, words = line.partition(": ")
            with (tmp_path / f"{label}.ledger").open("a") as file:
                file.write(words + "\n")
        oracle = Oracle(tmp_path)
        oracle.read()
        given = {"j": Outcome(success=True, attempt=1)} if outcomes is None else outcomes
        return judge(
            "on_paper",
            oracle,
            list(faults),
            given,
            ended=ended or {},
            leftovers=list(leftovers),
            problems=[],
            seconds=1.0,
        )

    return judge_lines


WELL = ["p: a 1.0 j 0.9 0", "w1: s 1.1 j 1", "w1: e 1.2 j 1 done"]
TWICE = [*WELL[:2], "w2: s 4.0 j 2", "w2: e 4.1 j 2 done"]
LATE = [*TWICE, "w1: e 4.05 j 1 done"]
SECOND = {"j": Outcome(success=True, attempt=2)}


def test_a_job_that_ran_once(judged):
    verdict = judged(WELL)
    assert verdict.ok
    assert (verdict.acknowledged, verdict.attempts, verdict.twice, verdict.longest_recovery) == (1, 1, {}, None)


@pytest.mark.parametrize(
    ("lines", "given", "what"),
    [
        (WELL[:1], {"outcomes": {}}, "lost"),
        (WELL, {"outcomes": {}}, "lost"),
        (WELL[:1], {}, "lost"),
        (WELL, {"outcomes": {"j": Outcome(success=False, attempt=1)}}, "failed"),
        (WELL, {"outcomes": SECOND}, "unfounded"),
        (TWICE, {"outcomes": SECOND}, "unexplained"),
        (["p: a 1.0 j 0.9 500", *WELL[1:]], {}, "early"),
        (LATE, {"faults": [Fault("frozen", "w1", 2.0, 5.0)]}, "fenced"),
        (WELL, {"ended": {"j": 2}}, "ended_twice"),
        (WELL, {"leftovers": ["arq:job:j"]}, "leftovers"),
    ],
)
def test_a_broken_promise_shows(judged, lines, given, what):
    verdict = judged(lines, **given)
    assert not verdict.ok
    assert len(getattr(verdict, what)) == 1
    assert any("j" in words for words in verdict.wrong())


def test_an_enqueue_that_was_not_acknowledged_promises_nothing(judged):
    verdict = judged(["p: u 1.0 j"], outcomes={})
    assert verdict.ok
    assert (verdict.acknowledged, verdict.refused) == (0, 1)


@pytest.mark.parametrize(
    ("fault", "explains"),
    [
        (Fault("killed", "w1", 2.0), True),
        (Fault("killed", "w2", 2.0), False),  # another's
        (Fault("killed", "w1", 5.0), False),  # after the second start
        (Fault("frozen", "w1", 2.0, 3.5, least=1.0), True),
        (Fault("frozen", "w1", 2.0, 2.5, least=1.0), False),  # too short to lose a lease by
        (Fault("frozen", "w1", 0.1, 0.9, least=0.5), False),  # over before the first start
        (Fault("slow", None, 0.0, least=1e9), False),
        (Fault("server killed", None, 2.0, 3.0), True),
    ],
)
def test_a_second_run_needs_a_fault_that_struck_the_first(judged, fault, explains):
    verdict = judged(TWICE, faults=[fault], outcomes=SECOND)
    assert verdict.twice == ({fault.what: 1} if explains else {})
    assert len(verdict.unexplained) == (not explains)


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ([Fault("cut", "w1", 1.5, 3.5), Fault("deaf", "w1", 2.5)], "deaf"),
        ([Fault("deaf", "w1", 1.5), Fault("server killed", None, 2.5)], "deaf"),
        ([Fault("server killed", None, 1.5), Fault("starved", "w1", 2.5, counted=False)], "server killed"),
    ],
)
def test_of_two_faults_the_nearer_is_told(judged, faults, told):
    assert judged(TWICE, faults=faults, outcomes=SECOND).twice == {told: 1}


def test_recovery_is_from_the_fault_to_the_next_start(judged):
    assert judged(TWICE, faults=[Fault("killed", "w1", 2.5)], outcomes=SECOND).longest_recovery == 1.5


def test_recovery_counts_a_job_that_was_taken_and_not_begun(judged):
    lines = ["p: a 1.0 j 0.9 0", "w2: s 4.0 j 2", "w2: e 4.1 j 2 done"]
    verdict = judged(lines, faults=[Fault("killed", "w1", 1.5)], outcomes=SECOND)
    assert verdict.ok
    assert verdict.longest_recovery == 2.5


def test_a_retry_that_the_task_asked_for_is_no_second_run(judged):
    lines = [*WELL[:2], "w1: e 1.2 j 1 raised", "w2: s 1.3 j 2", "w2: e 1.4 j 2 done"]
    verdict = judged(lines, outcomes=SECOND)
    assert verdict.ok
    assert verdict.twice == {}


def test_an_attempt_that_a_frozen_worker_begins_late_is_the_first(judged):
    lines = [WELL[0], "w2: s 4.0 j 2", "w2: e 4.1 j 2 done", "w1: s 5.0 j 1", "w1: e 5.1 j 1 cancelled"]
    verdict = judged(lines, faults=[Fault("frozen", "w1", 1.5, 6.0, least=1.0)], outcomes=SECOND)
    assert verdict.ok
    assert verdict.twice == {"frozen": 1}


def test_the_ledger_of_a_process_that_was_killed_may_end_in_half_a_line(tmp_path):
    (tmp_path / "w1.ledger").write_text("s 1.1 j 1\ne 1.2 j")
    oracle = Oracle(tmp_path)
    oracle.read()
    assert oracle.in_hand("w1") == ["j"]


def test_a_line_that_nobody_writes_is_an_error(tmp_path):
    (tmp_path / "w1.ledger").write_text("what\n")
    with pytest.raises(ValueError, match="w1 has a line nobody writes: what"):
        Oracle(tmp_path).read()


@pytest.mark.parametrize("colour", [True, False])
def test_the_table_says_all_with_and_without_colour(judged, colour):
    report = Report(machine="a machine", verdicts=[judged(TWICE, outcomes=SECOND)], unfinished=["x: in vain"])
    out = io.StringIO()
    Console(file=out, force_terminal=colour, no_color=not colour, width=80, legacy_windows=False).print(
        *as_tables(report), sep="\n"
    )
    shown = out.getvalue()
    assert ("\x1b[" in shown) == colour
    for words in ("on_paper", "BROKEN", "run twice without cause", "not finished: x: in vain", "1 without"):
        assert words in shown


def test_the_verdict_as_json_and_as_markdown(judged):
    report = Report(machine="a machine", verdicts=[judged(WELL, faults=[Fault("killed", "w9", 0.1)])], unfinished=[])
    (plain,) = msgspec.json.decode(as_json(report))["verdicts"]
    assert (plain["scenario"], plain["ok"], plain["lost"], plain["faults"]) == ("on_paper", True, [], {"killed": 1})
    page = as_markdown(report)
    assert "| on_paper | 1 | 0 | 0 | 0 | - | kept |" in page
    assert "| on_paper | killed | 1 | 0 |" in page
