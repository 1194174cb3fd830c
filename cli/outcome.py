"""How a job ended, for `enqueue --wait` and `result`: waiting for it, and showing it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from cli.exit_codes import FAILED, OK
from cli.output import machine, note, to_jsonable
from cli.progress_line import follow
from common.errors import JobCancelled, JobDiscarded, TaskFailed, Undecodable
from common.jobs import JobState, RemoteError
from producer import Job

__all__ = ["Ending", "show_ending", "wait_for"]

_LAST_LOOK = 0.2
"""Seconds for what an ended job last said of how far it is."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended.

    Attributes:
        state: succeeded, failed or cancelled; ended, when its result cannot be read here.
        result: what the task returned, as plain data.
        error: what it failed with; why its task discarded it; or why its result cannot be read.
        attempts: how many it had, where that is known (of failures).
    """

    job_id: str
    state: JobState
    result: Any = None
    error: RemoteError | None = None
    attempts: int | None = None


async def wait_for(job: Job[Any], timeout: float | None) -> Ending:
    """Wait for the job and return how it ended; only waiting itself raises. Shows meanwhile how far it is.

    Raises:
        ResultTimeout, JobNotFound, RedisUnavailable: see `producer.Job.result`.
    """
    following = asyncio.create_task(follow(job))
    try:
        ending = await _ending(job, timeout)
        await asyncio.wait({following}, timeout=_LAST_LOOK)
        return ending
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _ending(job: Job[Any], timeout: float | None) -> Ending:
    try:
        return Ending(job.job_id, JobState.SUCCEEDED, result=await job.result(timeout))
    except TaskFailed as error:
        remote = RemoteError(error.remote_type, error.remote_message, error.remote_traceback)
        return Ending(job.job_id, JobState.FAILED, error=remote, attempts=error.attempts)
    except JobDiscarded as error:
        return Ending(job.job_id, JobState.CANCELLED, error=RemoteError("common.errors.Discard", error.reason))
    except JobCancelled:
        return Ending(job.job_id, JobState.CANCELLED)
    except Undecodable as error:
        why = RemoteError(f"{type(error).__module__}.{type(error).__qualname__}", str(error))
        return Ending(job.job_id, JobState.ENDED, error=why)


def show_ending(ending: Ending, *, as_json: bool, head: dict[str, Any] | None = None) -> int:
    """Print how a job ended and return the exit code.

    The result is JSON on stdout, by itself unless `as_json`; an error is text on stderr.

    Args:
        head: what else the JSON document says of the job.
    """
    converted = to_jsonable(ending.result)
    if as_json:
        document: dict[str, Any] = {**(head or {}), "job_id": ending.job_id, "state": ending.state.value}
        if ending.state is JobState.SUCCEEDED:
            document |= {"result": converted.value, "base64_at": converted.base64_at}
        if ending.error is not None:
            error = ending.error
            document["error"] = {"type": error.type, "message": error.message, "traceback": error.traceback}
            if ending.attempts is not None:
                document["attempts"] = ending.attempts
        machine(document)
    elif ending.state is JobState.SUCCEEDED:
        machine(converted.value, indent=2)
        if converted.base64_at:
            note(f"Bytes are shown as base64, at {', '.join(converted.base64_at[:5])}{_more(converted.base64_at)}.")
    else:
        note(_describe(ending))
    return OK if ending.state is JobState.SUCCEEDED else FAILED


def _describe(ending: Ending) -> str:
    if ending.error is None:
        return f"Job {ending.job_id} was cancelled."
    error = ending.error
    if ending.state is JobState.CANCELLED:
        return f"Job {ending.job_id} was discarded by its task: {error.message}"
    if ending.state is JobState.ENDED:
        return f"Job {ending.job_id} has ended, but its result cannot be read here: {error.message}"
    kind = error.type.removeprefix("builtins.")
    what = f"{kind}: {error.message}" if error.message else kind
    trace = f"\n\nIn the worker:\n{error.traceback.rstrip()}" if error.traceback else ""
    times = "1 attempt" if ending.attempts == 1 else f"{ending.attempts} attempts"
    return f"Job {ending.job_id} failed after {times}: {what}{trace}"


def _more(paths: list[str]) -> str:
    return f" and {len(paths) - 5} more places" if len(paths) > 5 else ""
