"""What is kept of an attempt that did not end its job: one entry of the job's history, bounded, whatever it holds.

Owns what goes into an entry. Its bytes are common/attempts.py's; complete.lua writes it, with the outcome it is of.
An attempt that ends its job is told of by the job's result, and costs nothing here; unless its lines are kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from common.attempts import Entry, ErrorWords, encode_entry
from common.codec import Reading
from common.jobs import RemoteError
from common.redis.store import Finish, Letter
from workers.attempt import Attempt, Outcome
from workers.clock import ServerClock
from workers.error_words import frames_of
from workers.runnables import Runnable

__all__ = ["Histories"]

_LONGEST_MESSAGE = 1000
"""Characters of an error's message, or of a reason, that are kept: a history has fifty entries at the most."""


class Histories:
    """Makes the entries of one worker's attempts."""

    def __init__(self, *, worker: str, clock: ServerClock, reading: Reading) -> None:
        self._worker = worker
        self._clock = clock
        self._reading = reading

    def entry(self, outcome: Outcome, error: BaseException | None) -> bytes:
        """Return what is kept of an attempt that another one follows; nothing of one that never came to its task.

        Never raises.

        Args:
            error: what it ended with, if anything: the places it went through are kept.
        """
        if outcome.attempt.runnable is None:
            return b""
        try:
            return self._entry(outcome, error)
        except Exception:  # an error of a user's own type; how the attempt ended is worth more than its history
            return b""

    def before(self, then: Callable[[Outcome], None], runnables: Mapping[str, Runnable]) -> Callable[[Outcome], None]:
        """Return what takes outcomes before `then` does, to have lines kept with them; `then` where none are."""
        if not any(runnable.keep_logs for runnable in runnables.values()):
            return then

        def ended(outcome: Outcome) -> None:
            with contextlib.suppress(Exception):  # its lines are worth less than its outcome
                self._keep_lines(outcome)
            then(outcome)

        return ended

    def _keep_lines(self, outcome: Outcome) -> None:
        """Have the lines of an attempt that ended its job kept as long as its result or its dead letter."""
        record = outcome.record
        if not isinstance(record, Finish) or not (record.keep_ms or record.letter) or not _lines(outcome.attempt):
            return
        entry = self._entry(outcome, None, ended=True)
        letter = Letter(b"", b"", b"", 0, 0) if record.letter is None else record.letter
        record.letter = letter._replace(entry=entry)

    def _entry(self, outcome: Outcome, error: BaseException | None, *, ended: bool = False) -> bytes:
        attempt = outcome.attempt
        entry = Entry(
            n=attempt.number,
            o=outcome.kind.value,
            et=attempt.payload.enqueued_ms if attempt.payload is not None else 0,
            st=attempt.started_ms,
            ft=self._clock.now_ms(),
            w=self._worker,
            e=None if outcome.error is None else _words(outcome.error, "" if error is None else frames_of(error)),
            y=outcome.reason[:_LONGEST_MESSAGE],
            r=outcome.retry_in_ms,
            d=attempt.timing if attempt.steps else None,
            l=_lines(attempt),
            z=ended,
        )
        return encode_entry(entry, attempt.job_id, self._reading)


def _lines(attempt: Attempt) -> list[tuple[int, str, str]]:
    if attempt.runnable is None or not attempt.runnable.keep_logs:
        return []
    from workers.kept_logs import lines_of  # noqa: PLC0415 - most workers keep none

    return lines_of(attempt)


def _words(error: RemoteError, frames: str) -> ErrorWords:
    return ErrorWords(error.type[:_LONGEST_MESSAGE], error.message[:_LONGEST_MESSAGE], frames)
