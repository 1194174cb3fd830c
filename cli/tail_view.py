"""What `barque tail` prints of an attempt, for people and for programs. Asks nothing itself."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.text import Text

from cli.measures import span
from cli.output import machine, show_line, styled, visible
from cli.workers_view import attempt_document
from common.redis.fleet import Gap
from common.worker_reports import EndedAttempt

__all__ = ["attempt_line", "gap_words", "outcome_style", "show_attempt"]

_WORTH_SAYING_MS = 1000
"""A wait for its turn past which a line says so."""


def show_attempt(attempt: EndedAttempt, *, long: bool, as_json: bool) -> None:
    """Print one attempt."""
    if as_json:
        machine(attempt_document(attempt))
    else:
        show_line(attempt_line(attempt, long=long))


def attempt_line(attempt: EndedAttempt, *, long: bool = False) -> Text:
    """Return the line of one attempt."""
    when = datetime.fromtimestamp(attempt.ended_ms / 1000, tz=UTC)
    line = styled(f"{when:%H:%M:%S} ", "dim")
    line.append(f"{visible(attempt.outcome):<9} ", outcome_style(attempt))
    line.append(f"{span(attempt.run_ms / 1000):>7} ")
    line.append(visible(attempt.task) or "(unknown)", "bold")
    line.append(f" {visible(attempt.job_id)}")
    if attempt.attempt > 1:
        line.append(f" attempt {attempt.attempt}", "dim")
    if long or attempt.queued_ms >= _WORTH_SAYING_MS:
        line.append(f" waited {span(attempt.queued_ms / 1000)}", "dim")
    if long:
        busy = span(attempt.busy_ms / 1000)
        line.append(f" busy {busy} in {visible(attempt.queue)} on {visible(attempt.worker)}", "dim")
    if attempt.retry_in_ms is not None:
        line.append(f" again in {span(attempt.retry_in_ms / 1000)}", "yellow")
    if attempt.error:
        line.append(f" {visible(attempt.error)}".replace("\n", " "), "red" if attempt.failed else "")
    return line


def outcome_style(attempt: EndedAttempt) -> str:
    """Return the style of an outcome: red where the job has failed for good, or its lease was lost."""
    if attempt.outcome == "succeeded":
        return "green"
    if attempt.failed and attempt.retry_in_ms is None:
        return "red"
    return "yellow"


def gap_words(gap: Gap) -> str:
    """Return what is said of attempts that are not shown."""
    missed = "some" if gap.missed is None else f"{gap.missed:,}"
    return f"… {missed} not shown{f' of {gap.worker}' if gap.worker else ''}: {gap.why}"
