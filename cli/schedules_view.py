"""What `barque schedules` prints, for people and for programs. Asks nothing itself."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cli.output import fields, listing, machine, show, styled, to_jsonable
from cli.words import age, ago, call, moment
from common.jobs import JobState
from common.schedule_records import ScheduleInfo
from common.schedules import cron, zone_of

__all__ = ["show_list", "show_one"]

_STYLES = {
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "yellow",
    JobState.RUNNING: "cyan",
}

_UPCOMING = 5


def show_list(found: Sequence[tuple[ScheduleInfo, JobState | None]], *, arguments: bool, as_json: bool) -> None:
    """Print all schedules, one a line."""
    if as_json:
        machine([_document(info, outcome, arguments=arguments) for info, outcome in found])
        return
    if not found:
        show(styled("There are no schedules."))
        return
    now = datetime.now(UTC)
    titles = ("Schedule", "When", "Next run", "Last run", "Outcome")
    table = listing(*((title, len(title)) for title in titles))
    for info, outcome in found:
        state, style = _next(info, now)
        shown, colour = _outcome(outcome)
        table.add_row(
            styled(info.name),
            styled(_when(info)),
            styled(state, style),
            styled(ago(info.last_run_at, now)),
            styled(shown, colour),
        )
    show(table)
    if arguments:
        show(*(styled(f"{info.name}: {_call(info)}") for info, _ in found))


def show_one(info: ScheduleInfo, outcome: JobState | None, *, arguments: bool, as_json: bool) -> None:
    """Print all there is of one schedule."""
    if as_json:
        machine(_document(info, outcome, arguments=arguments))
        return
    now = datetime.now(UTC)
    state, style = _next(info, now)
    shown, colour = _outcome(outcome)
    rows: list[tuple[str, object]] = [
        ("task", info.task),
        ("queue", info.queue),
        ("when", _when(info)),
        ("from", "the code of workers" if info.declared else "added while they run"),
        ("versions", f"{info.versions}, while a deploy is rolling" if info.versions > 1 else None),
        ("missed", info.missed),
        ("jitter", f"up to {age(info.jitter)}" if info.jitter else None),
        ("overlap", None if info.overlap else "no"),
        ("next run", state),
        *(("", tick) for tick in _upcoming(info)),
        (
            "last run",
            None if info.last_run_at is None else f"{moment(info.last_run_at)}, for {moment(info.last_tick)}",
        ),
        ("outcome", shown if outcome is not None else None),
        ("job", info.last_job_id),
        ("runs", info.runs or None),
        ("call", _call(info) if arguments else None),
    ]
    if info.unreadable is not None:
        rows = [("", info.unreadable), *rows[-4:]]
    show(
        styled(f"Schedule {info.name}", "bold"),
        fields([row for row in rows if row[1] is not None], styles={"next run": style, "outcome": colour}),
    )


def _next(info: ScheduleInfo, now: datetime) -> tuple[str, str]:
    """Return when a schedule runs next, or why it does not, and a style."""
    if info.unreadable is not None:
        return "cannot be read here", "red"
    if info.paused_at is not None:
        return f"paused {ago(info.paused_at, now)}", "yellow"
    if info.orphaned:
        return "no worker has its code", "red"
    if info.next_run is None:
        return "never", "yellow"
    left = (info.next_run - now).total_seconds()
    # Some milliseconds late is a matter of two clocks; more says that nobody is there to tick.
    return (f"in {age(left)}", "") if left >= 0 else (f"due {age(-left)} ago", "red" if left < -5 else "")


def _upcoming(info: ScheduleInfo) -> list[str]:
    """Return its next runs on its own clock."""
    if info.next_run is None or info.unreadable is not None or info.orphaned:
        return []
    first = round(info.next_run.timestamp() * 1000)
    zone = zone_of(info.timezone)
    if info.when.startswith("every "):
        ticks: list[int] = [first]
    else:
        later = cron(info.when, timezone=info.timezone).upcoming(first)
        ticks = [first, *itertools.islice(later, _UPCOMING - 1)]
    return [f"{datetime.fromtimestamp(tick / 1000, tz=zone):%a %Y-%m-%d %H:%M:%S %Z}" for tick in ticks]


def _outcome(outcome: JobState | None) -> tuple[str, str]:
    if outcome is None:
        return "-", ""
    if outcome is JobState.UNKNOWN:
        return "not kept", ""
    return outcome.value, _STYLES.get(outcome, "")


def _when(info: ScheduleInfo) -> str:
    return info.when if info.timezone == "UTC" else f"{info.when} {info.timezone}"


def _call(info: ScheduleInfo) -> str:
    return call(info.task, info.arguments, info.keyword_arguments)


def _document(info: ScheduleInfo, outcome: JobState | None, *, arguments: bool) -> dict[str, Any]:
    """Return the schedule for a program; arguments only if asked for."""
    left_out = set() if arguments else {"arguments", "keyword_arguments"}
    named = {field.name: getattr(info, field.name) for field in dataclasses.fields(info)}
    named["last_outcome"] = None if outcome is None else outcome.value
    document: dict[str, Any] = to_jsonable({k: v for k, v in named.items() if k not in left_out}).value
    return document
