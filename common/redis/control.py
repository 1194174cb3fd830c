"""Steering jobs that are under way, as typed methods: abort, reschedule, the walk over all that waits or runs; pauses.

Owns the commands and the layout of these scripts' arguments. Which jobs are meant by a filter is
producer/aborting.py's, what a worker does about a wish to abort is workers/aborts.py's, and about a pause
workers/pauses.py's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import redis.asyncio

from common.jobs import JobState
from common.redis import keys
from common.redis.layout import bounds, id_bytes
from common.redis.limits import Gate, gate
from common.redis.scores import is_parked
from common.redis.scripts import Script
from common.redis.wire import Argument

__all__ = [
    "SCRIPTS",
    "Abort",
    "AbortAnswer",
    "ControlStore",
    "Due",
    "Page",
    "Paused",
    "Standing",
    "Stored",
    "Waiting",
    "door_of",
]

ABORT = Script("abort")
RESCHEDULE = Script("reschedule")

PAUSE = Script("pause")
RESUME = Script("resume")
CALL_UP = Script("call_up")

SCRIPTS = (ABORT, RESCHEDULE, PAUSE, RESUME, CALL_UP)

_PAGE = 100
"""Jobs in one page, about: their payloads come with it, and one may have a megabyte."""

_MOST_PAUSES = 1000
"""Queues and tasks that may be paused at a time: every worker reads of all of them."""

_CALLED_UP = 500
"""Jobs that are put back in one step when their task is resumed."""

_KEEP_DOOR_MS = 30 * 24 * 3600 * 1000

_STAGES, _IN_QUEUE = 3, 1
"""Of a walk: lanes, queue, lanes again."""

_ANY = "surrogateescape"
_DONE = b"done"

AbortAnswer = Literal["cancelled", "running", "missing", "changed", "spared"]
_ANSWERS: dict[int, AbortAnswer] = {2: "cancelled", 1: "running", 0: "missing", -1: "changed", -2: "spared"}


class Abort(NamedTuple):
    """One job to end.

    Attributes:
        result: what to store where it waits.
        payload: end it only if this is its payload, b"" being none at all; None ends it whatever it has.
    """

    job_id: str
    result: bytes
    payload: bytes | None = None


class Due(NamedTuple):
    """What became of a wish to reschedule, in reschedule.lua's words, and its time (Unix ms)."""

    word: Literal["moved", "running", "missing", "expires"]
    at_ms: int


class Waiting(NamedTuple):
    """One job of a queue that has not ended; `payload` is None where it expired."""

    job_id: str
    state: JobState
    payload: bytes | None


Paused = Literal["queue", "task"]


class Stored(NamedTuple):
    """One pause: since when (Unix ms), and what was said of it."""

    kind: Paused
    name: str
    since_ms: int
    said: bytes


class Standing(NamedTuple):
    """What is paused; and tasks that are resumed, of which jobs are still to be called up."""

    pauses: list[Stored]
    resuming: list[str]


class Page(NamedTuple):
    """Some jobs of a queue, in no order.

    Attributes:
        cursor: where to go on; 0 when these were the last.
    """

    now_ms: int
    cursor: int
    jobs: list[Waiting]


