"""Enqueueing over the API: from any language that speaks HTTP and JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from common.tasks import Call, registered_tasks
from common.uniqueness import Debounce, Throttle, Unique, Uniqueness
from common.values import encode
from dashboard.api.documents import Time
from dashboard.api.operations import Asked, operation
from dashboard.security.masking import readable
from producer import Job
from producer.editing import Reenqueued as ReenqueuedJob
from producer.options import EnqueueArguments

__all__ = ["OPERATIONS", "call_of"]

Name = Annotated[str, msgspec.Meta(min_length=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=10 * 365 * 24 * 3600)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=10 * 365 * 24 * 3600)]


class UniqueRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="unique"):
    """At most one job of a key at a time."""

    until: Literal["done", "started"] | None = "done"
    for_: Annotated[Positive | None, msgspec.Meta(description="Seconds it holds at the least")] = msgspec.field(
        default=None, name="for"
    )
    on_conflict: Literal["return", "replace", "reject"] = "return"


class DebounceRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="debounce"):
    """Run once it is quiet: each enqueue replaces the arguments of the job that waits, and puts it off again."""

    quiet: Positive
    at_most: Positive | None = None


class ThrottleRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="throttle"):
    """Run at most once per window of so many seconds."""

    per: Positive
    trailing: bool = False
    on_conflict: Literal["return", "reject"] = "return"


class EnqueueOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What an enqueue may ask for."""

    queue: Annotated[
        str | None, msgspec.Meta(description="Instead of the task's own, or the first of BARQUE_QUEUES")
    ] = None
    delay: Annotated[Seconds | None, msgspec.Meta(description="Due after so many seconds")] = None
    at: Annotated[Time | None, msgspec.Meta(description="Due then; with a time zone")] = None
    expires: Annotated[Positive | None, msgspec.Meta(description="Seconds from now; not started after that")] = None
    timeout: Annotated[Positive | None, msgspec.Meta(description="Seconds one attempt may take")] = None
    soft_timeout: Annotated[Positive | None, msgspec.Meta(description="When an attempt is told to end")] = None
    deadline: Annotated[
        Positive | Time | None, msgspec.Meta(description="Seconds from when it is due, or a time: it has ended by then")
    ] = None
    max_attempts: Annotated[int, msgspec.Meta(ge=1)] | None = None
    metadata: Annotated[dict[str, Any] | None, msgspec.Meta(description="Travels with the job; no secrets")] = None
    unique: Annotated[
        UniqueRequest | DebounceRequest | ThrottleRequest | Literal[False] | None,
        msgspec.Meta(description="When jobs are the same one; false: this one is one of many"),
    ] = None
    unique_key: Annotated[Any, msgspec.Meta(description="What makes it the same; any JSON")] = None
    fair_key: Annotated[str | int | None, msgspec.Meta(description="Whose job it is: tenants take turns")] = None
    priority: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=9)] | Literal["normal", "high", "urgent", "critical"] | None,
        msgspec.Meta(description="0, normal, to 9, or a word"),
    ] = None
    limit_key: str | None = None
    limit_cost: Positive | None = None
    durable: Annotated[bool | None, msgspec.Meta(description="Answer only when the job is on the server's disk")] = None


class EnqueueRequest(EnqueueOptions, kw_only=True, forbid_unknown_fields=True):
    """A job to be."""

    task: Annotated[str, msgspec.Meta(min_length=1, max_length=1000, description="The task's name")]
    arguments: list[Any] = []
    keyword_arguments: dict[str, Any] = {}
    job_id: Annotated[
        str | None,
        msgspec.Meta(description="An id of your own: while a job has it nothing is added, so try again freely"),
    ] = None


class ReenqueueRequest(EnqueueOptions, kw_only=True, forbid_unknown_fields=True):
    """What is to be different of a job that is enqueued again; what is not given is as it was."""

    arguments: Annotated[
        dict[str, Any], msgspec.Meta(description='Those that are to be others: by place, "0" the first, or by name')
    ] = {}
    new_id: Annotated[str | None, msgspec.Meta(description="The new job's id; a fresh one by default")] = None
    replace: Annotated[
        bool, msgspec.Meta(description="Take the earlier one away: end it if it waits, delete its dead letter")
    ] = False


class Enqueued(msgspec.Struct, kw_only=True):
    """The job there is now."""

    job_id: str
    href: str
    queue: str
    is_new: Annotated[bool, msgspec.Meta(description="false: a job of this id, or unique key, was there already")]
    replaced: Annotated[bool, msgspec.Meta(description="That job has the new arguments now")]


