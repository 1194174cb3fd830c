"""The first page: how the fleet stands, and how it did over the last minutes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.worker_reports import EndedAttempt
from dashboard.fleet_watch import FleetWatch, Look, Sample
from dashboard.pages import words
from dashboard.pages.charts import Chart, Plot, Series, draw
from dashboard.pages.view import Page, View

__all__ = ["OVERVIEW"]

_MOST_FAILURES = 8
_MOST_TASKS = 12


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task over the last seconds; times in ms."""

    name: str
    ended: float
    failed_part: float | None
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None


async def _read(view: View) -> Mapping[str, Any]:
    look = await view.look()
    return {
        "charts": _charts(view.dashboard.watch, look),
        "span": view.dashboard.watch.span,
        "tasks": _tasks(look),
        "failures": _failures(view, look),
        "is_new": not look.fleet.workers and not look.due and not look.dead,
        "finished": look.activity.ended,
        "latest": view.dashboard.watch.samples[-1],
    }


OVERVIEW = Page("overview.html", "overview", _read)


def _charts(watch: FleetWatch, look: Look) -> dict[str, Chart]:
    samples = watch.samples
    times = [sample.at for sample in samples]

    def plot(
        name: str,
        unit: str,
        show: Callable[[float | None], str],
        *lines: Series,
        least: float = 1.0,
        filled: bool = True,
    ) -> Chart:
        made = Plot(name, unit, show, times, lines, watch.every, watch.span, least, filled)
        return draw(made, look.now_ms / 1000)

    return {
        "throughput": plot(
            "Throughput",
            "a second",
            words.rate,
            _line("succeeded", "tone-1", samples, lambda sample: sample.succeeded),
            _line("retried", "tone-warn", samples, lambda sample: sample.retried),
            _line("failed", "tone-bad", samples, lambda sample: sample.failed),
        ),
        "run": plot(
            "Run time",
            "",
            words.milliseconds,
            _line("p50", "tone-2", samples, lambda sample: sample.run_ms[0]),
            _line("p95", "tone-1", samples, lambda sample: sample.run_ms[1]),
            _line("p99", "tone-3", samples, lambda sample: sample.run_ms[2]),
            filled=False,
        ),
        "due": plot(
            "Queue depth",
            "jobs",
            words.count,
            _line("due", "tone-1", samples, lambda sample: sample.due),
            _line("running", "tone-2", samples, lambda sample: sample.running),
            least=2.0,
        ),
        "oldest": plot(
            "Oldest due job",
            "",
            words.age,
            _line("age", "tone-1", samples, lambda sample: sample.oldest_seconds),
        ),
    }


def _line(name: str, tone: str, samples: Sequence[Sample], value: Callable[[Sample], float | None]) -> Series:
    return Series(name, tone, [value(sample) for sample in samples])


def _tasks(look: Look) -> list[TaskRow]:
    rows = [
        TaskRow(
            name,
            did.ended,
            did.failed / did.ended if did.ended else None,
            _ms(did.summary.queue_wait.percentile(95)),
            _ms(did.summary.run.percentile(50)),
            _ms(did.summary.run.percentile(95)),
        )
        for name, did in look.activity.tasks.items()
    ]
    return sorted(rows, key=lambda row: (-row.ended, row.name))[:_MOST_TASKS]


def _failures(view: View, look: Look) -> list[tuple[EndedAttempt, str]]:
    """Return the last attempts that failed, with their errors as they may be shown."""
    found = []
    for each in look.fleet.failures(_MOST_FAILURES):
        kind, _, message = (each.error or "").partition(": ")
        found.append((each, words.short_error(kind, view.dashboard.masking.text(message))))
    return found


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
