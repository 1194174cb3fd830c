"""The attempts a job has had, one after the other: what is kept of each, and the timeline people are shown.

Owns the record of an attempt as users see it, its bytes in a job's history, and how a history and a result make one
timeline. Knows no Redis: complete.lua and claim.lua write the list, common/redis/inspect.py reads it. Each entry is
one of three:

    +<number>                      how many older entries went, to bound the list; the first one, if it is there
    lost <attempt> <end, Unix ms>  its worker was lost: written by the server, which knows no more
    a msgpack map                  written by the attempt's worker, and signed where jobs are (signing.py):
        n number   o outcome   et enqueue time of its job ms   st start ms   ft finish ms   w worker
        e {type, message, traceback}   y reason   r due again after ms   d steps   l lines   z ended the job
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from common.codec import MSGPACK_ONLY, Reading
from common.errors import SignatureRefused
from common.jobs import OutcomeKind, RemoteError, StepTiming
from common.result_codec import IGNORED, Result
from common.values import MALFORMED

__all__ = [
    "RUNNING",
    "UNREADABLE",
    "AttemptInfo",
    "Entry",
    "ErrorWords",
    "History",
    "LogLine",
    "encode_entry",
    "history_of",
    "moment_of",
]

RUNNING = "running"
"""In place of an outcome: a worker has it now."""

UNREADABLE = "unreadable"
"""In place of an outcome: what was kept cannot be read here, or is not signed as it must be."""

_COUNTED = {OutcomeKind.RETRIED.value, OutcomeKind.TIMED_OUT.value, OutcomeKind.LOST.value}
"""Outcomes in the middle of a history after which the next attempt has another number."""


class LogLine(NamedTuple):
    """One line that a task logged.

    Attributes:
        at: by its worker's clock, in UTC.
        level: `info` and the like.
        text: the event, and what was said with it as `name=value`.
    """

    at: datetime | None
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class AttemptInfo:
    """One attempt of a job, as far as it is known of.

    Attributes:
        number: from 1. One that was not counted has the number of the next.
        outcome: the word of an `OutcomeKind`, RUNNING or UNREADABLE.
        started_at, finished_at: by the server's clock, in UTC; of a lost one when its lease ended.
        worker: its id; None of a lost one, and where a stock arq worker ran it.
        error: of one that another followed the frames of its traceback without their source.
        reason: what the task said that put the job off, or dropped it.
        retry_in: seconds after which the job was due again.
        timing: how it used its worker's event loop.
        logs: the last lines it logged, of a task that keeps them.
    """

    number: int
    outcome: str
    started_at: datetime | None = None
    finished_at: datetime | None = None
    worker: str | None = None
    error: RemoteError | None = None
    reason: str = ""
    retry_in: float | None = None
    timing: StepTiming | None = None
    logs: tuple[LogLine, ...] = ()


class ErrorWords(msgspec.Struct, gc=False, omit_defaults=True):
    """An exception in an entry."""

    type: str
    message: str
    traceback: str = ""


class Entry(msgspec.Struct, gc=False, omit_defaults=True):
    """What a worker keeps of an attempt; the names are those at the top."""

    n: int
    o: str
    et: int = 0
    st: int = 0
    ft: int = 0
    w: str = ""
    e: ErrorWords | None = None
    y: str = ""
    r: int | None = None
    d: tuple[int, int, int] | None = None
    l: list[tuple[int, str, str]] = []  # noqa: E741 - msgspec copies an empty default
    z: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def encode_entry(entry: Entry, job_id: str, reading: Reading = MSGPACK_ONLY) -> bytes:
    """Return an entry's bytes, signed where `reading` has keys; text that UTF-8 has no form for with backslashes."""
    try:
        raw = _encoder.encode(entry)
    except UnicodeEncodeError:
        raw = _encoder.encode(_in_utf8(entry))
    return raw if reading.signing is None else reading.signing.seal_attempt(raw, job_id)


def _in_utf8(entry: Entry) -> Entry:
    error = entry.e
    if error is not None:
        error = ErrorWords(_utf8(error.type), _utf8(error.message), _utf8(error.traceback))
    lines = [(at, level, _utf8(text)) for at, level, text in entry.l]
    return msgspec.structs.replace(entry, e=error, y=_utf8(entry.y), w=_utf8(entry.w), l=lines)


