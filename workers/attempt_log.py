"""The one log line of each attempt, its keys fixed: docs/logging.md says what each means.

Owns the names and order of the keys. Written after the outcome is recorded, so that the line says what is true.
"""

from __future__ import annotations

from typing import Any

import structlog

from common.jobs import OutcomeKind
from workers.attempt import Outcome

__all__ = ["AttemptLog"]

_EVENTS = {kind: f"job_{kind.value}" for kind in OutcomeKind}
_QUIET = {OutcomeKind.SUCCEEDED, OutcomeKind.RELEASED, OutcomeKind.CANCELLED}


class AttemptLog:
    """Writes a line an attempt: info when it went well, warning on a retry or a loss, error on a failure."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._logger: Any = structlog.get_logger("barque.attempt").bind()  # resolved once, not per line

    def write(self, outcome: Outcome) -> None:
        """Write the line of one attempt."""
        attempt = outcome.attempt
        kind = outcome.kind
        # arq's Job.abort() makes a job due in 1970, so that a worker looks at it at once.
        since_ms = max(attempt.due_ms, attempt.payload.enqueued_ms if attempt.payload is not None else 0)
        queued_ms = max(0, attempt.started_ms - since_ms) if attempt.started_ms else 0
        run_ms = round(outcome.run_seconds * 1000, 3)
        line: dict[str, Any] = {
            "job_id": attempt.job_id,
            "task": attempt.task_name,
            "queue": attempt.queue,
            "attempt": attempt.number,
            "max_attempts": attempt.max_attempts,
            "worker": self._worker,
            "queued_ms": queued_ms,
            "run_ms": run_ms,
            "total_ms": round(queued_ms + run_ms, 3),
        }
        if outcome.error is not None:
            line["error"] = f"{outcome.error.type.removeprefix('builtins.')}: {outcome.error.message}"
            if outcome.error.traceback:
                line["traceback"] = outcome.error.traceback
        if outcome.retry_in_ms is not None:
            line["retry_in_ms"] = outcome.retry_in_ms
        if kind in _QUIET:
            self._logger.info(_EVENTS[kind], **line)
        elif kind in {OutcomeKind.FAILED, OutcomeKind.TIMED_OUT} and outcome.retry_in_ms is None:
            self._logger.error(_EVENTS[kind], **line)
        else:
            self._logger.warning(_EVENTS[kind], **line)
