"""The verdicts of a run as tables for people, as JSON for programs, as Markdown for a page.

Everything a colour says, a word says too.

    jobs      acknowledged: their enqueue returned
    lost      of these, without an outcome: must be 0
    run twice second runs that a fault explains; those `without cause` must be 0
    recovery  the longest a job that was struck by a fault waited for its next start
"""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version

import msgspec
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tests.chaos.driver.verdict import Verdict

__all__ = ["Report", "as_json", "as_markdown", "as_tables", "describe_machine"]

_HEADINGS = ("scenario", "jobs", "lost", "run twice", "without cause", "longest recovery", "verdict")
_CAUSES = ("scenario", "what was done", "times", "run twice for it")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the suite.

    Attributes:
        machine: where and with what.
        unfinished: what is to be said of scenarios that came to no end.
    """

    machine: str
    verdicts: list[Verdict]
    unfinished: list[str]


def describe_machine(server: str) -> str:
    """Return in a line what the figures were had with."""
    now = datetime.now(tz=UTC).strftime("%Y-%m-%d")
    return (
        f"{now}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"{server} with appendfsync always, arq {version('arq')}"
    )


def as_tables(report: Report) -> list[RenderableType]:
    """Return what is printed: a row a scenario, a row a fault, and what was wrong below them."""
    verdicts = _table("The verdict", _HEADINGS)
    for verdict in report.verdicts:
        last = "green" if verdict.ok else "bold red"
        styles = ["", "", _good_if(not verdict.lost), "", _good_if(not verdict.unexplained), "", last]
        verdicts.add_row(*(Text(cell, style=style) for cell, style in zip(_cells(verdict), styles, strict=True)))
    causes = _table("What was done, and what ran twice for it", _CAUSES)
    for row in _causes(report):
        causes.add_row(*map(Text, row))
    wrong = [Text(f"{found.scenario}: {words}", style="red") for found in report.verdicts for words in found.wrong()]
    wrong += [Text(f"not finished: {words}", style="red") for words in report.unfinished]
    return [verdicts, causes, *wrong, Text(_sum(report), style="bold"), Text(report.machine, style="dim")]


def _table(title: str, headings: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for heading in headings:
        words = heading in {"scenario", "what was done", "verdict"}
        table.add_column(heading, justify="left" if words else "right", no_wrap=heading == "scenario")
    return table


def _good_if(well: bool) -> str:
    return "green" if well else "bold red"


def as_markdown(report: Report) -> str:
    """Return the same as a page's tables."""
    lines = [f"{report.machine}.", ""]
    for headings, rows in ((_HEADINGS, map(_cells, report.verdicts)), (_CAUSES, _causes(report))):
        lines += [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines.append("")
    lines += [f"* {verdict.scenario}: {words}" for verdict in report.verdicts for words in verdict.wrong()]
    lines += [f"* not finished: {words}" for words in report.unfinished]
    return "\n".join([*lines, _sum(report), ""])


def as_json(report: Report) -> str:
    """Return all of it, each verdict with `ok`."""
    plain = msgspec.to_builtins(report)
    for verdict, found in zip(plain["verdicts"], report.verdicts, strict=True):
        verdict["ok"] = found.ok
    return msgspec.json.format(msgspec.json.encode(plain), indent=2).decode() + "\n"


def _cells(verdict: Verdict) -> list[str]:
    recovery = "-" if verdict.longest_recovery is None else f"{verdict.longest_recovery:.1f} s"
    return [
        verdict.scenario,
        f"{verdict.acknowledged:,}",
        f"{len(verdict.lost):,}",
        f"{sum(verdict.twice.values()):,}",
        f"{len(verdict.unexplained):,}",
        recovery,
        "kept" if verdict.ok else "BROKEN",
    ]


def _causes(report: Report) -> list[list[str]]:
    """Return a row for each fault that was done, and for each cause that was not our doing."""
    return [
        [verdict.scenario, what, f"{verdict.faults.get(what, 0):,}", f"{verdict.twice.get(what, 0):,}"]
        for verdict in report.verdicts
        for what in {**verdict.faults, **verdict.twice}
    ]


def _sum(report: Report) -> str:
    verdicts = report.verdicts
    recoveries = [verdict.longest_recovery for verdict in verdicts if verdict.longest_recovery is not None]
    longest = f"{max(recoveries):.1f} s" if recoveries else "-"
    return (
        f"{sum(verdict.acknowledged for verdict in verdicts):,} jobs acknowledged, "
        f"{sum(len(verdict.lost) for verdict in verdicts):,} lost, "
        f"{sum(sum(verdict.twice.values()) for verdict in verdicts):,} run twice for a cause, "
        f"{sum(len(verdict.unexplained) for verdict in verdicts):,} without; longest recovery {longest}"
    )