def _utf8(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


class _Told(NamedTuple):
    """One attempt of a history, and what tells whose it is and whether a result is of the same one."""

    attempt: AttemptInfo
    enqueued_ms: int | None = None
    started_ms: int = 0
    ended: bool = False


class History(NamedTuple):
    """The attempts in a job's list, the oldest first, before they are put together with what else is known.

    Attributes:
        dropped: how many older ones went, to bound the list.
    """

    told: tuple[_Told, ...] = ()
    dropped: int = 0

    def of_job(self, enqueued_ms: int | None) -> History:
        """Return those of the job enqueued at that time: a stock arq producer that takes an id again leaves the list.

        Args:
            enqueued_ms: Unix ms; None where it is not known, and then all are taken for its own.
        """
        if enqueued_ms is None:
            return self
        others = [at for at, one in enumerate(self.told) if one.enqueued_ms not in {None, enqueued_ms}]
        return History(self.told[others[-1] + 1 :]) if others else self

    @property
    def attempts(self) -> tuple[AttemptInfo, ...]:
        """The attempts as they are listed."""
        return tuple(one.attempt for one in self.told)

    def followed_by(self, final: AttemptInfo, started_ms: int = 0) -> tuple[AttemptInfo, ...]:
        """Return the timeline of a job that has ended.

        Args:
            final: the attempt that ended it, as its result or its dead letter tells.
            started_ms: when that one started, Unix ms.
        """
        attempts = self.attempts
        if not self.told:
            return (final,)
        last = self.told[-1]
        if last.attempt.number == final.number:
            if last.ended and last.started_ms == started_ms:  # of the same attempt, for the sake of its lines
                return (*attempts[:-1], dataclasses.replace(final, logs=last.attempt.logs))
            if last.attempt.outcome in _COUNTED and not last.ended:  # the next one never began: no time was left for it
                return attempts
        return (*attempts, final)

    def ended_by(self, result: Result) -> tuple[AttemptInfo, ...]:
        """Return the timeline of a job that ended with this result."""
        if result.attempt < 1:  # it was aborted while it waited
            return self.attempts
        outcome = result.outcome or (OutcomeKind.SUCCEEDED if result.success else OutcomeKind.FAILED).value
        final = AttemptInfo(
            number=result.attempt,
            outcome=OutcomeKind.SUCCEEDED.value if outcome == IGNORED else outcome,
            started_at=moment_of(result.started_ms),
            finished_at=moment_of(result.finished_ms),
            worker=result.worker or None,
            error=result.error,
            timing=StepTiming(*result.timing) if result.timing is not None else None,
        )
        return self.of_job(result.enqueued_ms).followed_by(final, result.started_ms)


def history_of(stored: Sequence[bytes], job_id: str, reading: Reading = MSGPACK_ONLY) -> History:
    """Return the history in these entries; one that cannot be read, or is not to be trusted, says so in its place."""
    told = []
    dropped = 0
    for index, raw in enumerate(stored):
        if index == 0 and raw[:1] == b"+" and raw[1:].isdigit():
            dropped = int(raw[1:19])
        else:
            told.append(_lost(raw) or _read(raw, job_id, reading))
    return History(tuple(told), dropped)


def _lost(raw: bytes) -> _Told | None:
    parts = raw[:100].split(b" ")
    if len(parts) != 3 or parts[0] != b"lost":  # a msgpack map starts with another byte
        return None
    try:
        number, ended_ms = int(parts[1]), float(parts[2])
    except ValueError:
        return None
    return _Told(AttemptInfo(number, OutcomeKind.LOST.value, finished_at=moment_of(ended_ms)))


def _read(raw: bytes, job_id: str, reading: Reading) -> _Told:
    try:
        if reading.signing is not None:
            reading.signing.check_attempt(raw, job_id)
        entry = _decoder.decode(raw)
    except (SignatureRefused, *MALFORMED) as error:
        why = RemoteError(f"{type(error).__module__}.{type(error).__qualname__}", str(error))
        return _Told(AttemptInfo(0, UNREADABLE, error=why))
    attempt = AttemptInfo(
        number=entry.n,
        outcome=entry.o,
        started_at=moment_of(entry.st or None),
        finished_at=moment_of(entry.ft or None),
        worker=entry.w or None,
        error=None if entry.e is None else RemoteError(entry.e.type, entry.e.message, entry.e.traceback),
        reason=entry.y,
        retry_in=None if entry.r is None else entry.r / 1000,
        timing=None if entry.d is None else StepTiming(*entry.d),
        logs=tuple(LogLine(moment_of(at), level, text) for at, level, text in entry.l),
    )
    return _Told(attempt, entry.et or None, entry.st, entry.z)


def moment_of(unix_ms: float | None) -> datetime | None:
    """Return the moment; None where there is none, or a foreign program wrote what is none."""
    if unix_ms is None:
        return None
    try:
        return datetime.fromtimestamp(unix_ms / 1000, tz=UTC)
    except (OverflowError, ValueError, OSError):
        return None
