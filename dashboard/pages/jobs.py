"""Jobs, a page at a time: by state, and by id, task, key, queue and text of error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from common.errors import ConfigurationError
from common.jobs import JobInfo, JobState
from dashboard.pages.view import Page, View
from dashboard.pages.words import short_error
from producer.job_filters import JobFilters
from producer.listing import JobPage

__all__ = ["JOBS"]

_ON_A_PAGE = 50

_FIELDS = ("id", "task", "key", "error", "queue")

_STATES = ("running", "queued", "waiting", "scheduled", "dead", "succeeded", "failed", "cancelled")
"""As `producer.jobs` knows them; those whose result cannot be read here are among all."""


class JobRow(NamedTuple):
    """One job of the list.

    Attributes:
        about: its error, or what it waits for, in a line; "" where there is nothing to say.
        when: what time is shown: since when it stands where it stands, as far as that is known.
    """

    info: JobInfo
    about: str
    is_error: bool
    when: Any


async def _read(view: View) -> Mapping[str, Any]:
    query = view.query
    chosen = {name: query[name] for name in _FIELDS if name in query}
    state = query.get("state", "")
    found, complaint = JobPage((), None, 0), ""
    filters: JobFilters = {**chosen, "state": state or None}  # type: ignore[typeddict-item]  # the names are its own
    try:
        found = await view.ask(
            "jobs", lambda producer: producer.jobs(limit=_ON_A_PAGE, cursor=query.get("after"), **filters)
        )
    except ConfigurationError as error:
        complaint = str(error)
    look = await view.look()
    return {
        "rows": [_row(view, info) for info in found.jobs],
        "page": found,
        "chosen": chosen,
        "state": state,
        "states": _STATES,
        "complaint": complaint,
        "is_first": "after" not in query,
        "is_empty_server": not chosen and not state and not look.due and not look.dead and not look.fleet.running(),
    }


JOBS = Page("jobs.html", "jobs", _read)


def _row(view: View, info: JobInfo) -> JobRow:
    masking = view.dashboard.masking
    about, is_error = "", False
    if info.error is not None:
        about, is_error = short_error(info.error.type, masking.text(info.error.message)), True
    elif info.task is None and info.state is JobState.RUNNING:
        about = "has ended meanwhile"
    elif info.unreadable:
        about, is_error = info.unreadable, True
    elif info.waits_for:
        about = f"waits for {masking.text(info.waits_for)}"
    elif info.progress is not None:
        part = info.progress.fraction
        message = masking.text(info.progress.message)
        about = f"{round(part * 100)} % {message}" if part is not None else message
    return JobRow(info, about.strip(), is_error, _when(info))


def _when(info: JobInfo) -> Any:
    if info.state.ended or info.state is JobState.UNKNOWN:
        return info.finished_at
    if info.state is JobState.SCHEDULED:
        return info.due_at
    return info.started_at or info.enqueued_at
