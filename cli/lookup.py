"""Finding a job whose queue nobody named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.jobs import JobInfo, JobState

if TYPE_CHECKING:
    from common.redis.inspect import Inspector

__all__ = ["find_job"]


async def find_job(inspector: Inspector, job_id: str, queues: Sequence[str]) -> JobInfo:
    """Return all that is stored on a job, from the first of the queues that has it.

    A job that ended is found whatever its queue was. Its state is UNKNOWN when none has it.
    """
    info = JobInfo(job_id, JobState.UNKNOWN)
    for queue in queues:
        info = await inspector.job(job_id, queue)
        if info.state is not JobState.UNKNOWN:
            break
    return info
