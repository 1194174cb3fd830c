"""The one log line of each attempt, its keys fixed: docs/logging.md says what each means.

Owns the names and order of the keys. Written after the outcome is recorded, so that the line says what is true.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from common.jobs import OutcomeKind
from common.logs import json_pipe
from workers.attempt import Outcome

__all__ = ["AttemptLine", "AttemptLog"]

_EVENTS = {kind: f"job_{kind.value}" for kind in OutcomeKind}
# A lookup in the enum takes longer than a comparison; one by its member, whose hash is made in Python, ten times so.
_PASSED_ON = OutcomeKind.PASSED_ON
_SUCCEEDED = OutcomeKind.SUCCEEDED
_QUIET = {OutcomeKind.RELEASED, OutcomeKind.CANCELLED, OutcomeKind.DISCARDED, OutcomeKind.SNOOZED}
_FINAL = {OutcomeKind.FAILED, OutcomeKind.TIMED_OUT}
_LIMITED = {"reserved", "displaced", "parked"}
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class AttemptLine(msgspec.Struct, omit_defaults=True, gc=False):
    """What is said of one attempt, in the order it is written."""

    event: str
    job_id: str
    task: str
    queue: str
    attempt: int
    max_attempts: int
    worker: str
    queued_ms: int
    run_ms: float
    total_ms: float
    busy_ms: float
    wait_ms: float
    longest_block_ms: float
    level: str
    timestamp: str
    error: str | None = None
    retry_in_ms: int | None = None
    reason: str | None = None
    batch: int | None = None
    priority: int | None = None
    limited: bool | None = None
    traceback: str | None = None


class AttemptLog:
    """Writes a line an attempt: info when it went well, warning on a retry or a loss, error on a failure."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._pipe = json_pipe()
        self._logger: Any = structlog.get_logger("barque.attempt").bind()  # resolved once, not per line

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Write the lines of a batch of attempts; a log that cannot be written costs its lines and nothing else."""
        with contextlib.suppress(Exception):  # a full disk, a reader that is gone, a host program's own handlers
            self._write(outcomes)

    def _write(self, outcomes: Sequence[Outcome]) -> None:
        now = datetime.now(tz=UTC).isoformat().replace("+00:00", "Z")
        lines = [self._line(outcome, now) for outcome in outcomes if outcome.kind is not _PASSED_ON]
        if self._pipe is None:
            for line in lines:
                self._write_one(line)
            return
        if self._pipe.level > logging.INFO:
            lines = [line for line in lines if _LEVELS[line.level] >= self._pipe.level]
        if lines:
            self._pipe.write(lines)

    def _line(self, outcome: Outcome, now: str) -> AttemptLine:
        attempt = outcome.attempt
        kind = outcome.kind
        payload = attempt.payload
        queued_ms = attempt.queued_ms
        # Whole microseconds, divided: round() to three places takes as long as encoding the line does.
        run_us = int(outcome.run_seconds * 1e6 + 0.5)
        busy_us, longest_us, _ = outcome.timing or attempt.timing
        line = AttemptLine(
            "job_succeeded" if kind is _SUCCEEDED else _EVENTS[kind],
            attempt.job_id,
            "" if payload is None else payload.task,
            attempt.queue,
            attempt.number,
            attempt.max_attempts,
            self._worker,
            queued_ms,
            run_us / 1000,
            (queued_ms * 1000 + run_us) / 1000,
            busy_us / 1000,
            (run_us - busy_us) / 1000 if run_us > busy_us else 0.0,
            longest_us / 1000,
            "info",
            now,
        )
        if kind is not _SUCCEEDED and kind not in _QUIET:
            line.level = "error" if kind in _FINAL and outcome.retry_in_ms is None else "warning"
        if outcome.error is not None:
            line.error = f"{outcome.error.type.removeprefix('builtins.')}: {outcome.error.message}"
            line.traceback = outcome.error.traceback or None
        if outcome.retry_in_ms is not None:
            line.retry_in_ms = outcome.retry_in_ms
        if outcome.reason:
            line.reason = outcome.reason
        if attempt.batch is not None:
            line.batch = attempt.batch.size
        if payload is not None and payload.extras is not None and payload.extras.prio:
            line.priority = payload.extras.prio
        if attempt.past in _LIMITED:
            line.limited = True
        return line

    def _write_one(self, line: AttemptLine) -> None:
        """Write through structlog's own chain: a terminal, or a set-up that is the host program's."""
        said = {name: value for name, value in msgspec.structs.asdict(line).items() if value is not None}
        del said["timestamp"]
        said = {"task": said.pop("task"), **said}  # on a terminal the name is what is looked for first
        getattr(self._logger, said.pop("level"))(said.pop("event"), **said)
