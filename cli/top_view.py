"""What `barque top` shows: one picture of the fleet as tables that fit a screen, as plain text, or as JSON.

Owns which tables there are and how they share the lines of a screen. Asks nothing itself, and knows no terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.text import Text

from cli.columns import Column, fitting
from cli.fleet_look import QueueStanding
from cli.measures import count, percentile_span, rate, span
from cli.output import machine, show, styled, width
from cli.queues_view import queue_columns
from cli.tail_view import outcome_style
from cli.top_document import document_of
from cli.workers_view import worker_columns
from common.fleet import Activity, FleetSnapshot, TaskActivity
from common.worker_reports import EndedAttempt

__all__ = ["SECTIONS", "SORTS", "Picture", "View", "screen_of", "show_once"]

_MOST_ROWS = 10
"""Rows of a table that is printed once."""

_FEW_ROWS = 3
"""Rows that a table of a screen has before another one has more, where it has so many."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The fleet at one moment.

    Attributes:
        where: the server's URL without a password.
        may_observe: whether workers could be asked to count by task.
    """

    where: str
    snapshot: FleetSnapshot
    activity: Activity
    queues: Sequence[QueueStanding]
    dead_letters: int
    may_observe: bool = True


SORTS = ("rate", "p95", "failures", "name")
"""What tasks are sorted by."""

SECTIONS = ("queues", "workers", "tasks", "running", "failures", "slowest")


@dataclass(slots=True)
class View:
    """How somebody looks at it.

    Attributes:
        section: the table that is shown alone; None shows all.
        standing: the picture does not change.
        trouble: why it does not, if that is not what was asked for.
    """

    sort: str = SORTS[0]
    section: str | None = None
    standing: bool = False
    help: bool = False
    trouble: str | None = None


def show_once(picture: Picture, *, as_json: bool) -> None:
    """Print one picture, for people or for a program."""
    if as_json:
        machine(document_of(picture))
        return
    room = width()
    show(*_head(picture, room))
    for name in SECTIONS:
        columns = _columns(picture, name, SORTS[0])
        if _height(columns) or name in {"queues", "workers", "tasks"}:
            show("", *_table(picture, name, columns, _MOST_ROWS, room))


def screen_of(picture: Picture, view: View, room: int, height: int) -> RenderableType:
    """Return what a screen of this size shows."""
    head, foot = _head(picture, room), [_foot(view, room)]
    if view.trouble is not None:
        head.append(styled(_cut(view.trouble, room), "red"))
    if view.help:
        return Group(*head, "", *_HELP)
    left = height - len(head) - len(foot)
    names = SECTIONS if view.section is None else (view.section,)
    tables = {name: _columns(picture, name, view.sort) for name in names}
    rows = _share(tables, left)
    parts: list[RenderableType] = []
    used = 0
    for name, columns in tables.items():
        if name in rows:
            parts += ["", *_table(picture, name, columns, rows[name], room)]
            used += 2 + max(1, rows[name])
    parts += [""] * max(0, left - used)
    return Group(*head, *parts, *foot)


def _share(tables: dict[str, list[Column]], left: int) -> dict[str, int]:
    """Return how many rows each table gets, those that get none left out.

    Each takes a blank line and its titles besides. The first ones matter most, and a table of one row of many is of
    little use: the last ones are left out rather. What has nothing to show is shown as long as that is worth knowing.
    """
    rows: dict[str, int] = {}
    for name, columns in tables.items():
        wanted = max(1, min(_height(columns), _FEW_ROWS))
        some = min(wanted, left - 2)
        if some >= min(wanted, 2) and (_height(columns) or name in {"queues", "workers"} or len(tables) == 1):
            rows[name] = some
            left -= 2 + some
    while left > 0:
        hungry = [name for name in rows if rows[name] < _height(tables[name])]
        if not hungry:
            break
        for name in hungry[:left]:
            rows[name] += 1
            left -= 1
    return rows


def _height(columns: Sequence[Column]) -> int:
    return len(columns[0].cells)


def _table(picture: Picture, name: str, columns: list[Column], rows: int, room: int) -> list[RenderableType]:
    """Return a table of so many rows at the most; its first title says how many there are."""
    height = _height(columns)
    title = _TITLES[name]
    if not height:
        return [styled(title, "bold"), styled(_cut(_nothing(picture, name), room), "dim")]
    columns[_first_text(columns)].title = f"{title} {height}" if rows >= height else f"{title} {rows} of {height}"
    for column in columns:
        del column.cells[rows:]
    return [fitting(columns, room)]


def _first_text(columns: Sequence[Column]) -> int:
    return next(index for index, column in enumerate(columns) if not column.number)


_TITLES = {
    "queues": "QUEUES",
    "workers": "WORKERS",
    "tasks": "TASKS",
    "running": "RUNNING LONGEST",
    "failures": "FAILED LAST",
    "slowest": "SLOWEST OF THE LAST MINUTE",
}


def _nothing(picture: Picture, name: str) -> str:
    if name == "workers":
        return "No worker is alive; `barque worker` starts one."
    if name == "tasks" and not picture.may_observe:
        return "This user may not look on (`barque doctor --acl` prints the rights): workers do not count by task."
    if name in {"tasks", "slowest"} and not picture.snapshot.observed:
        return "Workers have just been asked to count."
    return {"queues": "None.", "tasks": "Nothing ended in the last seconds.", "running": "Nothing runs."}.get(
        name, "None."
    )


def _head(picture: Picture, room: int) -> list[RenderableType]:
    snapshot, activity = picture.snapshot, picture.activity
    now = datetime.fromtimestamp(snapshot.taken_ms / 1000, tz=UTC)
    first = Text.assemble((f"{now:%H:%M:%S} UTC  ", "bold"), _cut(picture.where, max(10, room - 14)))
    workers = len(snapshot.workers)
    second = Text(f"{workers} worker{'' if workers == 1 else 's'}", style="" if workers else "red")
    second.append(f"  {count(snapshot.running())}/{count(snapshot.concurrency)} running  ")
    second.append(f"{rate(activity.ended)} ended", "bold")
    second.append(f"  {rate(activity.retried)} retried", "yellow" if activity.retried else "")
    second.append(f"  {rate(activity.failed)} failed", "red" if activity.failed else "")
    second.append(f"  {count(picture.dead_letters)} dead")
    second.truncate(room, overflow="ellipsis")
    return [first, second]


def _foot(view: View, room: int) -> Text:
    shown = view.section or "all"
    words = f"q end  Tab {shown}  s sort: {view.sort}  Space {'go on' if view.standing else 'stand still'}  ? help"
    return Text(_cut(words, room), style="reverse")


_HELP: list[RenderableType] = [
    Text("q      end"),
    Text("Tab    one table after the other alone, then all"),
    Text("1-6    queues, workers, tasks, running, failures, slowest alone;  0  all"),
    Text("s      sort tasks by rate, p95, failures, name"),
    Text("Space  stand still; again: go on"),
    Text("?      this, and back"),
    Text(""),
    Text(
        "Rates and percentiles are of the last ten seconds. p50, p95 and p99 are from start to end, Wait from due to "
        "start. Busy is how many event loops a task keeps busy: 1.0 is a whole one. Lag is by how much a worker's "
        "event loop was late at the worst. Oldest is for how long the first due job of a queue has waited. In red is "
        "what has failed for good, or is served by nobody."
    ),
]


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: max(0, room - 1)]}…"


def _columns(picture: Picture, name: str, sort: str) -> list[Column]:
    snapshot = picture.snapshot
    made: dict[str, Callable[[], list[Column]]] = {
        "queues": lambda: queue_columns(picture.queues),
        "workers": lambda: worker_columns(snapshot, snapshot.workers, did=picture.activity.workers),
        "tasks": lambda: _task_columns(picture.activity, sort),
        "running": lambda: _running_columns(snapshot),
        "failures": lambda: _ended_columns(snapshot, snapshot.failures(), error=True),
        "slowest": lambda: _ended_columns(snapshot, snapshot.slowest(), error=False),
    }
    return made[name]()


def _task_columns(activity: Activity, sort: str) -> list[Column]:
    task, ended = Column("", least=16), Column("Rate", number=True)
    failed, fails = Column("Failed", number=True), Column("%", number=True, matters=2)
    p50, p95 = Column("p50", number=True, matters=6), Column("p95", number=True)
    p99 = Column("p99", number=True, matters=3)
    wait50, wait95 = Column("Wait p50", number=True, matters=4), Column("Wait p95", number=True, matters=5)
    busy = Column("Busy", number=True, matters=1)
    for name, did in sorted(activity.tasks.items(), key=lambda item: _order(item, sort)):
        run, wait = did.summary.run, did.summary.queue_wait
        share = did.summary.failed / did.summary.ended
        style = "red" if share >= 0.5 else "yellow" if share else ""
        task.cells.append(styled(name))
        ended.cells.append(styled(rate(did.ended)))
        failed.cells.append(styled(rate(did.failed), style))
        fails.cells.append(styled(f"{share:.0%}" if share else "", style))
        for column, values, percent in (
            (p50, run, 50), (p95, run, 95), (p99, run, 99), (wait50, wait, 50), (wait95, wait, 95),
        ):  # fmt: skip
            column.cells.append(styled(percentile_span(values.percentile(percent))))
        seconds = did.summary.ended / did.ended if did.ended else 0.0
        busy.cells.append(styled(f"{did.summary.busy_s / seconds:.2f}" if seconds else "-"))
    return [task, ended, failed, fails, p50, p95, p99, wait50, wait95, busy]


def _order(item: tuple[str, TaskActivity], sort: str) -> tuple[float, str]:
    name, did = item
    figure = {"rate": did.ended, "p95": did.summary.run.percentile(95) or 0.0, "failures": did.failed, "name": 0.0}[
        sort
    ]
    return -figure, name


def _running_columns(snapshot: FleetSnapshot) -> list[Column]:
    task, runs = Column("", least=16), Column("For", number=True)
    attempt, job = Column("Attempt", number=True, matters=1), Column("Job", least=16, matters=3)
    worker = Column("Worker", least=12, matters=2)
    said_at = {reported.worker: reported.reported_ms for reported in snapshot.workers}
    for one in snapshot.longest():
        task.cells.append(styled(one.task))
        runs.cells.append(styled(span(max(0, said_at[one.worker] - one.started_ms) / 1000)))
        attempt.cells.append(styled(one.attempt))
        job.cells.append(styled(one.job_id))
        worker.cells.append(styled(one.worker))
    return [task, runs, attempt, job, worker]


def _ended_columns(snapshot: FleetSnapshot, ended: Sequence[EndedAttempt], *, error: bool) -> list[Column]:
    task, when = Column("", least=14), Column("Ago", number=True)
    outcome, run = Column("Outcome", least=9, matters=5), Column("Ran", number=True, matters=2)
    attempt, job = Column("Attempt", number=True, matters=1), Column("Job", least=16, matters=3)
    why = Column("Error", least=20, matters=6)
    for one in ended:
        task.cells.append(styled(one.task or "(unknown)"))
        when.cells.append(styled(span(max(0, snapshot.taken_ms - one.ended_ms) / 1000)))
        outcome.cells.append(styled(one.outcome, outcome_style(one)))
        run.cells.append(styled(span(one.run_ms / 1000)))
        attempt.cells.append(styled(one.attempt))
        job.cells.append(styled(one.job_id))
        why.cells.append(styled((one.error or "").replace("\n", " "), outcome_style(one)))
    columns = [task, when, outcome, run, attempt, job]
    return [*columns, why] if error else columns
