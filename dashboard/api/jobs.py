"""Jobs in the API: finding them, one job and its result, aborting and rescheduling it. Enqueueing stands beside it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from common.errors import JobCancelled, ResultTimeout, TaskFailed
from common.jobs import JobInfo, JobState, RemoteError
from dashboard.api.documents import ErrorDocument, JobDocument, Shown, Time, job, remote_error
from dashboard.api.enqueueing import Seconds
from dashboard.api.operations import Asked, no_such, operation
from dashboard.security.masking import readable
from producer import Job
from producer.job_filters import ListedState
from producer.listing import MOST_ON_A_PAGE

__all__ = ["OPERATIONS", "find"]

_LONGEST_WAIT = 60

Text = Annotated[str, msgspec.Meta(min_length=1)]

Queue = Annotated[
    str | None, msgspec.Meta(description="The queue it is in; without it, the queues in use are looked through")
]


class JobQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where a job is."""

    queue: Queue = None


class JobsQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which jobs; all that is given must fit."""

    state: Annotated[list[ListedState], msgspec.Meta(description="One or several; all by default")] = []
    queue: Annotated[Text | None, msgspec.Meta(description="Without it, all queues in use")] = None
    task: Annotated[Text | None, msgspec.Meta(description="The task's name; * and ? stand for any characters")] = None
    key: Annotated[Text | None, msgspec.Meta(description="Its limit key or fair key; with a task, its unique key")] = (
        None
    )
    error: Annotated[Text | None, msgspec.Meta(description="Text in the error's class or message, in any case")] = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_ON_A_PAGE)] = 50
    cursor: Annotated[Text | None, msgspec.Meta(description="`next` of the page before, with the same filters")] = None


class JobList(msgspec.Struct, kw_only=True):
    """Some jobs, and where to go on."""

    jobs: list[JobDocument]
    next: Annotated[
        str | None,
        msgspec.Meta(
            description="Give it as `cursor` for those that follow, if this page is empty, too; null: the end"
        ),
    ]
    unreadable: Annotated[int, msgspec.Meta(description="Jobs left out since nobody can tell here whether they fit")]


class ResultQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where a job is, and for how long its result is waited for."""

    queue: Queue = None
    wait: Annotated[
        float,
        msgspec.Meta(
            ge=0, le=_LONGEST_WAIT, description="Seconds to wait for it; the answer comes at once when it is there"
        ),
    ] = 0


class ResultDocument(msgspec.Struct, kw_only=True):
    """How a job ended, if it has."""

    job_id: str
    state: str
    ended: bool
    result: Shown
    error: ErrorDocument | None


class AbortRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a job is ended."""

    wait: Annotated[
        float,
        msgspec.Meta(ge=0, le=_LONGEST_WAIT, description="Seconds to wait for a running job to end; 0 does not wait"),
    ] = 5


class AbortDocument(msgspec.Struct, kw_only=True):
    """What became of an abort."""

    job_id: str
    aborted: Annotated[bool, msgspec.Meta(description="It has ended so; false: it ended otherwise, or has yet to end")]
    state: str


class RescheduleRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """When a job is to be due: one of the two."""

    delay: Annotated[Seconds | None, msgspec.Meta(description="Seconds from now; 0 is at once")] = None
    at: Time | None = None


class RescheduleDocument(msgspec.Struct, kw_only=True):
    """When it is due now."""

    job_id: str
    due_at: Time


@operation("GET", "/jobs", tag="jobs")
async def list_jobs(asked: Asked, query: JobsQuery) -> JobList:
    """List the jobs that fit, a page at a time.

    Those that run come first, then those that are due, those that wait for a limit, those due later, the dead, and
    those that have ended, as far as results are kept. A page costs the same however many jobs there are.
    """
    producer = await asked.dashboard.source.producer()
    page = await producer.jobs(
        limit=query.limit,
        cursor=query.cursor,
        state=query.state or None,
        queue=query.queue,
        task=query.task,
        key=query.key,
        error=query.error,
    )
    return JobList(jobs=[job(asked, each) for each in page.jobs], next=page.next, unreadable=page.unreadable)


@operation("GET", "/jobs/{job_id}", tag="jobs", problems=(404,))
async def get_job(asked: Asked, query: JobQuery) -> JobDocument:
    """Tell all that is stored on a job."""
    _, info = await find(asked, query.queue)
    return job(asked, info)


@operation("GET", "/jobs/{job_id}/result", tag="jobs", statuses=(200, 202), problems=(404,))
async def get_result(asked: Asked, query: ResultQuery) -> ResultDocument:
    """Return the result of a job, and wait for it if need be.

    200 says how it ended: `result` is what the task returned, or `error` what it raised. 202 says that it has not ended
    yet. Texts and lists are whole here; what is masked is masked here, too (BARQUE_DASHBOARD_ARGUMENTS=all does not).
    """
    handle, info = await find(asked, query.queue)
    if not (info.state.ended or info.is_dead) and query.wait > 0:
        waited = await _wait(asked, handle, query.wait)
        if waited is not None:
            return waited
        info = await handle.info()
    ended = info.state.ended or info.is_dead
    asked.status = 200 if ended else 202
    return ResultDocument(
        job_id=readable(info.job_id),
        state=info.state.value,
        ended=ended,
        result=_shown(asked, info.result),
        error=None if info.error is None else remote_error(asked, info.error, whole=True),
    )


@operation("POST", "/jobs/{job_id}/abort", tag="jobs", problems=(404,))
async def abort_job(asked: Asked, query: JobQuery, body: AbortRequest) -> AbortDocument:
    """End a job as cancelled: at once if it waits, by cancelling its coroutine if it runs."""
    handle, info = await find(asked, query.queue)
    aborted = not info.state.ended and await handle.abort(wait=body.wait)
    state = info.state if info.state.ended else await handle.status()
    return AbortDocument(job_id=readable(handle.job_id), aborted=aborted, state=state.value)


@operation("POST", "/jobs/{job_id}/reschedule", tag="jobs", problems=(404, 409))
async def reschedule_job(asked: Asked, query: JobQuery, body: RescheduleRequest) -> RescheduleDocument:
    """Have a job that waits come due at another time."""
    handle, _ = await find(asked, query.queue)
    due_at = await handle.reschedule(delay=body.delay, at=body.at)
    return RescheduleDocument(job_id=readable(handle.job_id), due_at=due_at)


async def find(asked: Asked, queue: str | None) -> tuple[Job[Any], JobInfo]:
    """Return the job that the path names.

    Args:
        queue: where it is, if that is known.

    Raises:
        ProblemRaised: there is none.
    """
    producer = await asked.dashboard.source.producer()
    page = await producer.jobs(id=asked.path["job_id"], queue=queue)
    if not page.jobs:
        raise no_such("job: it was never enqueued, or it ended and its result is no longer kept")
    (info,) = page.jobs
    return producer.job(info.job_id, queue=info.queue or queue), info


async def _wait(asked: Asked, handle: Job[Any], seconds: float) -> ResultDocument | None:
    """Return how a job ended within so many seconds, even where its result is kept for nobody; None if it has not."""
    error: RemoteError | None = None
    value, state = None, JobState.SUCCEEDED
    try:
        value = await handle.result(timeout=seconds)
    except ResultTimeout:
        return None
    except TaskFailed as failure:
        state = JobState.FAILED
        error = RemoteError(failure.remote_type, failure.remote_message, failure.remote_traceback)
    except JobCancelled as cancelled:
        state, error = JobState.CANCELLED, RemoteError(type(cancelled).__name__, str(cancelled))
    return ResultDocument(
        job_id=readable(handle.job_id),
        state=state.value,
        ended=True,
        result=_shown(asked, value),
        error=None if error is None else remote_error(asked, error, whole=True),
    )


def _shown(asked: Asked, value: Any) -> Any:
    return None if value is None else asked.dashboard.masking.value(value, whole=True)


OPERATIONS = (list_jobs, get_job, get_result, abort_job, reschedule_job)