class Reenqueued(Enqueued, kw_only=True):
    """The new job, and what became of the earlier one."""

    earlier: Annotated[str, msgspec.Meta(description="The state the earlier one was in")]
    earlier_replaced: Annotated[bool, msgspec.Meta(description="It was taken away")]


class EarlierQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where the earlier job is."""

    queue: Annotated[Name | None, msgspec.Meta(description="If that is a queue nobody serves")] = None


def call_of(name: str, arguments: list[Any], keyword_arguments: dict[str, Any]) -> Call[Any]:
    """Return a call by its task's name, bound to the task where its code is here.

    Raises:
        ArgumentMismatch: the task does not take these arguments.
        NotSerializable: an argument has no form on the wire.
    """
    call: Call[Any] = Call(name)
    call.args, call.kwargs = tuple(arguments), keyword_arguments
    task = registered_tasks().get(name)
    if task is not None:
        task.arguments.read(encode(arguments, what="arguments"), encode(call.kwargs, what="keyword arguments"))
        call.task = task
    return call


@operation("POST", "/jobs", tag="jobs", statuses=(201, 200), problems=(409,))
async def enqueue_job(asked: Asked, body: EnqueueRequest) -> Enqueued:
    """Enqueue a job by its task's name.

    When this is answered with 201, the server has it; with 200, a job of this id or unique key was there already. Where
    the dashboard has imported the task's code (BARQUE_DASHBOARD_TASKS) the arguments are checked first, and the task's
    own queue, priority and uniqueness hold, as for an enqueue in Python.
    """
    call = call_of(body.task, body.arguments, body.keyword_arguments)
    producer = await asked.dashboard.source.producer()
    job = await producer.enqueue(call, job_id=body.job_id, durable=body.durable, **_options(body))
    return Enqueued(**_told(asked, job))


@operation("POST", "/jobs/{job_id}/reenqueue", tag="jobs", statuses=(201, 200), problems=(404, 409))
async def reenqueue_job(asked: Asked, query: EarlierQuery, body: ReenqueueRequest) -> Reenqueued:
    """Enqueue a new job like an earlier one, which waits, runs, has ended or is dead, with some things changed.

    It is a job of its own, with its attempts counted anew. It is there before the earlier one is touched, so that
    neither is lost whatever happens in between.
    """
    producer = await asked.dashboard.source.producer()
    done: ReenqueuedJob[Job[Any]] = await producer.reenqueue(
        asked.path["job_id"],
        arguments={_place(key): value for key, value in body.arguments.items()},
        new_id=body.new_id,
        replace=body.replace,
        in_queue=query.queue,
        durable=body.durable,
        **_options(body),
    )
    return Reenqueued(**_told(asked, done.job), earlier=done.earlier.value, earlier_replaced=done.replaced)


def _place(key: str) -> int | str:
    """Return which argument is meant: by its place, or by its name."""
    return int(key) if key.isascii() and key.isdigit() and len(key) < 6 else key


def _told(asked: Asked, job: Job[Any]) -> dict[str, Any]:
    """Return what is told of a job that was enqueued; the answer's status says whether it is new."""
    asked.status = 201 if job.is_new else 200
    href = asked.href("/jobs/{job_id}", job_id=job.job_id)
    asked.headers["Location"] = href
    return {
        "job_id": readable(job.job_id),
        "href": href,
        "queue": readable(job.queue),
        "is_new": job.is_new,
        "replaced": job.replaced,
    }


def _options(body: EnqueueOptions) -> EnqueueArguments:
    deadline: float | datetime | None = body.deadline
    return {
        "delay": body.delay,
        "at": body.at,
        "expires": body.expires,
        "queue": body.queue,
        "timeout": body.timeout,
        "soft_timeout": body.soft_timeout,
        "deadline": deadline,
        "max_attempts": body.max_attempts,
        "metadata": body.metadata,
        "unique": _uniqueness(body),
        "unique_key": body.unique_key,
        "fair_key": body.fair_key,
        "priority": body.priority,
        "limit_key": body.limit_key,
        "limit_cost": body.limit_cost,
    }


def _uniqueness(body: EnqueueOptions) -> Uniqueness | Literal[False] | None:
    given = body.unique
    if isinstance(given, UniqueRequest):
        return Unique(until=given.until, for_=given.for_, on_conflict=given.on_conflict)
    if isinstance(given, DebounceRequest):
        return Debounce(given.quiet, given.at_most)
    if isinstance(given, ThrottleRequest):
        return Throttle(given.per, given.trailing, on_conflict=given.on_conflict)
    return given


OPERATIONS = (enqueue_job, reenqueue_job)
