"""What the fraction of a score says: how a job came to be due.

A due time is a whole number of ms. Some scores have a fraction, and cost no key of their own for it:

    …001.5                a lease's end: an attempt had begun, and its worker was lost (claim.lua, renew.lua)
    …001 + k/2048         put back by a worker that does not know its task; k tells since when that goes on
    …001 + (2032+p)/2048  p hours before its due time: the head start of a job of priority p (prelude.lua)

The three last codes are not times but say what a job waits for, or waited for (gates_prelude.lua): its time by a rate
limit, which is the score (RESERVED); the same, once the first one could not be kept (DISPLACED); its turn in a lane
(PARKED). Once it is due, the first two have a head start of twelve and eleven hours instead.

Pure. The k-th of these times lies `_waited(k)` after the first: a quarter of a second apart at the beginning, later
half a percent of the time gone by (20 s after an hour). So whoever finds such a score knows the first of them to the
millisecond, whoever put the job back the last time, and no clock but the server's is in it. Each job's times are
shifted by a part of a step that its id gives, so that those of many do not come at once.

The codes of jobs that are put back reach past 30 days. A double holds eleven bits beside a time of ours until the year
2109.
"""

from __future__ import annotations

import math
import zlib
from typing import Literal, NamedTuple

from common.priorities import MOST_URGENT

__all__ = [
    "HEAD_START_MS",
    "Past",
    "Score",
    "ahead",
    "is_held_back",
    "is_meant",
    "is_parked",
    "put_off",
    "read_due",
    "read_score",
    "reserved",
]

Past = Literal["", "lost", "passed_on", "reserved", "displaced", "parked"]
"""How a job came to be due, as far as a score tells: the lease of the attempt before ran out; its worker knew no such
task; its time by a limit has come, or came too late once, or it is in a lane."""


class Score(NamedTuple):
    """What a score tells of a job.

    Attributes:
        due_ms: when it was due, Unix ms; of one that was passed on, at first.
        priority: what it has a head start for.
    """

    due_ms: int
    past: Past = ""
    priority: int = 0


HEAD_START_MS = 3_600_000
"""By how much a job of priority 1 stands before its due time, one of priority 2 twice as much, and so on."""

_CODES = 2048
_AHEAD = 2032  # and the priority, which is not 0
_PUT_OFF = _AHEAD
_RESERVED, _DISPLACED, _PARKED = _CODES - 1, _CODES - 2, _CODES - 3
_BY_LIMITS: dict[int, Past] = {
    _RESERVED: "reserved",
    _DISPLACED: "displaced",
    _PARKED: "parked",
    _AHEAD + 12: "reserved",  # with a head start, which is the number
    _AHEAD + 11: "displaced",
}
_LEASE_END = _CODES // 2  # the half is taken
_GROWTH = 0.0055
_FIRST_STEP_MS = 250
_SCALE_MS = _FIRST_STEP_MS / _GROWTH


def read_score(score: bytes, job_id: bytes) -> Score:
    """Return what a score tells of its job, whatever wrote it."""
    number = float(score)
    if number <= 0:  # -inf included
        return Score(0)
    whole = int(number)
    code = (number - whole) * _CODES
    if code == _LEASE_END:
        return Score(whole, "lost")
    if code == 0 or not code.is_integer():  # a foreign program's fraction, most likely
        return Score(whole)
    if code in _BY_LIMITS:
        return Score(int(read_due(number)) if code < _PARKED else whole, _BY_LIMITS[int(code)])
    if code > _AHEAD:
        priority = min(int(code) - _AHEAD, MOST_URGENT)
        return Score(whole + priority * HEAD_START_MS, "", priority)
    return Score(max(0, whole - _waited(int(code), job_id)), "passed_on")


def read_due(score: float) -> float:
    """Return when a job of this score is due, Unix ms: its head start taken away, where it has one."""
    code = score % 1 * _CODES
    if _AHEAD < code < _PARKED and code.is_integer():
        return math.floor(score) + (code - _AHEAD) * HEAD_START_MS
    return score


def ahead(due_ms: int, priority: int) -> int | str:
    """Return the score of a job that is due, with the head start of its priority."""
    if priority == 0:
        return due_ms
    return repr(max(1, due_ms - priority * HEAD_START_MS) + (_AHEAD + priority) / _CODES)


def reserved(due_ms: int) -> str:
    """Return the score of a job that was due then and does not stand in line again at its limits."""
    return repr(max(1, due_ms - 12 * HEAD_START_MS) + (_AHEAD + 12) / _CODES)


def is_parked(score: float | None) -> bool:
    """Whether a score is that of a job in a lane, which is not the time it is due."""
    return score is not None and score % 1 == _PARKED / _CODES


def is_held_back(score: float | None) -> bool:
    """Whether a score is that of a job that waits for a limit, in its lane or for its time."""
    return score is not None and score % 1 * _CODES >= _AHEAD + 11


def put_off(job_id: bytes, *, since_ms: int, after_ms: int) -> str:
    """Return the next due time of a job that no worker knew since `since_ms`, as the score to write.

    It lies one to two steps past `after_ms` (Unix ms).
    """
    steps = math.log1p(max(0, after_ms - since_ms) / _SCALE_MS) / math.log1p(_GROWTH)
    code = min(math.floor(steps - _shift(job_id)) + 2, _PUT_OFF)
    if code == _LEASE_END:
        code += 1
    return repr(since_ms + _waited(code, job_id) + code / _CODES)


def is_meant(wish: float, enqueued_ms: int) -> bool:
    """Tell whether a wish to abort an id, by its score in `arq:abort`, means the job of that id enqueued at that time.

    Our own wishes have a fraction (abort.lua): they were made of a job that was there, and go when it ends. One of a
    stock arq client may be older than the job: then it was left over from another one, which was not there any more.
    """
    return wish % 1 != 0 or wish >= enqueued_ms


def _waited(code: int, job_id: bytes) -> int:
    """Return the ms from the first time to that of this code."""
    return int(_SCALE_MS * math.expm1((code + _shift(job_id)) * math.log1p(_GROWTH)))


def _shift(job_id: bytes) -> float:
    return zlib.crc32(job_id) / 2**32
