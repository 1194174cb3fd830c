"""What is told of one job: a `JobInfo`, made of what is stored on it.

Pure: who fetched the bytes is inspect.py or listing.py. Whatever a foreign program wrote there, nothing here raises.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from common.attempts import RUNNING, AttemptInfo, history_of
from common.attempts import moment_of as moment
from common.codec import Payload, Reading, decode_job
from common.errors import Undecodable
from common.jobs import JobInfo, JobState, OutcomeKind, RemoteError, StepTiming
from common.progress import Progress, decode_progress
from common.redis.scores import is_parked, read_due
from common.result_codec import Result, decode_result
from common.values import MALFORMED, to_plain

__all__ = [
    "Stored",
    "described",
    "ended_info",
    "is_lease_end",
    "live_info",
    "live_state",
    "moment",
    "place_in",
    "progress_in",
    "state_of_result",
]


class Stored(NamedTuple):
    """What is stored on a job that has not ended.

    Attributes:
        payload: None where there is none; text says why it was not fetched.
        score: where it stands in its queue, or in a lane of it.
        due: when it was due, as a score.
        holder: its lease, if somebody has it.
        attempts: how many began before, as a foreign program may have written it.
        told: what it last said of how far it is.
        waits_for: the gate it waits for.
        past: its history; None where nobody asks for its attempts.
    """

    payload: bytes | str | None = None
    score: float | None = None
    due: float | None = None
    holder: bytes | None = None
    attempts: bytes | None = None
    told: bytes | None = None
    waits_for: bytes | None = None
    past: Sequence[bytes] | None = None


def live_state(score: float | None, holder: bytes | None, now_ms: int) -> JobState:
    """Return where a job stands that has no result."""
    if score is None:
        return JobState.UNKNOWN
    if holder:
        return JobState.RUNNING
    if is_parked(score):
        return JobState.QUEUED
    return JobState.SCHEDULED if score > now_ms else JobState.QUEUED


def live_info(job_id: str, queue: str, state: JobState, stored: Stored, reading: Reading) -> JobInfo:
    """Return what is told of a job that has not ended; `unreadable` says why its payload tells nothing."""
    score, holder = stored.score, stored.holder
    info: dict[str, Any] = {"job_id": job_id, "state": state, "queue": queue}
    info["attempt"] = _count(stored.attempts) + is_lease_end(score)
    info["due_at"] = moment(None if stored.due is None else read_due(stored.due))
    info["progress"] = progress_in(stored.told, reading, job_id)
    if not holder and is_parked(score):
        info["due_at"] = None
    if not holder and score is not None and stored.waits_for is not None:
        info["waits_for"] = stored.waits_for.decode(errors="replace")
    if holder and (worker := holder.decode(errors="replace").rpartition(":")[0].rpartition(":")[0]):
        info["worker"] = worker
    info |= described(stored.payload, reading, job_id, queue)
    if stored.past is not None:
        info |= _attempts(job_id, stored, info, reading)
    return JobInfo(**info)


def _attempts(job_id: str, stored: Stored, info: dict[str, Any], reading: Reading) -> dict[str, Any]:
    """Return the fields of a `JobInfo` that tell of the attempts of a job that has not ended."""
    history = history_of(stored.past or (), job_id, reading)
    enqueued_at = info.get("enqueued_at")
    if enqueued_at is not None:
        history = history.of_job(round(enqueued_at.timestamp() * 1000))
    attempts = history.attempts
    if stored.holder:
        counted = stored.holder.rpartition(b":")[0].rpartition(b":")[2]
        attempts += (AttemptInfo(_count(counted) or info["attempt"], RUNNING, worker=info.get("worker")),)
    elif is_lease_end(stored.score):  # its worker was lost, and nobody has claimed the job since
        attempts += (AttemptInfo(info["attempt"], OutcomeKind.LOST.value, finished_at=moment(stored.score)),)
    return {"attempts": attempts, "attempts_dropped": history.dropped}


def described(payload: bytes | str | None, reading: Reading, job_id: str, queue: str) -> dict[str, Any]:
    """Return the fields of a `JobInfo` that a payload tells; where it tells none, why.

    Args:
        payload: text says why it was not fetched.
    """
    if payload is None:
        return {"unreadable": "there is no payload: the job expired, or somebody deleted it"}
    if isinstance(payload, str):
        return {"unreadable": payload}
    try:
        return _told_by(decode_job(payload, reading, job_id, queue))
    except Undecodable as error:
        return {"unreadable": str(error)}
    except (*MALFORMED, TypeError, ValueError) as error:  # the parts of a pickle may be of any shape
        return {"unreadable": f"the payload is no job: {type(error).__name__}"}


def ended_info(job_id: str, queue: str, raw: bytes, reading: Reading, past: Sequence[bytes] | None = None) -> JobInfo:
    """Return what is told of a job that has a result; its state is ENDED, and `error` says why, where it tells nothing.

    Args:
        queue: where it was, should the result not say.
        past: its history; None where nobody asks for its attempts.
    """
    try:
        result = decode_result(raw, reading, job_id)
        info = _ended(job_id, state_of_result(result), result)
        if past is None:
            return info
        history = history_of(past, job_id, reading)
        return replace(info, attempts=history.ended_by(result), attempts_dropped=history.dropped)
    except (Undecodable, *MALFORMED, TypeError, ValueError) as error:  # its parts may be of any shape
        why = RemoteError(f"{type(error).__module__}.{type(error).__qualname__}", str(error))
        attempts = history_of(past or (), job_id, reading).attempts
        return JobInfo(job_id=job_id, state=JobState.ENDED, queue=queue, error=why, attempts=attempts)


def state_of_result(result: Result) -> JobState:
    """Return how a job ended."""
    if result.success:
        return JobState.SUCCEEDED
    return JobState.CANCELLED if result.outcome in {"cancelled", "discarded"} else JobState.FAILED


def progress_in(told: bytes | None, reading: Reading, job_id: str) -> Progress | None:
    """Return a job's progress; None, too, where it cannot be read or is not to be trusted."""
    with contextlib.suppress(Undecodable):
        return None if told is None else decode_progress(told, reading, job_id)
    return None


