"""What the demo found, as data, as a page of Markdown and as text for a terminal.

Owns the report's form and its verdict in words. Counts nothing itself: the figures come from `attempts`, the verdict
from `verify`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from cli.demo.attempts import TaskFigures
from cli.demo.server import Answers
from cli.demo.verify import Verdict
from cli.output import show, styled, visible

__all__ = ["Failure", "Paths", "Report", "WorkerFigures", "as_data", "as_markdown", "print_report", "write_report"]

_SHOWN = 10
"""Names listed of each kind of trouble; the JSON report has all."""

_RANKS = ("p50", "p95", "p99")
_HEADINGS = ("task", "jobs", "attempts", "retries", "timeouts", "failed")


class Failure(msgspec.Struct, frozen=True):
    """A job that failed for good, or gave no answer.

    Attributes:
        name: of the item, or of the task where it belongs to no single item.
        error: what it failed with.
    """

    name: str
    error: str


class WorkerFigures(msgspec.Struct, frozen=True):
    """One worker process.

    Attributes:
        jobs: jobs it brought to success.
        exit_code: 0 when it ended in order on SIGTERM.
    """

    number: int
    pid: int
    jobs: int
    exit_code: int


class Paths(msgspec.Struct, frozen=True):
    """Where everything lies, absolute."""

    report: str
    report_json: str
    database: str
    logs: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole result.

    Attributes:
        started_at: ISO 8601, UTC.
        what: what was fetched, in words.
        redis: the server, in words, without a password.
        items: how many were to be fetched.
        checked: of how many the checksum was known beforehand.
        bytes: of all bodies stored.
        wall_seconds: from the first enqueue to the last row stored.
        run_seconds: of all attempts together: how long they take one after another.
        answers: what the demo's own HTTP server answered; None when it was not used.
        unreadable_lines: log lines that are no JSON.
    """

    started_at: str
    what: str
    redis: str
    concurrency: int
    items: int
    checked: int
    bytes: int
    wall_seconds: float
    run_seconds: float
    tasks: list[TaskFigures]
    workers: list[WorkerFigures]
    answers: Answers | None
    failures: list[Failure]
    verdict: Verdict
    unreadable_lines: int
    paths: Paths

    @property
    def ok(self) -> bool:
        """Whether every row is there and right, and every worker ended in order."""
        return self.verdict.ok and not self.failures and all(worker.exit_code == 0 for worker in self.workers)

    @property
    def gain(self) -> float:
        """How many times faster this was than one attempt after another."""
        return self.run_seconds / self.wall_seconds if self.wall_seconds else 0.0


def write_report(report: Report) -> None:
    """Write the report as Markdown and as JSON to where its paths say."""
    Path(report.paths.report).write_text(as_markdown(report), encoding="utf-8")
    Path(report.paths.report_json).write_bytes(msgspec.json.format(msgspec.json.encode(as_data(report)), indent=2))


def as_data(report: Report) -> dict[str, Any]:
    """Return the report as plain data for JSON, with `ok` and `gain` beside its attributes."""
    return {"ok": report.ok, **msgspec.to_builtins(report), "gain": round(report.gain, 2)}


def as_markdown(report: Report) -> str:
    """Return the report as a page of Markdown."""
    rows = list(_rows(report.tasks))
    worker_rows = [[str(w.number), str(w.pid), f"{w.jobs:,}", str(w.exit_code)] for w in report.workers]
    parts = [
        "# Barque demo",
        "\n".join(f"- {line}" for line in _facts(report)),
        f"**{_summary(report)}**",
        *(_markdown_list(title, names) for title, names in _troubles(report)),
        "## Tasks",
        _markdown_table([*_HEADINGS, *(f"{k} {p} ms" for k in ("queue wait", "run") for p in _RANKS)], rows),
        "## Workers",
        _markdown_table(["worker", "pid", "jobs", "exit code"], worker_rows),
        "## What concurrency bought",
        f"{_bought(report)}.",
        "## Where everything lies",
        "\n".join(f"- {name or 'as JSON'}: `{path}`" for name, path in _places(report)),
    ]
    return "\n\n".join(parts) + "\n"


