"""A dead letter: what is kept of a job that failed for good, as it is stored and as people are shown it.

Owns the layout of the record that lists show, and how a letter is read. Key names and commands are
common/redis/dead_letters.py's; when a job leaves one is workers/dead_letters.py's. Neither the record nor the traceback
is signed: who writes to Redis can make up why a job failed, but not a payload that a worker with keys would run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from common.attempts import AttemptInfo, history_of
from common.codec import MSGPACK_ONLY, Reading, decode_job
from common.errors import Undecodable
from common.jobs import RemoteError
from common.values import MALFORMED

__all__ = ["About", "DeadLetter", "Reason", "decode_about", "encode_about", "read_letter"]

Reason = Literal["failed", "timed_out", "deadline", "lost", "undecodable", "not_found", "arguments", "expired"]
"""Why a job ended for good: its task raised; ran past its timeout; its deadline passed; its worker was lost in the last
attempt; its payload cannot be decoded, or is not signed as it must be; no task has its name; its arguments are not what
the task takes; it was to be started no more by then."""

_LONGEST_MESSAGE = 4096
"""Characters of an error's message that are kept: a list holds many, and a traceback ends in the whole of it."""


class About(msgspec.Struct, omit_defaults=True, gc=False):
    """What a list of dead letters shows of one.

    Attributes:
        task: "" where the payload could not be decoded.
        reason: a `Reason`.
        error: the exception's class as `module.Name`.
        attempts: how many it had.
        enqueued_ms: Unix ms by the producer's clock; 0 where it is not known.
        until_ms: Unix ms by the server's clock until which it is kept; 0 where it is not known.
    """

    task: str = ""
    queue: str = ""
    reason: str = "failed"
    error: str = ""
    message: str = ""
    attempts: int = 0
    worker: str = ""
    enqueued_ms: int = 0
    started_ms: int = 0
    until_ms: int = 0


_about = msgspec.msgpack.Decoder(About)
_encoder = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that failed for good, and is kept.

    Attributes:
        task: None where the payload could not be decoded.
        reason: a `Reason`.
        error: of the last attempt; its traceback is there only where one letter was asked for.
        attempts: how many it had.
        died_at: when it failed for good, by the server's clock.
        expires_at: until when it is kept, unless newer ones displace it before.
        payload: the job's bytes as they were, where one letter was asked for; None in lists.
        unreadable: why the payload cannot be read here, where one letter was asked for.
        arguments, keyword_arguments, metadata: as plain data, where one letter was asked for and can be read.
        history: each attempt, the oldest first, where one letter was asked for.
        history_dropped: how many older ones are not kept any more.
    """

    job_id: str
    task: str | None
    queue: str
    reason: str
    error: RemoteError
    attempts: int
    worker: str | None
    enqueued_at: datetime | None
    started_at: datetime | None
    died_at: datetime | None
    expires_at: datetime | None
    payload: bytes | None = field(default=None, repr=False)
    unreadable: str | None = None
    arguments: tuple[Any, ...] = field(default=(), repr=False)
    keyword_arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[AttemptInfo, ...] = field(default=(), repr=False)
    history_dropped: int = 0


def encode_about(about: About) -> bytes:
    """Return the record's bytes, its message cut; text that UTF-8 has no form for is shown with backslashes."""
    about.message = about.message[:_LONGEST_MESSAGE]
    try:
        return _encoder.encode(about)
    except UnicodeEncodeError:
        for name in ("task", "queue", "error", "message", "worker"):
            setattr(about, name, getattr(about, name).encode(errors="backslashreplace").decode())
        return _encoder.encode(about)


def decode_about(raw: bytes | None) -> About:
    """Return the record in these bytes; an empty one where there is none, or a foreign program wrote it."""
    if raw is None:
        return About(reason="unknown")
    try:
        return _about.decode(raw)
    except MALFORMED:
        return About(reason="unknown", message="what was kept of it cannot be read")


def read_letter(
    job_id: str,
    died_ms: float,
    about: About,
    *,
    queue: str | None = None,
    traceback: str = "",
    payload: bytes | None = None,
    reading: Reading | None = None,
    attempts: Sequence[bytes] | None = None,
) -> DeadLetter:
    """Return a letter as people are shown it; never raises for what is in it.

    Args:
        died_ms: its score.
        queue: where the job was, if that is known better than the record says.
        payload: with `reading`, decoded, as far as that goes.
        attempts: the entries of its history, where they were asked for.
    """
    queue = queue or about.queue
    content: dict[str, Any] = {}
    if payload is not None and reading is not None:
        content = _read(payload, reading, job_id, queue)
    if attempts is not None:
        content |= _history(job_id, died_ms, about, attempts, reading or MSGPACK_ONLY)
    return DeadLetter(
        job_id=job_id,
        task=about.task or None,
        queue=queue,
        reason=about.reason,
        error=RemoteError(about.error, about.message, traceback),
        attempts=about.attempts,
        worker=about.worker or None,
        enqueued_at=_moment(about.enqueued_ms),
        started_at=_moment(about.started_ms),
        died_at=_moment(died_ms),
        expires_at=_moment(about.until_ms),
        payload=payload,
        **content,
    )


def _read(payload: bytes, reading: Reading, job_id: str, queue: str) -> dict[str, Any]:
    try:
        job = decode_job(payload, reading, job_id, queue)
        arguments, keyword_arguments = job.as_objects()
    except Undecodable as error:
        return {"unreadable": str(error)}
    except (*MALFORMED, TypeError, ValueError) as error:  # the parts of a pickle may be of any shape
        return {"unreadable": f"the payload is no job: {type(error).__name__}"}
    meta = job.extras.meta if job.extras is not None else None
    return {"arguments": arguments, "keyword_arguments": keyword_arguments, "metadata": meta or {}}


def _history(job_id: str, died_ms: float, about: About, attempts: Sequence[bytes], reading: Reading) -> dict[str, Any]:
    history = history_of(attempts, job_id, reading).of_job(about.enqueued_ms or None)
    final = AttemptInfo(
        number=about.attempts,
        outcome="timed_out" if about.reason in {"timed_out", "deadline"} else "failed",
        started_at=_moment(about.started_ms),
        finished_at=_moment(died_ms),
        worker=about.worker or None,
        error=RemoteError(about.error, about.message),
    )
    return {"history": history.followed_by(final, about.started_ms), "history_dropped": history.dropped}


def _moment(unix_ms: float) -> datetime | None:
    if not unix_ms:
        return None
    try:
        return datetime.fromtimestamp(unix_ms / 1000, tz=UTC)
    except (OverflowError, ValueError, OSError):  # whatever a foreign program wrote there
        return None
