"""Say how an attempt ended: one Outcome for whatever happened, one clause a way to end.

Owns the judgement: retried or failed, by the task's policy or by arq's ways. What is written of a job that has ended
is endings.py's. Pure but for the clock; the executor runs attempts and asks here, the completer records what comes
out.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from common.codec import Reading
from common.errors import DeadlinePassed, Discard, PayloadTooLarge, Retry, Snooze
from common.jobs import OutcomeKind, RemoteError
from common.redis.scores import ahead, reserved
from common.redis.store import Finish, PutBack, Rank
from workers.arq_ways import ArqWays
from workers.attempt import Attempt, Outcome, StopReason
from workers.clock import ServerClock
from workers.dead_letters import Burials
from workers.endings import Endings, run_seconds
from workers.error_words import describe
from workers.history import Histories

__all__ = ["CannotRunError", "Verdicts"]


class CannotRunError(Exception):
    """The attempt fails before its function is called, and no retry would mend it.

    Attributes:
        shown: what an arq client that reads pickles is given instead of `cause`: a class it can import.
    """

    def __init__(self, cause: BaseException, shown: BaseException | None = None) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.shown = shown


class Verdicts:
    """Turns returns, exceptions and cancellations into outcomes.

    Args:
        max_result_bytes: the most a result may take on the wire, its job's arguments not counted.
        burials: makes what jobs that fail for good leave behind; None leaves nothing.

    Attributes:
        endings: makes what stands judged already: the return of an attempt that nobody stopped.
        histories: makes what is kept of attempts besides results.
        leaving: the whole event loop is being cancelled; a cancellation without a reason is a release.
    """

    def __init__(
        self,
        *,
        worker: str,
        clock: ServerClock,
        reading: Reading,
        ways: ArqWays,
        failed_keep_ms: int,
        max_result_bytes: int,
        burials: Burials | None = None,
    ) -> None:
        self._clock = clock
        self._ways = ways
        self.histories = Histories(worker=worker, clock=clock, reading=reading)
        self.endings = Endings(
            worker=worker,
            clock=clock,
            reading=reading,
            failed_keep_ms=failed_keep_ms,
            max_result_bytes=max_result_bytes,
            burials=burials,
        )
        self.leaving = False

    def succeeded(self, attempt: Attempt, value: Any) -> Outcome:
        """Judge a return."""
        if attempt.stop is StopReason.LOST:
            return self._lost(attempt)
        return self.endings.succeeded(attempt, value)

    def unjudged(self, attempt: Attempt, error: BaseException) -> Outcome:
        """Fail an attempt whose judgement raised `error`; never raises itself.

        What is judged is the user's: an exception whose parts raise, a value that breaks while it is walked, a
        serializer of their own. None of that may leave the job held for ever.
        """
        if attempt.stop is StopReason.LOST:
            return self._lost(attempt)
        said = describe(error)
        words = RemoteError(said.type, f"how the attempt ended could not be told: {said.message}", said.traceback)
        try:
            return self.endings.failed(attempt, OutcomeKind.FAILED, words, None)
        except Exception:
            return self.endings.in_bare_words(attempt, words)

    def unrecordable(self, outcome: Outcome, error: Exception) -> Outcome | None:
        """Return a failure in words in place of a result the server will not take; None if it is no result."""
        if not isinstance(outcome.record, Finish):
            return None
        words = RemoteError(
            f"{PayloadTooLarge.__module__}.PayloadTooLarge",
            f"the server does not take the result of {len(outcome.record.result):,} bytes: "
            f"{type(error).__name__}: {str(error)[:1000]}",
        )
        return self.endings.in_bare_words(outcome.attempt, words)

    def raised(self, attempt: Attempt, error: BaseException) -> Outcome:
        """Turn an exception of the task's into what it asks for; else judge it by its policy, or by arq's ways."""
        if attempt.stop is not None:
            return self.stopped(attempt, error)
        runnable = attempt.runnable
        if runnable is None:  # nothing of the user's ran: an error of ours must not be retried for ever
            return self._failed(attempt, error)
        if runnable.limits is not None and hasattr(attempt, "passage"):
            attempt.passage.error = error
        if isinstance(error, Snooze):
            return self._snoozed(attempt, error)
        if isinstance(error, Discard):
            return self._discarded(attempt, error)
        if runnable.policy is None:
            return self._raised_in_function(attempt, error)
        return self._by_policy(attempt, error, OutcomeKind.FAILED)

    def cannot_run(self, attempt: Attempt, error: CannotRunError) -> Outcome:
        """Judge an attempt whose function was never called."""
        error.cause.__traceback__ = None  # it would show our own frames, not the task's
        kind = OutcomeKind.TIMED_OUT if isinstance(error.cause, DeadlinePassed) else OutcomeKind.FAILED
        return self._failed(attempt, error.cause, kind, shown=error.shown)

    def too_late(self, attempt: Attempt) -> DeadlinePassed:
        """Return the error of a job whose deadline had passed before its next attempt could begin."""
        assert attempt.deadline_ms is not None
        return DeadlinePassed(
            f"attempt {attempt.number + 1} was not begun: the job's {_moment(attempt.deadline_ms)}, had passed"
        )

    def passed_on(self, attempt: Attempt, due: int | str | None) -> Outcome:
        """Put a job back that others may begin, due at this score; None: a limit did so already."""
        if due is None:
            return Outcome(attempt, OutcomeKind.HELD_BACK, None, run_seconds=0.0)
        record = PutBack(attempt.lease_as_counted, "release", due)
        return Outcome(attempt, OutcomeKind.PASSED_ON, record, run_seconds=run_seconds(attempt))

    def _by_policy(self, attempt: Attempt, error: BaseException, failure: OutcomeKind) -> Outcome:
        assert attempt.runnable is not None
        assert attempt.runnable.policy is not None
        asked = self._as_retry(error)
        gone = max(0, self._clock.now_ms() - attempt.first_due_ms) / 1000
        try:
            decision = attempt.runnable.policy.decide(asked or error, attempt.number, attempt.max_attempts, gone=gone)
        except Exception as broken:  # a backoff of the user's own; its traceback shows the task's error as well
            return self._failed(attempt, broken)
        if decision.then == "ignore":
            return self._ignored(attempt, error)
        cause = error.__cause__ if asked is not None and error.__cause__ is not None else error
        why = decision.why
        if decision.then == "retry" and self._ways.retry_jobs:
            delay_ms = round(decision.delay * 1000)
            why = self._past_deadline(attempt, delay_ms)
            if not why:
                kind = OutcomeKind.TIMED_OUT if failure is OutcomeKind.TIMED_OUT else OutcomeKind.RETRIED
                return self._retried(attempt, error, delay_ms, kind)
        return self._failed(attempt, cause, failure, why=why)

    def _raised_in_function(self, attempt: Attempt, error: BaseException) -> Outcome:
        asked = self._as_retry(error)
        if not self._ways.retry_jobs or (asked is None and not isinstance(error, self._ways.rerun)):
            return self._failed(attempt, error)
        delay_ms = round(asked.after * 1000) if asked is not None and asked.after else 0
        why = self._past_deadline(attempt, delay_ms)
        if why:
            return self._failed(attempt, error, why=why)
        if delay_ms:
            return self._retried(attempt, error, delay_ms)
        # arq leaves the score alone: due again at once, in its old place.
        record = PutBack(attempt.lease_as_counted, "return", _place(attempt))
        return self._put_back(attempt, OutcomeKind.RETRIED, record, error, 0)

    def _as_retry(self, error: BaseException) -> Retry | None:
        """Return what a Retry, ours or arq's, asks for."""
        if isinstance(error, Retry):
            return error
        if isinstance(error, self._ways.retry):
            defer: int | None = getattr(error, "defer_score", None)
            # arq takes a negative one for "at once".
            return Retry(after=None if defer is None else max(0, defer) / 1000)
        return None

    def _past_deadline(self, attempt: Attempt, delay_ms: int) -> str:
        """Return why the job is not due again after so many ms, or "" if it may be."""
        if attempt.deadline_ms is None or self._clock.now_ms() + delay_ms < attempt.deadline_ms:
            return ""
        return f"the next attempt would begin in {delay_ms / 1000:g} s, past the job's {_moment(attempt.deadline_ms)}"

    def _ignored(self, attempt: Attempt, error: BaseException) -> Outcome:
        outcome = self.endings.ignored(attempt)
        words = describe(error, with_traceback=False)
        outcome.reason = f"ignored {words.type.removeprefix('builtins.')}: {words.message}"
        return outcome

    def _snoozed(self, attempt: Attempt, asked: Snooze) -> Outcome:
        if not self._ways.retry_jobs:
            return self._failed(attempt, asked)  # whoever says so wants no second start
        delay_ms = round((asked.after or 0) * 1000)
        if asked.until is not None:
            delay_ms = max(0, round(asked.until.timestamp() * 1000) - self._clock.now_ms())
        if why := self._past_deadline(attempt, delay_ms):
            return self._failed(attempt, DeadlinePassed(f"the task put its job off: {why}"), OutcomeKind.TIMED_OUT)
        due = self._clock.now_ms() + delay_ms
        record = PutBack(attempt.lease_as_counted, "release", due, *_rank(attempt))
        said = describe(asked, with_traceback=False).message
        return self._put_back(attempt, OutcomeKind.SNOOZED, record, None, delay_ms, reason=said)

    def _discarded(self, attempt: Attempt, asked: Discard) -> Outcome:
        words = describe(asked, with_traceback=False)
        shown = self._ways.failure(f"discarded: {words.message}")
        outcome = self.endings.failed(attempt, OutcomeKind.DISCARDED, words, shown)
        outcome.error, outcome.reason = None, words.message
        return outcome

    def stopped(self, attempt: Attempt, error: BaseException) -> Outcome:
        """Say what a cancellation means: one clause a reason."""
        reason = attempt.stop
        if reason is None and self.leaving:
            reason = StopReason.RELEASED
        if reason is StopReason.TIMED_OUT:
            return self._timed_out(attempt)
        if reason is StopReason.DEADLINE:
            return self._stopped_at_deadline(attempt)
        if reason is StopReason.LOST:
            return self._lost(attempt)
        if reason is StopReason.ABORTED:
            return self._cancelled(attempt)
        if reason is StopReason.RELEASED:
            if attempt.runnable is not None and not self._ways.retry_jobs:
                return self._failed(attempt, error)  # whoever says so wants no second start
            record = PutBack(attempt.lease_as_counted, "release", _place(attempt))
            return self._put_back(attempt, OutcomeKind.RELEASED, record, None, None)
        if reason is StopReason.NOT_BEGUN:
            return self.passed_on(attempt, _place(attempt))
        # Nobody here cancelled it: the task cancelled itself, or something it awaited was.
        if attempt.runnable is None or attempt.runnable.policy is None:
            return self._raised_in_function(attempt, error)
        return self._by_policy(attempt, RuntimeError("the task was cancelled from inside"), OutcomeKind.FAILED)

    def _timed_out(self, attempt: Attempt) -> Outcome:
        assert attempt.runnable is not None
        error = TimeoutError(f"the attempt ran past its timeout of {attempt.timeout:g} s")
        if attempt.runnable.policy is None:
            return self._failed(attempt, error, OutcomeKind.TIMED_OUT)
        return self._by_policy(attempt, error, OutcomeKind.TIMED_OUT)

    def _stopped_at_deadline(self, attempt: Attempt) -> Outcome:
        assert attempt.deadline_ms is not None
        error = DeadlinePassed(f"attempt {attempt.number} was stopped at the job's {_moment(attempt.deadline_ms)}")
        return self._failed(attempt, error, OutcomeKind.TIMED_OUT)

    def _cancelled(self, attempt: Attempt) -> Outcome:
        error = RemoteError("asyncio.exceptions.CancelledError", "the job was aborted")
        return self.endings.failed(attempt, OutcomeKind.CANCELLED, error, asyncio.CancelledError())

    def _lost(self, attempt: Attempt) -> Outcome:
        return Outcome(attempt, OutcomeKind.LOST, None, run_seconds=run_seconds(attempt))

    def _retried(
        self, attempt: Attempt, error: BaseException, delay_ms: int, kind: OutcomeKind = OutcomeKind.RETRIED
    ) -> Outcome:
        record = PutBack(attempt.lease_as_counted, "retry", delay_ms, *_rank(attempt))
        return self._put_back(attempt, kind, record, error, delay_ms)

    def _put_back(
        self,
        attempt: Attempt,
        kind: OutcomeKind,
        record: PutBack,
        error: BaseException | None,
        retry_in_ms: int | None,
        *,
        reason: str = "",
    ) -> Outcome:
        outcome = Outcome(
            attempt,
            kind,
            record,
            run_seconds=run_seconds(attempt),
            error=None if error is None else describe(error, with_traceback=False),
            retry_in_ms=retry_in_ms,
            reason=reason,
        )
        outcome.record = record._replace(entry=self.histories.entry(outcome, error))
        return outcome

    def _failed(
        self,
        attempt: Attempt,
        error: BaseException,
        kind: OutcomeKind = OutcomeKind.FAILED,
        *,
        shown: BaseException | None = None,
        why: str = "",
    ) -> Outcome:
        words = describe(error)
        if why:
            words = replace(words, traceback=f"{words.traceback}Not tried again: {why}.\n")
        outcome = self.endings.failed(attempt, kind, words, shown or error)
        outcome.reason = why
        return outcome


def _place(attempt: Attempt) -> int | str:
    """Return where in its queue the job stood."""
    if attempt.runnable is not None and attempt.runnable.limits is not None:
        return reserved(attempt.due_ms)  # it has stood in line already
    return attempt.due_ms if attempt.priority == 0 else ahead(attempt.due_ms, attempt.priority)


def _rank(attempt: Attempt) -> Rank:
    """Return what the turn of the next attempt comes by: as the job's enqueue says, else as its task does."""
    extras = attempt.payload.extras if attempt.payload is not None else None
    priority = extras.prio if extras is not None else None
    if priority is None:
        priority = attempt.runnable.priority if attempt.runnable is not None else 0
    return Rank(priority, (extras.lane or "") if extras is not None else "")


def _moment(unix_ms: int) -> str:
    try:
        when = datetime.fromtimestamp(unix_ms / 1000, tz=UTC)
    except (OverflowError, ValueError, OSError):  # whatever a foreign program wrote into the job
        return f"deadline, {unix_ms} ms of Unix time"
    return f"deadline, {when.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}"