def print_report(report: Report) -> None:
    """Print the report for a person, on standard output; all but paths fits 80 columns."""
    rows = list(_rows(report.tasks))
    show(
        Text(),
        _text_table(_HEADINGS, [cells[: len(_HEADINGS)] for cells in rows]),
        Text(),
        _text_table(
            ("milliseconds", *(f"{kind} {rank}" for kind in ("wait", "run") for rank in _RANKS)),
            [[cells[0], *cells[len(_HEADINGS) :]] for cells in rows],
        ),
        Text(),
        *(styled(f"{line[:1].upper()}{line[1:]}.") for line in [*_facts(report)[2:], _bought(report)]),
        Text(),
        styled(_summary(report), "bold green" if report.ok else "bold red"),
    )
    for title, names in _troubles(report):
        show(styled(f"{title}:", "red"), *(styled(f"  {name}") for name in _shortened(names)))
    print()
    for name, path in _places(report):
        print(f"{name:<9} {visible(path)}")  # not by rich, which would break it: a path in two pieces cannot be copied


def _text_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if table.columns else "left", no_wrap=True)
    for cells in rows:
        table.add_row(*map(styled, cells))
    return table


def _rows(tasks: Sequence[TaskFigures]) -> Iterator[list[str]]:
    for figures in tasks:
        counts = (figures.jobs, figures.attempts, figures.retries, figures.timeouts, figures.failed)
        spans = (figures.queue_wait_ms, figures.run_ms)
        yield [
            figures.task or "(unreadable)",
            *(f"{count:,}" for count in counts),
            *(f"{value:,.0f}" if value >= 10 else f"{value:.1f}" for s in spans for value in (s.p50, s.p95, s.p99)),
        ]


def _facts(report: Report) -> list[str]:
    facts = [
        f"{report.started_at}: {report.what}",
        f"{len(report.workers)} worker processes of {report.concurrency} jobs at once, on {report.redis}",
    ]
    if report.answers is not None:
        answers = report.answers
        facts.append(
            f"the HTTP server got {answers.requests:,} requests: it answered {answers.errors:,} with 500, "
            f"{answers.busy:,} with 429 and Retry-After, and let {answers.stalled:,} stall"
        )
    shares = ", ".join(f"{worker.jobs:,} by worker {worker.number}" for worker in report.workers)
    facts.append(f"jobs done: {shares}")
    return facts


def _bought(report: Report) -> str:
    times = f"{_duration(report.run_seconds)} of run time in {_duration(report.wall_seconds)} of wall time"
    if report.gain < 1.05:
        return f"{times}, waits before retries included: too little at once for concurrency to buy anything"
    return f"{times}: concurrency made it {report.gain:.1f} times faster than one after another"


def _summary(report: Report) -> str:
    verdict = report.verdict
    if report.ok and report.checked:
        return (
            f"All {report.items:,} rows are there, once each, and every SHA-256 is that of the file on disk "
            f"({_size(report.bytes)})."
        )
    if report.ok:
        return f"All {report.items:,} URLs were fetched, and each has its row ({_size(report.bytes)})."
    counts = {
        "failed": len(report.failures),
        "missing": len(verdict.missing),
        "wrong": len(verdict.wrong),
        "there more than once": len(verdict.duplicated),
        "not asked for": len(verdict.unasked),
    }
    told = [f"{count:,} {word}" for word, count in counts.items() if count]
    badly = [worker.number for worker in report.workers if worker.exit_code]
    told += [f"worker {number} did not end in order" for number in badly]
    return f"{verdict.rows:,} rows for {report.items:,} items: {', '.join(told)}."


def _troubles(report: Report) -> Iterator[tuple[str, list[str]]]:
    verdict = report.verdict
    lists = {
        "Failed": [f"{failure.name}: {failure.error}" for failure in report.failures],
        "No row": verdict.missing,
        "A row that is not the file on disk": verdict.wrong,
        "More rows than one": verdict.duplicated,
        "A row nobody asked for": verdict.unasked,
        "A worker that did not end with exit code 0": [
            f"worker {worker.number} (pid {worker.pid}): {worker.exit_code}"
            for worker in report.workers
            if worker.exit_code
        ],
        "Log lines that could not be read": [f"{report.unreadable_lines:,}"] if report.unreadable_lines else [],
    }
    yield from ((title, names) for title, names in lists.items() if names)


def _places(report: Report) -> list[tuple[str, str]]:
    paths = report.paths
    return [("report", paths.report), ("", paths.report_json), ("database", paths.database), ("logs", paths.logs)]


def _shortened(names: Sequence[str]) -> list[str]:
    more = len(names) - _SHOWN
    return [*names[:_SHOWN], *([f"and {more:,} more, all of them in report.json"] if more > 0 else [])]


def _markdown_list(title: str, names: Sequence[str]) -> str:
    return "\n".join([f"{title}:", "", *(f"- {name}" for name in names)])


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---", *("---:" for _ in headings[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _size(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB" if count >= 100_000 else f"{count:,} bytes"