def place_in(mark: bytes) -> float:
    """Return the place in its lane of a job that stands in the queue."""
    try:
        return float(mark.rpartition(b" ")[2])
    except ValueError:  # whatever a foreign program wrote there
        return 0.0


def is_lease_end(score: float | None) -> bool:
    """Whether the score is one that claim.lua and renew.lua write: it stands for an attempt that no key counts."""
    return score is not None and score % 1 == 0.5


def _told_by(payload: Payload) -> dict[str, Any]:
    args, kwargs = payload.as_objects()
    return {
        "task": payload.task,
        "arguments": args,
        "keyword_arguments": kwargs,
        "enqueued_at": moment(payload.enqueued_ms),
        "metadata": (payload.extras.meta if payload.extras else None) or {},
        "priority": (payload.extras.prio if payload.extras else None) or 0,
    }


def _ended(job_id: str, state: JobState, result: Result) -> JobInfo:
    args, kwargs, value = result.args, result.kwargs, result.value
    if result.form == "msgpack":
        args, kwargs = to_plain(args), to_plain(kwargs)
        value = to_plain(value) if result.success else None
    return JobInfo(
        job_id=job_id,
        state=state,
        task=result.task,
        queue=result.queue,
        arguments=tuple(args),
        keyword_arguments=kwargs,
        enqueued_at=moment(result.enqueued_ms),
        attempt=result.attempt,
        started_at=moment(result.started_ms),
        finished_at=moment(result.finished_ms),
        worker=result.worker or None,
        result=value,
        error=result.error,
        metadata=result.metadata or {},
        timing=StepTiming(*result.timing) if result.timing is not None else None,
    )


def _count(stored: bytes | None) -> int:
    """Return a count of attempts; a foreign program may have written anything there."""
    try:
        return max(0, int(float(stored or 0)))
    except (ValueError, OverflowError):
        return 0
