"""What a job that failed for good leaves behind: one letter, made in the step in which its outcome is judged.

Owns which outcomes leave one, and the word for why. How it is stored is complete.lua's, with the outcome; how it is
read, replayed and deleted is producer/dead.py's. Pure but for the clock.
"""

from __future__ import annotations

from common.dead_letters import About, Reason, encode_about
from common.errors import ArgumentMismatch, DeadlinePassed, JobLost, TaskNotFound
from common.jobs import OutcomeKind, RemoteError
from common.redis.store import Letter
from workers.attempt import Attempt
from workers.clock import ServerClock

__all__ = ["Burials"]

_NOT_FOUND = f"{TaskNotFound.__module__}.{TaskNotFound.__qualname__}"
_DEADLINE = f"{DeadlinePassed.__module__}.{DeadlinePassed.__qualname__}"
_LOST = f"{JobLost.__module__}.{JobLost.__qualname__}"
_ARGUMENTS = f"{ArgumentMismatch.__module__}.{ArgumentMismatch.__qualname__}"


class Burials:
    """Makes the letters of one worker's jobs.

    Args:
        keep_ms: keep each so long.
        most: letters there are to be on the server; 0 leaves none.
    """

    def __init__(self, *, worker: str, clock: ServerClock, keep_ms: int, most: int) -> None:
        self._worker = worker
        self._clock = clock
        self._keep_ms = keep_ms
        self._most = most

    def letter(self, attempt: Attempt, kind: OutcomeKind, error: RemoteError) -> Letter | None:
        """Return what a job that ends now leaves behind.

        None if it was cancelled, for then somebody did not want it; or if its payload went before it was started,
        so that there is nothing to keep.
        """
        if kind not in {OutcomeKind.FAILED, OutcomeKind.TIMED_OUT} or attempt.raw is None or not self._most:
            return None
        payload = attempt.payload
        about = About(
            task=attempt.task_name,
            queue=attempt.queue,
            reason=_reason(attempt, kind, error),
            error=error.type,
            message=error.message,
            # The claim that finds the attempts used up is none itself.
            attempts=attempt.number if attempt.runnable is None else min(attempt.number, attempt.max_attempts),
            worker=self._worker,
            enqueued_ms=payload.enqueued_ms if payload is not None else 0,
            started_ms=attempt.started_ms,
            until_ms=self._clock.now_ms() + self._keep_ms,
        )
        traceback = error.traceback.encode(errors="backslashreplace")
        return Letter(attempt.raw, encode_about(about), traceback, self._keep_ms, self._most)


def _reason(attempt: Attempt, kind: OutcomeKind, error: RemoteError) -> Reason:
    if kind is OutcomeKind.TIMED_OUT:
        return "deadline" if error.type == _DEADLINE else "timed_out"
    if attempt.payload is None:
        return "undecodable"
    if attempt.runnable is None:
        if error.type == _NOT_FOUND:
            return "not_found"
        return "expired" if error.message == "job expired" else "failed"
    # A plain function's job has arq's words for it, which say no more than that its attempts are used up.
    if error.type == _LOST or (attempt.number > attempt.max_attempts and attempt.past == "lost"):
        return "lost"
    return "arguments" if error.type == _ARGUMENTS and not error.traceback else "failed"
