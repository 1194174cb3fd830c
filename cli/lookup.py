"""Finding a job whose queue nobody named, and one way for the server's errors to become ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from common.errors import BarqueError, RedisUnavailable
from common.jobs import JobInfo, JobState
from common.redis.connection import TROUBLE, describe
from common.redis.reasons import reason

if TYPE_CHECKING:
    from common.redis.inspect import Inspector, WorkerReport
    from common.settings import Settings

__all__ = ["asking", "find_job", "queues_in_use"]


@contextlib.contextmanager
def asking(settings: Settings) -> Iterator[None]:
    """Raise what Redis does in the block as one readable `RedisUnavailable`."""
    try:
        yield
    except BarqueError:
        raise  # ResultTimeout is a TimeoutError, and that an OSError
    except TROUBLE as error:
        why, advice = reason(error)
        raise RedisUnavailable(f"Redis at {describe(settings)}: {why}; {advice}") from error


def queues_in_use(given: Sequence[str], workers: Sequence[WorkerReport]) -> list[str]:
    """Return these queues, then those that live workers serve besides."""
    return list(dict.fromkeys([*given, *(queue for worker in workers for queue in worker.queues)]))


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
