"""Say how an attempt ended: one Outcome for whatever happened, one clause a way to end.

Owns the judgement: retried or failed, by the task's policy or by arq's ways, and what is written about it. Pure
but for the clock; the executor runs attempts and asks here, the completer records what comes out.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from typing import Any

from common.codec import Form, Reading, is_pickle
from common.errors import NotSerializable, PayloadTooLarge, Retry
from common.jobs import OutcomeKind, RemoteError
from common.redis.store import Finish, PutBack
from common.result_codec import Result, encode_result, encode_success
from workers.arq_ways import ArqWays
from workers.attempt import Attempt, Outcome, StopReason
from workers.clock import ServerClock
from workers.dead_letters import Burials

__all__ = ["CannotRunError", "Verdicts", "describe"]

_OUR_FRAMES = ("executor.py", "verdicts.py", "runnables.py")

_LONGEST_TEXT = 64 * 1024
"""Characters of an exception's message, and of its traceback, that are kept."""


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
        self._worker = worker
        self._clock = clock
        self._reading = reading
        self._signing = reading.signing
        self._ways = ways
        self._failed_keep_ms = failed_keep_ms
        self._max_result_bytes = max_result_bytes
        self._burials = burials
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
        if self._over_limit(attempt, stored):
            return self._too_large(attempt, len(stored))
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
                    timing=attempt.timing,
                    signing=self._signing,
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

    def _over_limit(self, attempt: Attempt, stored: bytes) -> bool:
        # A result repeats its job's arguments, which a job with large ones must not fail for.
        return len(stored) - len(attempt.raw or b"") > self._max_result_bytes

    def _too_large(self, attempt: Attempt, size: int) -> Outcome:
        """Fail in words: the function would return as much the next time."""
        words = (
            f"the result takes {size:,} bytes, over the limit of {self._max_result_bytes:,} "
            "(BARQUE_MAX_RESULT_BYTES); store it elsewhere and return where it is"
        )
        return self._finish_failed(
            attempt, OutcomeKind.FAILED, RemoteError(f"{PayloadTooLarge.__module__}.PayloadTooLarge", words), None
        )

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
            return self._finish_failed(attempt, OutcomeKind.FAILED, words, None)
        except Exception:
            return self._in_bare_words(attempt, words)

    def unrecordable(self, outcome: Outcome, error: Exception) -> Outcome | None:
        """Return a failure in words in place of a result the server will not take; None if it is no result."""
        if not isinstance(outcome.record, Finish):
            return None
        words = RemoteError(
            f"{PayloadTooLarge.__module__}.PayloadTooLarge",
            f"the server does not take the result of {len(outcome.record.result):,} bytes: "
            f"{type(error).__name__}: {str(error)[:1000]}",
        )
        return self._in_bare_words(outcome.attempt, words)

    def _in_bare_words(self, attempt: Attempt, words: RemoteError) -> Outcome:
        """Fail with nothing in the result that is the user's: no arguments, no exception, no serializer of theirs."""
        result = self._result(attempt, success=False, value=None, outcome=OutcomeKind.FAILED, error=words)
        result.args, result.kwargs, result.metadata = (), None, None
        try:
            stored = encode_result(result, self._reading)
        except Exception:
            result.form = "msgpack"
            stored = encode_result(result, self._reading)
        return self._finish(attempt, OutcomeKind.FAILED, stored, words)

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

    def passed_on(self, attempt: Attempt, due: str) -> Outcome:
        """Put a job back that another worker may know, due at this score."""
        record = PutBack(attempt.lease._replace(attempt=attempt.number), "release", due)
        return self._put_back(attempt, OutcomeKind.PASSED_ON, record, None, None)

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
            # arq takes a negative one for "at once".
            return Retry(after=None if defer is None else max(0, defer) / 1000)
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
        stored = encode_result(result, self._reading)
        if result.exception is not None and self._over_limit(attempt, stored):
            result.exception = None  # its words, which are bounded, say what happened
            stored = encode_result(result, self._reading)
        return self._finish(attempt, kind, stored, error)

    def _finish(self, attempt: Attempt, kind: OutcomeKind, stored: bytes, error: RemoteError) -> Outcome:
        keep_ms, done_ms = self._failed_keep_ms, 0
        if attempt.runnable is not None:
            keep_ms, done_ms = attempt.runnable.keep_ms, attempt.runnable.done_ms
        letter = None if self._burials is None else self._burials.letter(attempt, kind, error)
        record = Finish(attempt.lease, stored, keep_ms, done_ms, letter)
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
            timing=attempt.timing if attempt.steps else None,
        )
        if payload is not None:
            result.args, result.kwargs, result.form = payload.args, payload.kwargs, payload.form
            if payload.extras is not None:
                result.metadata = payload.extras.meta
        else:
            result.form = self._form_unread(attempt)
            if result.form == "pickle" and (self._signing is not None or not self._reading.accept_pickle):
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
    """Return an exception as words, its traceback from the task's own frame on; never raises."""
    kind = type(error)
    try:
        name = f"{kind.__module__}.{kind.__qualname__}"
    except BaseException:  # here as below: a user's own type may raise anything, even what ends programs
        name = "builtins.Exception"
    try:
        message = _cut(str(error))
    except BaseException:
        message = "<its text cannot be shown>"
    return RemoteError(name, message, _traceback(kind, error) if with_traceback else "")


def _traceback(kind: type[BaseException], error: BaseException) -> str:
    frames = error.__traceback__
    if frames is None:
        return ""
    # The first frames are ours; the reader wants the task's.
    while frames.tb_next is not None and frames.tb_frame.f_code.co_filename.endswith(_OUR_FRAMES):
        frames = frames.tb_next
    try:
        return _cut("".join(traceback.format_exception(kind, error, frames)))
    except BaseException:  # notes that raise, a SyntaxError without a text, causes past the recursion limit
        where = "".join(traceback.format_tb(frames))
        return _cut(f"Traceback (most recent call last):\n{where}<the rest cannot be shown>\n")


def _cut(text: str) -> str:
    """Return at most about `_LONGEST_TEXT` characters: the beginning and the end; a plain str in any case."""
    half = _LONGEST_TEXT // 2
    left_out = len(text) - 2 * half
    if left_out <= 0:
        return str.__getitem__(text, slice(None))
    return f"{text[:half]}… {left_out:,} characters left out …{text[-half:]}"
