"""Say how an attempt ended: one Outcome for whatever happened, one clause a way to end.

Owns the judgement: retried or failed, by the task's policy or by arq's ways, and what is written about it. Pure
but for the clock; the executor runs attempts and asks here, the completer records what comes out.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from typing import Any

from common.codec import Form, Reading, Result, encode_result, encode_success, is_pickle
from common.errors import NotSerializable, Retry
from common.jobs import OutcomeKind, RemoteError
from common.redis.store import Finish, PutBack
from workers.arq_ways import ArqWays
from workers.attempt import Attempt, Outcome, StopReason
from workers.clock import ServerClock

__all__ = ["CannotRunError", "Verdicts", "describe"]

_OUR_FRAMES = ("executor.py", "verdicts.py", "runnables.py")


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

    Attributes:
        leaving: the whole event loop is being cancelled; a cancellation without a reason is a release.
    """

    def __init__(
        self, *, worker: str, clock: ServerClock, reading: Reading, ways: ArqWays, failed_keep_ms: int
    ) -> None:
        self._worker = worker
        self._clock = clock
        self._reading = reading
        self._ways = ways
        self._failed_keep_ms = failed_keep_ms
        self.leaving = False

    def succeeded(self, attempt: Attempt, value: Any) -> Outcome:
        """Judge a return."""
        if attempt.stop is StopReason.LOST:
            return self._lost(attempt)
        ended = time.perf_counter()
        try:
            stored = self._encoded(attempt, value, self._clock.at(ended))
        except NotSerializable as error:
            return self._unserializable(attempt, error)
        runnable = attempt.runnable
        assert runnable is not None
        record = Finish(attempt.lease, stored, runnable.keep_ms, runnable.done_ms)
        return Outcome(attempt, OutcomeKind.SUCCEEDED, record, run_seconds=ended - attempt.started)

    def _encoded(self, attempt: Attempt, value: Any, finished_ms: int) -> bytes:
        payload = attempt.payload
        assert payload is not None
        if payload.form == "msgpack":
            try:
                return encode_success(
                    payload,
                    value,
                    job_id=attempt.job_id,
                    queue=attempt.queue,
                    attempt=attempt.number,
                    started_ms=attempt.started_ms,
                    finished_ms=finished_ms,
                    worker=self._worker,
                )
            except Exception:  # noqa: S110 - the long way below says which part has no form, or finds one
                pass
        return encode_result(
            self._result(attempt, success=True, value=value, outcome=OutcomeKind.SUCCEEDED), self._reading
        )

    def _unserializable(self, attempt: Attempt, error: NotSerializable) -> Outcome:
        """Fail in words alone: with those, arq's client raises its SerializationError."""
        words = describe(error, with_traceback=False)
        return self._finish_failed(
            attempt,
            OutcomeKind.FAILED,
            RemoteError(words.type, f"unable to serialize result: {words.message}"),
            None,
        )

    def raised(self, attempt: Attempt, error: BaseException) -> Outcome:
        """Turn an exception of the task's into a retry or a failure, by its policy or by arq's ways."""
        if attempt.stop is not None:
            return self.stopped(attempt, error)
        runnable = attempt.runnable
        if runnable is None:  # nothing of the user's ran: an error of ours must not be retried for ever
            return self._failed(attempt, error)
        if runnable.policy is None:
            return self._raised_in_function(attempt, error)
        return self._by_policy(attempt, error, OutcomeKind.FAILED)

    def cannot_run(self, attempt: Attempt, error: CannotRunError) -> Outcome:
        """Judge an attempt whose function was never called."""
        error.cause.__traceback__ = None  # it would show our own frames, not the task's
        return self._failed(attempt, error.cause, shown=error.shown)

    def _by_policy(self, attempt: Attempt, error: BaseException, failure: OutcomeKind) -> Outcome:
        assert attempt.runnable is not None
        assert attempt.runnable.policy is not None
        asked = self._as_retry(error)
        delay = None
        if self._ways.retry_jobs:
            try:
                delay = attempt.runnable.policy.decide(asked or error, attempt.number, attempt.max_attempts)
            except Exception as broken:  # a backoff of the user's own; its traceback shows the task's error as well
                return self._failed(attempt, broken)
        if delay is None:
            cause = error.__cause__ if asked is not None and error.__cause__ is not None else error
            return self._failed(attempt, cause, failure)
        kind = OutcomeKind.TIMED_OUT if failure is OutcomeKind.TIMED_OUT else OutcomeKind.RETRIED
        return self._retried(attempt, error, round(delay * 1000), kind)

    def _raised_in_function(self, attempt: Attempt, error: BaseException) -> Outcome:
        asked = self._as_retry(error)
        if self._ways.retry_jobs and asked is not None:
            if asked.after:
                return self._retried(attempt, error, round(asked.after * 1000))
            # arq leaves the score alone: due again at once, in its old place.
            record = PutBack(attempt.lease._replace(attempt=attempt.number), "return", attempt.due_ms)
            return self._put_back(attempt, OutcomeKind.RETRIED, record, error, 0)
        if self._ways.retry_jobs and isinstance(error, self._ways.rerun):
            record = PutBack(attempt.lease._replace(attempt=attempt.number), "return", attempt.due_ms)
            return self._put_back(attempt, OutcomeKind.RETRIED, record, error, 0)
        return self._failed(attempt, error)

    def _as_retry(self, error: BaseException) -> Retry | None:
        """Return what a Retry, ours or arq's, asks for."""
        if isinstance(error, Retry):
            return error
        if isinstance(error, self._ways.retry):
            defer: int | None = getattr(error, "defer_score", None)
            return Retry(after=None if defer is None else defer / 1000)
        return None

    def stopped(self, attempt: Attempt, error: BaseException) -> Outcome:
        """Say what a cancellation means: one clause a reason."""
        reason = attempt.stop
        if reason is None and self.leaving:
            reason = StopReason.RELEASED
        if reason is StopReason.TIMED_OUT:
            return self._timed_out(attempt)
        if reason is StopReason.LOST:
            return self._lost(attempt)
        if reason is StopReason.ABORTED:
            return self._cancelled(attempt)
        if reason is StopReason.RELEASED:
            if attempt.runnable is not None and not self._ways.retry_jobs:
                return self._failed(attempt, error)  # whoever says so wants no second start
            record = PutBack(attempt.lease._replace(attempt=attempt.number), "release", attempt.due_ms)
            return self._put_back(attempt, OutcomeKind.RELEASED, record, None, None)
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

    def _cancelled(self, attempt: Attempt) -> Outcome:
        error = RemoteError("asyncio.exceptions.CancelledError", "the job was aborted")
        return self._finish_failed(attempt, OutcomeKind.CANCELLED, error, asyncio.CancelledError())

    def _lost(self, attempt: Attempt) -> Outcome:
        return Outcome(attempt, OutcomeKind.LOST, None, run_seconds=self._run_seconds(attempt))

    def _retried(
        self, attempt: Attempt, error: BaseException, delay_ms: int, kind: OutcomeKind = OutcomeKind.RETRIED
    ) -> Outcome:
        record = PutBack(attempt.lease._replace(attempt=attempt.number), "retry", delay_ms)
        return self._put_back(attempt, kind, record, error, delay_ms)

    def _put_back(
        self,
        attempt: Attempt,
        kind: OutcomeKind,
        record: PutBack,
        error: BaseException | None,
        retry_in_ms: int | None,
    ) -> Outcome:
        return Outcome(
            attempt,
            kind,
            record,
            run_seconds=self._run_seconds(attempt),
            error=None if error is None else describe(error, with_traceback=False),
            retry_in_ms=retry_in_ms,
        )

    def _failed(
        self,
        attempt: Attempt,
        error: BaseException,
        kind: OutcomeKind = OutcomeKind.FAILED,
        shown: BaseException | None = None,
    ) -> Outcome:
        return self._finish_failed(attempt, kind, describe(error), shown or error)

    def _finish_failed(
        self, attempt: Attempt, kind: OutcomeKind, error: RemoteError, exception: BaseException | None
    ) -> Outcome:
        result = self._result(attempt, success=False, value=None, outcome=kind, error=error, exception=exception)
        keep_ms, done_ms = self._failed_keep_ms, 0
        if attempt.runnable is not None:
            keep_ms, done_ms = attempt.runnable.keep_ms, attempt.runnable.done_ms
        stored = encode_result(result, self._reading)
        record = Finish(attempt.lease, stored, keep_ms, done_ms)
        return Outcome(attempt, kind, record, run_seconds=self._run_seconds(attempt), error=error)

    def _result(
        self,
        attempt: Attempt,
        *,
        success: bool,
        value: Any,
        outcome: OutcomeKind,
        error: RemoteError | None = None,
        exception: BaseException | None = None,
    ) -> Result:
        payload = attempt.payload
        result = Result(
            job_id=attempt.job_id,
            task=payload.task if payload is not None else "<unknown>",
            queue=attempt.queue,
            success=success,
            value=value,
            attempt=attempt.number,
            enqueued_ms=payload.enqueued_ms if payload is not None else 0,
            started_ms=attempt.started_ms,
            finished_ms=self._clock.now_ms(),
            outcome=outcome.value,
            worker=self._worker,
            error=error,
            exception=exception,
        )
        if payload is not None:
            result.args, result.kwargs, result.form = payload.args, payload.kwargs, payload.form
            if payload.extras is not None:
                result.metadata = payload.extras.meta
        else:
            result.form = self._form_unread(attempt)
            if result.form == "pickle" and not self._reading.accept_pickle:
                result.exception = None  # words alone: they name the setting, and arq's client raises them
        return result

    def _form_unread(self, attempt: Attempt) -> Form:
        """Return the form in which whoever sent a job that could not be read can read how it ended."""
        if self._reading.serializer is not None:
            return "custom"
        if attempt.raw is None:
            return "pickle" if self._reading.accept_pickle else "msgpack"
        return "pickle" if is_pickle(attempt.raw) else "msgpack"

    def _run_seconds(self, attempt: Attempt) -> float:
        return time.perf_counter() - attempt.started if attempt.started else 0.0


def describe(error: BaseException, *, with_traceback: bool = True) -> RemoteError:
    """Return an exception as words, its traceback from the task's own frame on."""
    kind = type(error)
    try:
        message = str(error)
    except Exception:  # a user's own __str__
        message = "<its text cannot be shown>"
    text = ""
    if with_traceback and error.__traceback__ is not None:
        frames = error.__traceback__
        # The first frames are ours; the reader wants the task's.
        while frames.tb_next is not None and frames.tb_frame.f_code.co_filename.endswith(_OUR_FRAMES):
            frames = frames.tb_next
        text = "".join(traceback.format_exception(kind, error, frames))
    return RemoteError(f"{kind.__module__}.{kind.__qualname__}", message, text)
