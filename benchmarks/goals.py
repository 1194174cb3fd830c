"""The goals, and whether one run's figures meet them. Pure.

A ratio is of two medians of the same run; that of a backlog is the median of the ratios of its turns. A goal of which
one side was not measured is neither met nor missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from benchmarks.results import Results

__all__ = ["GOALS", "Goal", "Verdict", "compared", "evaluate", "held_together"]

OURS = "barque"


@dataclass(frozen=True)
class Verdict:
    """How one run did on one goal.

    Attributes:
        subject: what is measured, as in the table of goals.
        goal: what is asked, in words.
        value: what was measured, in words.
        met: None where it cannot be said.
    """

    subject: str
    goal: str
    value: str
    met: bool | None

    @property
    def word(self) -> str:
        """ "met", "not met" or "not measured"."""
        return "not measured" if self.met is None else "met" if self.met else "not met"


@dataclass(frozen=True)
class Goal:
    """One thing to reach.

    Attributes:
        limit: the number to compare with.
        at_least: whether the value has to reach the limit (else: not to pass it).
        value: looks the number up; None where it was not measured.
        form: how the number is shown.
    """

    subject: str
    goal: str
    limit: float
    at_least: bool
    value: Callable[[Results], float | None]
    form: str = "{:.2f}x"

    def verdict(self, results: Results) -> Verdict:
        """Judge one run."""
        value = self.value(results)
        if value is None:
            return Verdict(self.subject, self.goal, "-", None)
        met = value >= self.limit if self.at_least else value <= self.limit
        return Verdict(self.subject, self.goal, self.form.format(value), met)


def evaluate(results: Results) -> list[Verdict]:
    """Judge one run by all goals, in their order."""
    return [goal.verdict(results) for goal in GOALS]


def compared(languages: Mapping[str, str]) -> set[tuple[str, str]]:
    """Return the measures and subjects that goals look at, of peers whose languages these are, by name."""
    looks = _Looks({}, {name: {"language": language} for name, language in languages.items()}, {}, {})
    for goal in GOALS:
        goal.value(looks)
    return looks.at


def held_together() -> list[frozenset[str]]:
    """Return the measures that one goal holds against each other."""
    found = []
    for goal in GOALS:
        looks = _Looks({}, {}, {}, {})
        goal.value(looks)
        found.append(frozenset(measure for measure, _ in looks.at))
    return [measures for measures in found if len(measures) > 1]


@dataclass(frozen=True)
class _Looks(Results):
    """Results of which it is kept what was looked at."""

    at: set[tuple[str, str]] = field(default_factory=set)

    def median(self, measure: str, subject: str, metric: str) -> float | None:  # noqa: ARG002 - all of them are there
        self.at.add((measure, subject))
        return float("inf")


def _ratio(over: float | None, under: float | None) -> float | None:
    return None if over is None or not under else over / under


def _against(measure: str, peer: str, metric: str = "jobs_per_s") -> Callable[[Results], float | None]:
    return lambda results: _ratio(results.median(measure, OURS, metric), results.median(measure, peer, metric))


def _against_fastest_python(measure: str) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        pythons = [name for name, peer in results.peers.items() if peer["language"] == "python" and name != OURS]
        rates = [rate for name in pythons if (rate := results.median(measure, name, "jobs_per_s")) is not None]
        return _ratio(results.median(measure, OURS, "jobs_per_s"), max(rates, default=None))

    return value


def _ours(measure: str, metric: str, subject: str = OURS) -> Callable[[Results], float | None]:
    return lambda results: results.median(measure, subject, metric)


def _backlog(kind: str) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        if (results.median("backlog", kind, "backlog") or 0) < 1_000_000:
            return None  # a trial with fewer says nothing of a million
        return results.median("backlog", kind, "of_short")

    return value


def _in_flight(metric: str) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        enough = (results.median("in_flight", OURS, "jobs") or 0) >= 10_000
        return results.median("in_flight", OURS, metric) if enough else None

    return value


def _of_scaling(metric: str, choose: Callable[[list[float]], float]) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        found = [results.median("scaling", subject, metric) for subject in results.subjects("scaling")]
        values = [each for each in found if each is not None]
        return choose(values) if values else None

    return value


def _largest_over_least(values: list[float]) -> float:
    return max(values) / min(values)


def _last_over_best(values: list[float]) -> float:
    return values[-1] / max(values)


def _round_trip(results: Results) -> float | None:
    return _ratio(results.median("round_trip", OURS, "p50_ms"), results.median("pickup", OURS, "p50_ms"))


def _goals() -> Iterable[Goal]:
    noop, nap = "Drain, no-op, 100 at once", "Drain, 10 ms tasks, 1,000 at once"
    yield Goal(noop, ">= 25x arq", 25, True, _against("drain_noop", "arq"))
    yield Goal(noop, ">= 12x the fastest Python peer", 12, True, _against_fastest_python("drain_noop"))
    yield Goal(noop, ">= 5x Sidekiq", 5, True, _against("drain_noop", "sidekiq"))
    yield Goal(noop, ">= 1.5x BullMQ", 1.5, True, _against("drain_noop", "bullmq"))
    yield Goal(nap, ">= 12x the fastest Python peer", 12, True, _against_fastest_python("drain_nap"))
    yield Goal("Bulk enqueue", ">= 4x BullMQ", 4, True, _against("bulk", "bullmq"))
    yield Goal("Bulk enqueue", "ahead of Sidekiq", 1, True, _against("bulk", "sidekiq"))
    yield Goal("Single enqueues, 32 in flight", ">= 2x SAQ", 2, True, _against("single", "saq"))
    yield Goal("Pickup from idle, p50", "<= 0.5x taskiq's", 0.5, False, _against("pickup", "taskiq", "p50_ms"))
    yield Goal("Pickup from idle, p99", "no worse than taskiq's", 1, False, _against("pickup", "taskiq", "p99_ms"))
    yield Goal("Enqueue to result, idle, p50", "<= 1.5x pickup", 1.5, False, _round_trip)
    flight = "10,000 jobs in flight, sleeping"
    per_job = _in_flight("bytes_per_job")
    yield Goal(flight, "<= 6 KB of worker memory a job", 6000, False, per_job, "{:,.0f} bytes")
    late = _in_flight("loop_late_p99_ms")
    yield Goal(flight, "the loop stays responsive: late by <= 20 ms at p99", 20, False, late, "{:.1f} ms")
    idle = _against("idle_memory", "arq", "resident_mb")
    yield Goal("Idle worker", "resident memory <= 1.4x arq's", 1.4, False, idle)
    hundred = _ours("idle_server", "core_percent")
    yield Goal("100 idle workers", "<= 2% of a core in Redis", 2, False, hundred, "{:.2f}%")
    yield Goal("A backlog of 1,000,000", "claim rate >= 0.85x of 10,000's", 0.85, True, _backlog("long"))
    yield Goal("1,000,000 scheduled jobs", "claim rate >= 0.85x of 10,000's", 0.85, True, _backlog("scheduled"))
    many = "1, 2, 4, 8 worker processes"
    most = _of_scaling("redis_us", max)
    yield Goal(many, "Redis CPU per job, enqueue to finish, <= 18 us", 18, False, most, "{:.1f} us")
    flat = _of_scaling("redis_us", _largest_over_least)
    yield Goal(many, "Redis CPU per job flat: most <= 1.25x least", 1.25, False, flat)
    collapse = _of_scaling("jobs_per_s", _last_over_best)
    yield Goal(many, "no collapse past the cores: 8 >= 0.8x the best", 0.8, True, collapse)


GOALS: tuple[Goal, ...] = tuple(_goals())