class ControlStore:
    """The jobs of one server, to be steered."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def abort(
        self, queue: str, jobs: Sequence[Abort], *, keep_ms: int, spares_running: bool = False
    ) -> list[AbortAnswer]:
        """End those of these jobs that wait, with their results, and have the workers of the others cancel them.

        Args:
            keep_ms: keep the results so long; 0 does not keep them.
            spares_running: leave the others alone.

        Returns:
            For each: "cancelled", it has ended; "running", its worker has been told; "missing", there is no such job in
            this queue; "changed", it has another payload than was said; "spared", it runs.

        Raises:
            redis.exceptions.ConnectionError and the like: it is not known which were aborted; it may be asked again.
        """
        answers: list[AbortAnswer] = []
        for start, end in bounds([len(job.result) for job in jobs]):
            arguments: list[Argument] = [keep_ms, int(spares_running)]
            for job in jobs[start:end]:
                arguments += (id_bytes(job.job_id), _digest(job.payload), job.result)
            answers += [_ANSWERS[word] for word in await ABORT(self.client, (queue,), arguments)]
        return answers

    async def reschedule(self, queue: str, job_id: str, *, delay_ms: int = 0, at_ms: int = 0) -> Due:
        """Have a job that waits come due after a delay by the server's clock, or at a time (Unix ms)."""
        word, at = await RESCHEDULE(self.client, (queue,), (id_bytes(job_id), delay_ms, at_ms))
        return Due(word.decode(), int(at))

    async def page(self, queue: str, cursor: int = 0) -> Page:
        """Return some jobs of a queue, wait they or run, with their payloads.

        Pages from cursor 0 on, until it is 0 again, hold each job that is there all the while, some perhaps twice. A
        page is about a hundred jobs, however many there are: the server is never kept for long.
        """
        following, found = await self._some(queue, cursor)
        ids: list[bytes] = [job_id for job_id, _ in found]
        if not ids:
            seconds, micros = await self.client.time()
            return Page(int(seconds) * 1000 + int(micros) // 1000, int(following), [])
        pipeline = self.client.pipeline(transaction=True)
        pipeline.time()
        pipeline.mget([keys.LEASE.encode() + job_id for job_id in ids])
        pipeline.mget([keys.JOB.encode() + job_id for job_id in ids])
        (seconds, micros), holders, payloads = await pipeline.execute()
        now = int(seconds) * 1000 + int(micros) // 1000
        jobs = []
        for (job_id, score), holder, payload in zip(found, holders, payloads, strict=True):
            if holder is not None and holder != _DONE:
                state = JobState.RUNNING
            else:  # one in the lane of a limit is due, and has a score that is far away
                state = JobState.SCHEDULED if score > now and not is_parked(score) else JobState.QUEUED
            jobs.append(Waiting(job_id.decode(errors=_ANY), state, payload))
        return Page(now, int(following), jobs)

    async def pause(self, kind: Paused, name: str, said: bytes) -> tuple[Literal["paused", "same", "full"], Stored]:
        """Have nothing more of a queue claimed, or of a task begun; the words are pause.lua's."""
        word, kept = await PAUSE(self.client, (), (kind, id_bytes(name), said, _MOST_PAUSES))
        return word.decode(), _stored(kind, name, kept)

    async def resume(self, kind: Paused, name: str) -> bool:
        """Let it go on; return whether it was paused. Of a task, `call_up` puts back what waits meanwhile."""
        door = door_of(name).id if kind == "task" else ""
        return bool(await RESUME(self.client, (), (kind, id_bytes(name), id_bytes(door))))

    async def call_up(self, task: str) -> int:
        """Put some jobs of a task that was resumed back to where they stood; return how many wait still.

        None do, too, when the task was paused again. Who stops in between leaves the rest to others.
        """
        left: int = await CALL_UP(self.client, (), (id_bytes(task), id_bytes(door_of(task).id), _CALLED_UP))
        return max(0, left)

    async def standing(self) -> Standing:
        """Return all pauses, the first ones first."""
        found = Standing([], [])
        for field, kept in (await self.client.hgetall(keys.PAUSED)).items():  # type: ignore[misc]  # redis-py's own
            kind, _, name = field.decode(errors=_ANY).partition(":")
            if kind == "resuming":
                found.resuming.append(name)
            elif kind in {"queue", "task"}:
                found.pauses.append(_stored(kind, name, kept))
        found.pauses.sort(key=lambda pause: (pause.since_ms, pause.kind, pause.name))
        return found

    async def waiting(self, tasks: Sequence[str]) -> list[int]:
        """Return how many jobs of each of these paused tasks were claimed and put aside."""
        if not tasks:
            return []
        pipeline = self.client.pipeline(transaction=False)
        for task in tasks:
            pipeline.zcard(id_bytes(keys.LIMIT_LANE + door_of(task).id))
        return list(await pipeline.execute())

    async def _some(self, queue: str, cursor: int) -> tuple[int, Sequence[tuple[bytes, float]]]:
        """Return some jobs with their scores, and the cursor to go on with.

        Jobs of tenants come out of their lanes into the queue while somebody walks, and a few go back. So the lanes are
        looked at before the queue and after it; the cursor says where the walk is.
        """
        place, stage = divmod(cursor, _STAGES)
        if stage != _IN_QUEUE:
            pipeline = self.client.pipeline(transaction=True)
            pipeline.hscan(keys.laned(queue), place, count=_PAGE)
            ((following, lanes),) = await pipeline.execute()
            if lanes or following or stage != 0:
                found: list[tuple[bytes, float]] = [(job_id, 0.0) for job_id in lanes]
                return (int(following) * _STAGES + stage if int(following) else (stage + 1) % _STAGES), found
            stage = _IN_QUEUE
        pipeline = self.client.pipeline(transaction=True)
        pipeline.zscan(queue, place, count=_PAGE, score_cast_func=float)
        pipeline.exists(keys.laned(queue))
        (following, found), has_lanes = await pipeline.execute()
        if int(following):
            return int(following) * _STAGES + stage, found
        return (stage + 1 if has_lanes else 0), found


def door_of(task: str) -> Gate:
    """Return the gate in front of a task that is shut while it is paused (gates_prelude.lua)."""
    return gate("door", task, None, _KEEP_DOOR_MS)


def _stored(kind: Paused, name: str, kept: bytes) -> Stored:
    since, _, said = kept.partition(b" ")
    return Stored(kind, name, int(since) if since.isdigit() else 0, said)


def _digest(payload: bytes | None) -> str:
    return "" if payload is None else hashlib.sha1(payload, usedforsecurity=False).hexdigest()
