"""Workers: what each is, how busy it is, and what it runs now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.fleet import WorkerActivity
from common.worker_reports import WorkerReport
from dashboard.fleet_watch import Look
from dashboard.pages.view import Page, View

__all__ = ["WORKERS"]

_SILENT = 12.0
"""Seconds without a word after which a worker is shown as silent: one that lives reports every five."""

_LATE_LOOP = 100.0
"""Milliseconds by which an event loop is late for that to be shown as bad: its neighbours wait as long."""


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker.

    Attributes:
        load: the part of its places that are taken.
        did: what it did in the last seconds; None before there are two reports of it.
        silent: for how many seconds it has said nothing, if that is remarkable.
    """

    report: WorkerReport
    load: float
    did: WorkerActivity | None
    silent: float | None
    up_seconds: float
    is_late: bool

    @property
    def word(self) -> str:
        """How it stands: a class of the style sheet."""
        if self.silent is not None:
            return "lost"
        if self.report.state != "running":
            return "failed" if self.report.state == "fenced" else "released"  # a newer worker may know other states
        return "paused" if self.report.is_paused else "on"

    @property
    def said(self) -> str:
        """How it stands, in a word."""
        if self.silent is not None:
            return "silent"
        if self.report.state == "running":
            return "paused" if self.report.is_paused else "up"
        return self.report.state


async def _read(view: View) -> Mapping[str, Any]:
    look = await view.look()
    versions = {(each.version, each.python) for each in look.fleet.workers}
    return {"rows": _rows(look), "longest": look.fleet.longest(30), "mixed": len(versions) > 1}


WORKERS = Page("workers.html", "workers", _read)


def _rows(look: Look) -> list[WorkerRow]:
    rows = []
    for report in look.fleet.workers:
        silent = look.fleet.silent_s(report)
        lag = report.worst_loop_lag_ms
        rows.append(
            WorkerRow(
                report,
                report.running / report.concurrency if report.concurrency else 0.0,
                look.activity.workers.get(report.worker),
                silent if silent > _SILENT else None,
                max(0, look.now_ms - report.started_ms) / 1000,
                lag is not None and lag > _LATE_LOOP,
            )
        )
    return rows
