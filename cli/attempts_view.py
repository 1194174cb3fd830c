"""The attempts of one job as `barque status` and `barque dead show` print them, and the lines they logged."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cli.columns import Column, fitting
from cli.output import styled, width
from cli.words import age, moment

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from common.attempts import AttemptInfo

__all__ = ["attempts_document", "log_lines", "timeline"]

_STYLES = {
    "succeeded": "green",
    "running": "cyan",
    "retried": "yellow",
    "failed": "red",
    "timed_out": "red",
    "lost": "red",
    "unreadable": "red",
}


def timeline(attempts: Sequence[AttemptInfo], dropped: int) -> list[RenderableType]:
    """Return the attempts as a table, one a row; nothing for a job that had one alone, which is told of already."""
    if not dropped and (not attempts or (len(attempts) == 1 and attempts[0].outcome in {"succeeded", "running"})):
        return []
    room = width()
    columns = [
        Column("Attempt"),
        Column("Outcome", least=9),
        Column("Started", least=19, matters=2),
        Column("Took", least=4),
        Column("Worker", least=8 if room < 100 else 16, matters=1),
        Column("Said", least=20),
    ]
    for attempt in attempts:
        took = None
        if attempt.started_at is not None and attempt.finished_at is not None:
            took = max(0.0, (attempt.finished_at - attempt.started_at).total_seconds())
        cells = (
            styled(attempt.number or "?"),
            styled(attempt.outcome, _STYLES.get(attempt.outcome, "")),
            styled((moment(attempt.started_at) or "-").removesuffix(" UTC")),
            styled("-" if took is None else age(took)),
            styled(attempt.worker or "-"),
            styled(_said(attempt)),
        )
        for column, cell in zip(columns, cells, strict=True):
            column.cells.append(cell)
    older = [styled(f"{dropped:,} older attempts are not kept.", "dim")] if dropped else []
    return [styled(""), *older, fitting(columns, room, fold=True)]


def log_lines(attempts: Sequence[AttemptInfo]) -> list[Text]:
    """Return what the attempts logged, each under its number."""
    shown = []
    for attempt in attempts:
        if attempt.logs:
            shown += [styled(""), styled(f"Attempt {attempt.number}, {attempt.outcome}", "bold")]
            shown += [styled(f"{_clock(line.at)} {line.level:<8} {line.text}") for line in attempt.logs]
    return shown or [
        styled(""),
        styled("No lines are kept: a task that is to keep some says @task(keep_logs=…).", "dim"),
    ]


def attempts_document(attempts: Sequence[AttemptInfo], *, logs: bool) -> list[dict[str, Any]]:
    """Return the attempts for a program; the lines they logged only if asked for."""
    documents = []
    for attempt in attempts:
        document = dataclasses.asdict(attempt)
        if attempt.timing is not None:
            document["timing"] = attempt.timing._asdict()
        if logs:
            document["logs"] = [line._asdict() for line in attempt.logs]
        else:
            del document["logs"]
        documents.append(document)
    return documents


def _said(attempt: AttemptInfo) -> str:
    """Return why the attempt ended as it did: its error and where it was raised, or what the task said."""
    parts = []
    if attempt.error is not None:
        kind = attempt.error.type.removeprefix("builtins.")
        parts.append(f"{kind}: {attempt.error.message}" if attempt.error.message else kind)
    if attempt.reason:
        parts.append(attempt.reason)
    if attempt.retry_in:
        parts.append(f"due again after {age(attempt.retry_in)}")
    return "; ".join(parts)


def _clock(at: Any) -> str:
    return "-" if at is None else f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
