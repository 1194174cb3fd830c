"""Queues and tasks in the API: how they stand, and pausing them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from common.pauses import LONGEST_REASON, Pause
from common.redis.inspect import QueueReport
from dashboard.api.documents import PauseDocument, QueueDocument, pause, queue
from dashboard.api.operations import Asked, operation
from dashboard.security.masking import readable
from producer import Producer
from producer.aborting import Aborted

__all__ = ["OPERATIONS"]

_MOST_QUEUES = 500
"""Queues that are looked at for a list; more than anybody reads."""

_PURGE_FOR = 30.0
"""Seconds of one request."""

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_REASON, description="Why, for who looks on")]


class QueueList(msgspec.Struct, kw_only=True):
    """The queues in use: those of BARQUE_QUEUES, and all that live workers serve."""

    queues: list[QueueDocument]


class PauseList(msgspec.Struct, kw_only=True):
    """All that is paused."""

    pauses: list[PauseDocument]


class PauseRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a pause is noted."""

    reason: Reason | None = None


class PurgeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is left of the jobs."""

    keep_results: Annotated[
        bool, msgspec.Meta(description="Keep a result of each, that says what became of it, as long as any")
    ] = True


class PurgeDocument(msgspec.Struct, kw_only=True):
    """What became of a purge."""

    cancelled: int
    looked_at: int
    done: Annotated[bool, msgspec.Meta(description="false: there are more; ask again")]


class Paused(msgspec.Struct, kw_only=True):
    """A pause, and whether this request made it."""

    pause: PauseDocument
    is_new: Annotated[bool, msgspec.Meta(description="false: it was paused already, and that pause stands")]


class Resumed(msgspec.Struct, kw_only=True):
    """What was resumed."""

    kind: str
    name: str
    was_paused: bool


@operation("GET", "/queues", tag="queues")
async def list_queues(asked: Asked) -> QueueList:
    """List the queues in use, how deep they are, and which are paused."""

    async def read(producer: Producer) -> tuple[list[QueueReport], Sequence[Pause]]:
        names = await producer.inspector.queues_in_use(producer.settings.queues)
        reports = [await producer.inspector.queue(name) for name in names[:_MOST_QUEUES]]
        return reports, await producer.pauses()

    reports, pauses = await asked.ask("the queues", read)
    return QueueList(queues=[queue(asked, report, _pause_of(report.queue, pauses)) for report in reports])


@operation("GET", "/queues/{queue}", tag="queues")
async def get_queue(asked: Asked) -> QueueDocument:
    """Tell how one queue stands. One that nobody has used is empty: queues are not made, they come with their jobs."""
    name = asked.path["queue"]

    async def read(producer: Producer) -> tuple[QueueReport, Sequence[Pause]]:
        return await producer.inspector.queue(name), await producer.pauses()

    report, pauses = await asked.ask("a queue", read)
    return queue(asked, report, _pause_of(name, pauses))


@operation("POST", "/queues/{queue}/pause", tag="queues")
async def pause_queue(asked: Asked, body: PauseRequest) -> Paused:
    """Have nothing more of a queue claimed until it is resumed. What runs goes on."""
    return await _pause(asked, "queue", body)


@operation("POST", "/queues/{queue}/resume", tag="queues")
async def resume_queue(asked: Asked) -> Resumed:
    """Let jobs of a queue be claimed again."""
    return await _resume(asked, "queue")


@operation("POST", "/queues/{queue}/purge", tag="queues", statuses=(200, 202))
async def purge_queue(asked: Asked, body: PurgeRequest) -> PurgeDocument:
    """End all jobs of a queue that wait, as cancelled; what runs goes on, and dead letters stay.

    200 says that all there were have ended. A queue of very many takes longer than an answer should: 202 says that
    there are more, so ask again.
    """
    producer = await asked.dashboard.source.producer()
    sofar = Aborted()

    def note(counts: Aborted) -> None:
        nonlocal sofar
        sofar = counts

    try:
        async with asyncio.timeout(_PURGE_FOR):
            sofar = await producer.purge(asked.path["queue"], keep_results=body.keep_results, progress=note)
    except TimeoutError:
        asked.status = 202
    return PurgeDocument(cancelled=sofar.cancelled, looked_at=sofar.looked_at, done=asked.status == 200)


@operation("GET", "/pauses", tag="queues")
async def list_pauses(asked: Asked) -> PauseList:
    """List the queues and tasks that are paused: since when, by whom and why."""

    async def read(producer: Producer) -> list[Pause]:
        return await producer.pauses()

    return PauseList(pauses=[pause(each) for each in await asked.ask("what is paused", read)])


@operation("POST", "/tasks/{task}/pause", tag="tasks")
async def pause_task(asked: Asked, body: PauseRequest) -> Paused:
    """Have nothing more of a task begun, in any queue, until it is resumed. What runs goes on."""
    return await _pause(asked, "task", body)


@operation("POST", "/tasks/{task}/resume", tag="tasks")
async def resume_task(asked: Asked) -> Resumed:
    """Let jobs of a task begin again; those put aside go back to where they stood."""
    return await _resume(asked, "task")


async def _pause(asked: Asked, kind: Literal["queue", "task"], body: PauseRequest) -> Paused:
    producer = await asked.dashboard.source.producer()
    found = await producer.pause(**{kind: asked.path[kind]}, reason=body.reason, by=asked.visitor.signature)
    return Paused(pause=pause(found), is_new=found.is_new)


async def _resume(asked: Asked, kind: Literal["queue", "task"]) -> Resumed:
    producer = await asked.dashboard.source.producer()
    was_paused = await producer.resume(**{kind: asked.path[kind]})
    return Resumed(kind=kind, name=readable(asked.path[kind]), was_paused=was_paused)


def _pause_of(name: str, pauses: Sequence[Pause]) -> Pause | None:
    return next((each for each in pauses if each.kind == "queue" and each.name == name), None)


OPERATIONS = (list_queues, get_queue, pause_queue, resume_queue, purge_queue, list_pauses, pause_task, resume_task)
