"""Dead letters in the API: jobs that failed for good, to look at, replay and delete."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import msgspec

from dashboard.api.documents import DeadLetterDocument, Time, dead_letter
from dashboard.api.enqueueing import Seconds
from dashboard.api.operations import Asked, no_such, operation
from dashboard.problems import ProblemRaised
from dashboard.security.masking import readable
from producer.dead_filter import DeadFilters

__all__ = ["OPERATIONS"]

_MOST = 500
_MOST_AT_ONCE = 10_000
"""Letters of one request: some seconds."""

Name = Annotated[str, msgspec.Meta(min_length=1)]
Task = Annotated[Name | None, msgspec.Meta(description="The task's name; * and ? stand for any characters")]
Error = Annotated[
    Name | None, msgspec.Meta(description="The exception's class, with or without its module; * and ? too")
]
Ids = Annotated[list[Name], msgspec.Meta(max_length=_MOST)]


class DeadQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which letters; all that is given must fit."""

    task: Task = None
    error: Error = None
    queue: Name | None = None
    since: Time | None = None
    until: Time | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=_MOST)] = 100
    after: Annotated[str | None, msgspec.Meta(description="`next` of the page before")] = None


class DeadList(msgspec.Struct, kw_only=True):
    """Some letters, the newest first."""

    letters: list[DeadLetterDocument]
    next: Annotated[str | None, msgspec.Meta(description="Give it as `after` for those that follow; null: no more")]


class DeadSelection(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which letters: by ids, or by filters that must all fit, or everything, which has to be said."""

    job_ids: Ids | None = None
    task: Task = None
    error: Error = None
    queue: Name | None = None
    since: Time | None = None
    until: Time | None = None
    older_than: Annotated[Seconds | None, msgspec.Meta(description="Failed longer ago than this, in seconds")] = None
    limit: Annotated[
        int, msgspec.Meta(ge=1, le=_MOST_AT_ONCE, description="So many at the most, the oldest; then ask again")
    ] = _MOST_AT_ONCE
    everything: bool = False


class ReplayRequest(DeadSelection, kw_only=True, forbid_unknown_fields=True):
    """Which letters are put back into their queues, and when they are due."""

    delay: Seconds | None = None


class ReplayOne(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """When a job is due again."""

    delay: Seconds | None = None


class ReplayDocument(msgspec.Struct, kw_only=True):
    """What became of a replay."""

    replayed: int
    taken: Annotated[list[str], msgspec.Meta(description="A job of the id is there, or ended since otherwise")]
    missing: Annotated[list[str], msgspec.Meta(description="No letter of them is kept")]


class Deleted(msgspec.Struct, kw_only=True):
    """How many letters were forgotten."""

    deleted: int


@operation("GET", "/dead", tag="dead letters")
async def list_dead_letters(asked: Asked, query: DeadQuery) -> DeadList:
    """List jobs that failed for good, the newest first, a page at a time."""
    producer = await asked.dashboard.source.producer()
    page = await producer.dead.list(
        limit=query.limit,
        after=query.after,
        task=query.task,
        error=query.error,
        queue=query.queue,
        since=query.since,
        until=query.until,
    )
    return DeadList(letters=[dead_letter(asked, each) for each in page.letters], next=page.next)


@operation("GET", "/dead/{job_id}", tag="dead letters", problems=(404,))
async def get_dead_letter(asked: Asked) -> DeadLetterDocument:
    """Tell all that is kept of a job that failed for good."""
    producer = await asked.dashboard.source.producer()
    return dead_letter(asked, await producer.dead.get(asked.path["job_id"]))


@operation("POST", "/dead/{job_id}/replay", tag="dead letters", problems=(404, 409))
async def replay_dead_letter(asked: Asked, body: ReplayOne) -> ReplayDocument:
    """Put a job back into its queue, under its id, with its attempts counted anew."""
    producer = await asked.dashboard.source.producer()
    done = await producer.dead.replay(asked.path["job_id"], delay=body.delay)
    if done.missing:
        raise no_such("dead letter")
    if done.taken:
        raise ProblemRaised(409, "a job of this id is there, runs, or has ended since with another result")
    return ReplayDocument(replayed=done.replayed, taken=[], missing=[])


@operation("POST", "/dead/replay", tag="dead letters")
async def replay_dead_letters(asked: Asked, body: ReplayRequest) -> ReplayDocument:
    """Put many jobs back into their queues, the oldest first."""
    producer = await asked.dashboard.source.producer()
    done = await producer.dead.replay(
        *(body.job_ids or ()), limit=_limit(body), delay=body.delay, everything=body.everything, **_filters(body)
    )
    taken, missing = ([readable(job_id) for job_id in ids] for ids in (done.taken, done.missing))
    return ReplayDocument(replayed=done.replayed, taken=taken, missing=missing)


@operation("DELETE", "/dead/{job_id}", tag="dead letters", problems=(404,))
async def delete_dead_letter(asked: Asked) -> Deleted:
    """Forget a letter, for good."""
    producer = await asked.dashboard.source.producer()
    deleted = await producer.dead.delete(asked.path["job_id"])
    if not deleted:
        raise no_such("dead letter")
    return Deleted(deleted=deleted)


@operation("POST", "/dead/delete", tag="dead letters")
async def delete_dead_letters(asked: Asked, body: DeadSelection) -> Deleted:
    """Forget many letters, for good."""
    producer = await asked.dashboard.source.producer()
    deleted = await producer.dead.delete(
        *(body.job_ids or ()), limit=_limit(body), everything=body.everything, **_filters(body)
    )
    return Deleted(deleted=deleted)


def _limit(body: DeadSelection) -> int | None:
    """Return how many at the most; None where nothing is chosen but ids, or nothing at all."""
    chosen = body.everything or any(given is not None for given in _filters(body).values())
    return body.limit if chosen and not body.job_ids else None


def _filters(body: DeadSelection) -> DeadFilters:
    if body.older_than is not None and body.until is not None:
        raise ProblemRaised(422, "body: give older_than or until, not both")
    until = body.until if body.older_than is None else timedelta(seconds=body.older_than)
    return {"task": body.task, "error": body.error, "queue": body.queue, "since": body.since, "until": until}


OPERATIONS = (
    list_dead_letters,
    get_dead_letter,
    replay_dead_letters,
    delete_dead_letters,
    replay_dead_letter,
    delete_dead_letter,
)
