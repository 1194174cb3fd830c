"""The result that a job ends with which is aborted while it waits: no worker ever had it, so its producer writes it."""

from __future__ import annotations

import asyncio
import time

from common.codec import Reading, decode_job, is_pickle
from common.errors import Undecodable
from common.jobs import OutcomeKind, RemoteError
from common.result_codec import Result, encode_result

__all__ = ["cancelled_result"]


def cancelled_result(reading: Reading, job_id: str, queue: str, stored: bytes | None) -> bytes:
    """Write the result that a job ends with which is aborted while it waits, in the form its producer reads.

    Args:
        stored: its payload, None where there is none.
    """
    now_ms = time.time_ns() // 1_000_000
    result = Result(
        job_id=job_id,
        task="<unknown>",
        queue=queue,
        success=False,
        value=None,
        attempt=0,
        enqueued_ms=now_ms,
        started_ms=now_ms,
        finished_ms=now_ms,
        outcome=OutcomeKind.CANCELLED.value,
        error=RemoteError("asyncio.exceptions.CancelledError", "the job was aborted"),
        exception=asyncio.CancelledError(),
    )
    if stored is not None:
        try:
            payload = decode_job(stored, reading, job_id, queue)
        except Undecodable:
            result.form = "pickle" if is_pickle(stored) else "msgpack"
        else:
            result.task, result.enqueued_ms, result.form = payload.task, payload.enqueued_ms, payload.form
            result.args, result.kwargs = payload.args, payload.kwargs
            result.metadata = payload.extras.meta if payload.extras else None
    return encode_result(result, reading)
