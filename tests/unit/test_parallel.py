"""The tests on many processes: as many as the machine has use for, and no text that takes one of them down."""

import os

import pytest
from execnet.gateway_base import DumpError, dumps

from tests.support import parallel

PLAIN = {"nodeid": "a::b", "when": "call", "keywords": {"b": 1}, "duration": 0.5, "user_properties": [], "sections": []}


def sent(report: object) -> object:
    """Return the report as the hook around pytest's own has it."""
    hook = parallel.pytest_report_to_serializable()
    next(hook)
    with pytest.raises(StopIteration) as done:
        hook.send(report)
    return done.value.value


def test_a_report_with_any_text_can_be_sent():
    report = PLAIN | {
        "longrepr": {"reprcrash": ("a.py", 3, "\udcff"), "chain": [["a\ud800b", None]]},
        "sections": [("Captured log call", "WARNING \ud800\x1b")],
        "\ud800": "é\u2028",
    }
    with pytest.raises(DumpError):
        dumps(report)
    assert dumps(sent(report))
    assert sent(report)["sections"] == [("Captured log call", "WARNING \\ud800\x1b")]
    assert sent(report)["longrepr"] == {"reprcrash": ("a.py", 3, "\\udcff"), "chain": [["a\\ud800b", None]]}
    assert sent(report)["\\ud800"] == "é\u2028"


def test_of_any_other_report_nothing_is_changed():
    assert sent(PLAIN) == PLAIN
    assert sent(None) is None


@pytest.fixture
def machine(monkeypatch, tmp_path):
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)

    def of(cores: int, quota: str | None = None) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        monkeypatch.setattr(parallel, "_QUOTA", tmp_path / "cpu.max")
        if quota is not None:
            (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")

    return of


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (2, 3), (3, 4), (4, 6), (8, 12), (64, 12)])
def test_there_are_half_as_many_again_as_cores(machine, cores, workers):
    machine(cores)
    assert parallel.pytest_xdist_auto_num_workers() == workers


@pytest.mark.parametrize(("quota", "workers"), [("max", 12), ("200000", 3), ("250000", 3), ("50000", 0)])
def test_a_container_has_the_cores_it_is_given(machine, quota, workers):
    machine(64, quota)
    assert parallel.pytest_xdist_auto_num_workers() == workers


def test_the_variable_goes_before(machine, monkeypatch):
    machine(8)
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "2")
    assert parallel.pytest_xdist_auto_num_workers() is None
