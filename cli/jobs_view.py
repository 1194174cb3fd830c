"""What `barque jobs` prints, for people and for programs. Asks nothing itself."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.text import Text

from cli.job_view import STYLES, error_text, job_document
from cli.output import listing, machine, note, show, styled, visible
from cli.words import age, ago, call
from cli.words import jobs as so_many
from common.jobs import JobInfo, JobState
from producer.listing import JobPage

__all__ = ["Listing"]

_LONGEST = 160


class Listing:
    """Pages of jobs, one after the other.

    Args:
        everything: there are to be more of them.
        arguments: show these, too.
    """

    def __init__(self, *, everything: bool, arguments: bool, as_json: bool) -> None:
        self._everything = everything
        self._arguments = arguments
        self._as_json = as_json
        self._shown = 0
        self._several = False
        self._looked_at = 0
        self._unreadable = 0

    def show(self, page: JobPage) -> None:
        """Print a page."""
        self._looked_at += page.looked_at
        self._unreadable += page.unreadable
        if self._as_json:
            machine(
                {
                    "jobs": [job_document(info, arguments=self._arguments) for info in page.jobs],
                    "next": page.next,
                    "looked_at": page.looked_at,
                    "unreadable": page.unreadable,
                    "results_refused": page.results_refused,
                }
            )
            return
        if not page.jobs:
            return
        now = datetime.now(UTC)
        several = len({info.queue for info in page.jobs if info.queue}) > 1
        queue = [("Queue", 5)] if several else []
        table = listing(("Job", 8), ("State", 9), ("Task", 4), *queue, ("Tries", 5), ("When", 7), ("", 24))
        table.show_header = self._shown == 0 or several != self._several
        self._several = several
        for info in page.jobs:
            table.add_row(
                styled(info.job_id),
                styled(_state(info), STYLES.get(info.state, "")),
                styled(info.task or "?", "" if info.task else "yellow"),
                *([styled(info.queue or "?")] if several else []),
                styled(info.attempt),
                styled(_when(info, now)),
                _about(info, arguments=self._arguments),
            )
        show(table)
        self._shown += len(page.jobs)

    def end(self, last: JobPage) -> None:
        """Say what is to be known of all of it, after the last page."""
        if last.results_refused:
            note("Jobs that have ended are left out: the user on the server may not SCAN (docs/security.md).")
        if self._as_json:
            return
        if self._unreadable:
            note(f"{so_many(self._unreadable)} cannot be decoded here, and may fit or not.")
        if last.next is not None:
            fits = f"{so_many(self._shown)} shown" if self._shown else "None fits so far"
            note(f"{fits}, {self._looked_at:,} looked at; go on, with the same options: --cursor {last.next}")
        elif self._shown == 0:
            show(styled(f"There is no such job. {self._looked_at:,} looked at."))


def _state(info: JobInfo) -> str:
    if info.is_dead:
        return "dead"
    waits = info.waits_for is not None and info.state in {JobState.QUEUED, JobState.SCHEDULED}
    return "waiting" if waits else info.state.value


def _when(info: JobInfo, now: datetime) -> str:
    """Return when it ended, began, or is due."""
    if info.finished_at is not None or info.started_at is not None:
        return ago(info.finished_at or info.started_at, now)
    if info.state is JobState.RUNNING or info.due_at is None:
        return "-"
    left = (info.due_at - now).total_seconds()
    return f"in {age(left)}" if left > 0 else ago(info.due_at, now)


def _about(info: JobInfo, *, arguments: bool) -> Text:
    """Return what there is to be said of a job in its state."""
    said = Text()
    if arguments and info.task is not None:
        said.append(f"{visible(call(info.task, info.arguments, info.keyword_arguments))} ")
    if info.state is JobState.ENDED and info.error is not None:
        said.append(_short(f"unreadable: {info.error.message}"), "yellow")
    elif info.error is not None:
        said.append(_short(error_text(info)), "red")
    elif info.unreadable is not None:
        said.append(_short(f"unreadable: {info.unreadable}"), "yellow")
    elif info.waits_for is not None:
        said.append(f"for {visible(info.waits_for)}")
    elif info.worker is not None:
        said.append(f"on {visible(info.worker)}")
    return said


def _short(text: str) -> str:
    first = visible(text.strip().partition("\n")[0])
    return first if len(first) <= _LONGEST else f"{first[: _LONGEST - 1]}…"
