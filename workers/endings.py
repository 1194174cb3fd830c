"""Write how a job ended: the outcome with its result, within a size the server takes, in the form its producer reads.

Owns what the result of an ended job holds. Whether and how it has ended is verdicts.py's to judge. Pure but for the
clock.
"""

from __future__ import annotations

import time
from typing import Any

from common.codec import Form, Payload, Reading, is_pickle
from common.errors import NotSerializable, PayloadTooLarge
from common.jobs import OutcomeKind, RemoteError
from common.redis.store import Finish
from common.result_codec import IGNORED, Result, encode_result, encode_success
from workers.attempt import Attempt, Outcome
from workers.clock import ServerClock
from workers.dead_letters import Burials
from workers.error_words import describe

__all__ = ["Endings", "run_seconds"]

_SUCCEEDED = OutcomeKind.SUCCEEDED  # a lookup in the enum takes longer than making the outcome


class Endings:
    """Makes the outcomes of jobs that have ended.

    Args:
        max_result_bytes: the most a result may take on the wire, its job's arguments not counted.
        burials: makes what jobs that fail for good leave behind; None leaves nothing.
    """

    def __init__(
        self,
        *,
        worker: str,
        clock: ServerClock,
        reading: Reading,
        failed_keep_ms: int,
        max_result_bytes: int,
        burials: Burials | None = None,
    ) -> None:
        self._worker = worker
        self._clock = clock
        self._reading = reading
        self._signing = reading.signing
        self._failed_keep_ms = failed_keep_ms
        self._max_result_bytes = max_result_bytes
        self._burials = burials

    def succeeded(self, attempt: Attempt, value: Any) -> Outcome:
        """End a job with this value; as failed where it has no form on the wire, or too large a one."""
        ended, timing = time.perf_counter(), attempt.timing
        payload = attempt.payload
        stored = None
        if type(payload) is Payload:
            try:
                stored = encode_success(
                    payload,
                    value,
                    attempt.job_id,
                    attempt.queue,
                    attempt.number,
                    attempt.started_ms,
                    self._clock.at(ended),
                    self._worker,
                    timing,
                    self._signing,
                )
            except Exception:
                stored = None  # the long way says which part has no form, or finds one
        if stored is None:
            try:
                stored = self._encoded(attempt, value)
            except NotSerializable as error:
                return self._unserializable(attempt, error)
        if len(stored) > self._max_result_bytes and self._over_limit(attempt, stored):
            return self._too_large(attempt, len(stored))
        runnable = attempt.runnable
        assert runnable is not None
        record = Finish(attempt.lease, stored, runnable.keep_ms, runnable.done_ms)
        return Outcome(attempt, _SUCCEEDED, record, ended - attempt.started, timing=timing)

    def ignored(self, attempt: Attempt) -> Outcome:
        """End a job as succeeded, without a result: its error was one to ignore."""
        runnable = attempt.runnable
        assert runnable is not None
        result = self._result(attempt, success=True, value=None, outcome=OutcomeKind.SUCCEEDED)
        result.outcome = IGNORED  # whoever asks gets None, whatever the task's annotation says
        record = Finish(attempt.lease, encode_result(result, self._reading), runnable.keep_ms, runnable.done_ms)
        return Outcome(attempt, OutcomeKind.SUCCEEDED, record, run_seconds=run_seconds(attempt))

    def _encoded(self, attempt: Attempt, value: Any) -> bytes:
        result = self._result(attempt, success=True, value=value, outcome=OutcomeKind.SUCCEEDED)
        return encode_result(result, self._reading)

    def _unserializable(self, attempt: Attempt, error: NotSerializable) -> Outcome:
        """Fail in words alone: with those, arq's client raises its SerializationError."""
        words = describe(error, with_traceback=False)
        return self.failed(
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
        return self.failed(
            attempt, OutcomeKind.FAILED, RemoteError(f"{PayloadTooLarge.__module__}.PayloadTooLarge", words), None
        )

    def in_bare_words(self, attempt: Attempt, words: RemoteError) -> Outcome:
        """Fail with nothing in the result that is the user's: no arguments, no exception, no serializer of theirs."""
        result = self._result(attempt, success=False, value=None, outcome=OutcomeKind.FAILED, error=words)
        result.args, result.kwargs, result.metadata = (), None, None
        try:
            stored = encode_result(result, self._reading)
        except Exception:
            result.form = "msgpack"
            stored = encode_result(result, self._reading)
        return self._finish(attempt, OutcomeKind.FAILED, stored, words)

    def failed(
        self, attempt: Attempt, kind: OutcomeKind, error: RemoteError, exception: BaseException | None
    ) -> Outcome:
        """End a job without a value.

        Args:
            exception: what an arq client that reads pickles is given; None gives it words.
        """
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
        return Outcome(attempt, kind, record, run_seconds=run_seconds(attempt), error=error)

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


def run_seconds(attempt: Attempt) -> float:
    """Return for how long an attempt has run; 0 where it never began."""
    return time.perf_counter() - attempt.started if attempt.started else 0.0
