"""What the fraction of a score says: how a job came to be due.

A due time is a whole number of ms. Two kinds of score have a fraction, and cost no key of their own for it:

    …001.5          the end of a lease: an attempt had begun, and its worker was lost (claim.lua, renew.lua)
    …001 + k/2048   put back by a worker that does not know its task; k tells since when that goes on

Pure. The k-th of these times lies `_waited(k)` after the first: a quarter of a second apart at the beginning, later
half a percent of the time gone by (20 s after an hour). So whoever finds such a score knows the first of them to the
millisecond, whoever put the job back the last time, and no clock but the server's is in it. Each job's times are
shifted by a part of a step that its id gives, so that those of many do not come at once.

The codes reach past 30 days. A double holds their eleven bits beside a time of ours until the year 2109.
"""

from __future__ import annotations

import math
import zlib
from typing import Literal

__all__ = ["Past", "put_off", "read_score"]

Past = Literal["", "lost", "passed_on"]
"""How the attempt before this one ended, as far as a score tells: its lease ran out; its worker knew no such task."""

_CODES = 2048
_LEASE_END = _CODES // 2  # the half is taken
_GROWTH = 0.0055
_FIRST_STEP_MS = 250
_SCALE_MS = _FIRST_STEP_MS / _GROWTH


def read_score(score: bytes, job_id: bytes) -> tuple[int, Past]:
    """Return when a job was due (Unix ms), and how it came to be so; whatever wrote the score.

    For a job that was passed on it is the moment this began, not when it was due the last time.
    """
    number = float(score)
    if number <= 0:  # -inf included
        return 0, ""
    whole = int(number)
    code = (number - whole) * _CODES
    if code == _LEASE_END:
        return whole, "lost"
    if code == 0 or not code.is_integer():  # a foreign program's fraction, most likely
        return whole, ""
    return max(0, whole - _waited(int(code), job_id)), "passed_on"


def put_off(job_id: bytes, *, since_ms: int, after_ms: int) -> str:
    """Return the next due time of a job that no worker knew since `since_ms`, as the score to write.

    It lies one to two steps past `after_ms` (Unix ms).
    """
    steps = math.log1p(max(0, after_ms - since_ms) / _SCALE_MS) / math.log1p(_GROWTH)
    code = min(math.floor(steps - _shift(job_id)) + 2, _CODES - 1)
    if code == _LEASE_END:
        code += 1
    return repr(since_ms + _waited(code, job_id) + code / _CODES)


def _waited(code: int, job_id: bytes) -> int:
    """Return the ms from the first time to that of this code."""
    return int(_SCALE_MS * math.expm1((code + _shift(job_id)) * math.log1p(_GROWTH)))


def _shift(job_id: bytes) -> float:
    return zlib.crc32(job_id) / 2**32
