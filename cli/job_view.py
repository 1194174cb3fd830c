"""What is printed of single jobs, for people and for programs: by `barque job` and `barque status ID`. Asks nothing."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from cli.attempts_view import attempts_document, log_lines, timeline
from cli.output import fields, machine, note, show, styled, to_jsonable, visible
from cli.pause import described
from cli.progress_line import progress_text
from cli.words import compact, moment
from common.jobs import JobInfo, JobState
from common.pauses import Pause

__all__ = ["STYLES", "error_text", "job_document", "show_job", "show_jobs"]

STYLES = {
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "yellow",
    JobState.ENDED: "yellow",
    JobState.UNKNOWN: "red",
    JobState.RUNNING: "cyan",
}


def show_jobs(infos: Sequence[JobInfo], pauses: Sequence[Pause], *, arguments: bool, logs: bool, as_json: bool) -> None:
    """Print where these jobs stand; their arguments, and the lines they logged, only if asked for."""
    if as_json:
        machine([job_document(info, arguments=arguments, logs=logs) for info in infos])
        return
    for info in infos:
        _show_rows(info, pauses, arguments=arguments)
        if logs:
            show(*log_lines(info.attempts))


def show_job(info: JobInfo, pauses: Sequence[Pause], *, arguments: bool, as_json: bool) -> None:
    """Print all there is of one job, its traceback, too; its arguments only if asked for."""
    if as_json:
        machine(job_document(info, arguments=arguments, logs=True))
        return
    _show_rows(info, pauses, arguments=arguments)
    if info.logs:
        show(*log_lines(info.attempts))
    if info.error is not None and info.error.traceback:
        show(Text(""), Text(visible(info.error.traceback.rstrip())))
    if info.is_dead:
        note(f"It is kept: barque dead replay {info.job_id} runs it again, barque dead show tells more.")
    if not arguments and info.task is not None:
        note("--arguments shows its arguments, too: they may be secret.")


def error_text(info: JobInfo) -> str:
    """Return the error of a job that has one."""
    assert info.error is not None
    kind = info.error.type.removeprefix("builtins.")
    return f"{kind}: {info.error.message}" if info.error.message else kind


def _show_rows(info: JobInfo, pauses: Sequence[Pause], *, arguments: bool) -> None:
    styles = {"state": STYLES.get(info.state, ""), "error": "red", "unreadable": "yellow"}
    show(
        styled(f"Job {info.job_id}", "bold"),
        fields(_job_rows(info, pauses, arguments=arguments), styles=styles),
        *timeline(info.attempts, info.attempts_dropped),
    )


def _job_rows(info: JobInfo, pauses: Sequence[Pause], *, arguments: bool) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [("state", info.state.value)]
    if info.state is JobState.UNKNOWN:
        if info.task is None and info.unreadable is None:
            rows.append(("", "never enqueued in the queues looked in (--queues names others), or no longer kept"))
            return rows
        rows.append(("", "its payload is there, but it is in none of the queues looked in (--queue names another)"))
    rows += [("task", info.task), ("queue", info.queue), ("priority", info.priority or None)]
    rows += [("attempt", info.attempt or None), ("worker", info.worker)]
    if info.progress is not None:
        rows.append(("progress", progress_text(info.progress, sys.maxsize)))
    for name in ("enqueued_at", "due_at", "started_at", "finished_at"):
        # A running job's score is the end of its lease.
        shown = "lease ends" if name == "due_at" and info.state is JobState.RUNNING else name.removesuffix("_at")
        rows.append((shown, moment(getattr(info, name))))
    paused = _paused_rows(info, pauses)
    rows += paused or [("waits for", info.waits_for)]
    if info.error is not None and info.state is JobState.ENDED:
        rows.append(("", f"its result cannot be read here: {info.error.message}"))
    elif info.error is not None:
        rows.append(("error", error_text(info)))
    rows.append(("unreadable", info.unreadable))
    rows.append(("metadata", compact(info.metadata) if info.metadata else None))
    if arguments and info.task is not None:
        rows.append(("arguments", compact(info.arguments)))
        rows.append(("keywords", compact(info.keyword_arguments) if info.keyword_arguments else None))
    return [(name, value) for name, value in rows if value is not None]


def _paused_rows(info: JobInfo, pauses: Sequence[Pause]) -> list[tuple[str, object]]:
    """Return what is paused and so keeps this job from being started."""
    if info.state not in {JobState.QUEUED, JobState.SCHEDULED}:
        return []
    mine = {"queue": info.queue, "task": info.task}
    held = [pause for pause in pauses if mine[pause.kind] == pause.name]
    return [("paused", f"{pause.kind} {pause.name}, {described(pause)}") for pause in held]


def job_document(info: JobInfo, *, arguments: bool, logs: bool = False) -> dict[str, Any]:
    """Return the job for a program; results have a command of their own, arguments and logs only if asked for."""
    left_out = {"result"} if arguments else {"result", "arguments", "keyword_arguments"}
    named = {field.name: getattr(info, field.name) for field in dataclasses.fields(info)}
    named["error"] = dataclasses.asdict(info.error) if info.error is not None else None
    named["attempts"] = attempts_document(info.attempts, logs=logs)
    if info.progress is not None:
        named["progress"] = {**dataclasses.asdict(info.progress), "fraction": info.progress.fraction}
    document: dict[str, Any] = to_jsonable({k: v for k, v in named.items() if k not in left_out}).value
    return document
