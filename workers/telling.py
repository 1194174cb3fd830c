"""What is told of one attempt to who looks on, in bounded words: never its arguments or its result."""

from __future__ import annotations

from common.worker_reports import LONGEST_ERROR, LONGEST_ID, LONGEST_NAME, EndedAttempt, RunningAttempt, bounded
from workers.attempt import Attempt, Outcome

__all__ = ["running", "told_of"]


def told_of(outcome: Outcome, ended_ms: int) -> EndedAttempt:
    """Return what is told of an attempt: never its arguments or its result."""
    attempt = outcome.attempt
    error = outcome.error
    return EndedAttempt(
        bounded(attempt.job_id, LONGEST_ID),
        bounded(attempt.task_name, LONGEST_NAME),
        bounded(attempt.queue, LONGEST_NAME),
        attempt.number,
        outcome.kind.value,
        ended_ms,
        attempt.queued_ms,
        round(outcome.run_seconds * 1000, 3),
        round(attempt.busy * 1000, 3),
        error=None
        if error is None
        else bounded(f"{error.type.removeprefix('builtins.')}: {error.message}", LONGEST_ERROR),
        retry_in_ms=outcome.retry_in_ms,
    )


def running(attempt: Attempt) -> RunningAttempt:
    """Return what is told of an attempt that runs."""
    return RunningAttempt(
        bounded(attempt.job_id, LONGEST_ID),
        bounded(attempt.task_name, LONGEST_NAME),
        bounded(attempt.queue, LONGEST_NAME),
        attempt.number,
        attempt.started_ms,
    )
