"""Every read for people: where a job stands, how deep the queues are, which workers report.

Owns no write. One call is a handful of commands, never KEYS and never a scan of the keyspace.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import redis.asyncio

from common.codec import MSGPACK_ONLY, Reading
from common.errors import Undecodable
from common.jobs import JobInfo, JobState
from common.redis import keys
from common.redis.job_info import Stored, ended_info, live_info, live_state, place_in, progress_in, state_of_result
from common.redis.limits import LimitInfo, LimitStore, waited_for
from common.redis.scores import is_parked, read_due
from common.result_codec import Result, decode_result
from common.values import MALFORMED
from common.worker_reports import WorkerReport

__all__ = ["Inspector", "QueueReport", "WorkerReport", "queues_in_use"]


_FIRST_ONES = 100
"""Jobs of a queue that are looked at to find the oldest."""


@dataclass(frozen=True, slots=True)
class QueueReport:
    """How a queue stands.

    Attributes:
        queued: due, not running (or run by a stock arq worker, whose jobs keep their place).
        scheduled: due in the future, or running; a running job's score is the end of its lease.
        oldest_due_seconds: for how long the first due job has been due, or of hundred with a head start the oldest;
            None if none is.
    """

    queue: str
    queued: int
    scheduled: int
    oldest_due_seconds: float | None


class _Place(NamedTuple):
    """Where a job stands in its queue, or in a lane of it, and, as a score, when it was due."""

    score: float | None
    due: float | None


class Inspector:
    """Read-only views over a server."""

    def __init__(self, client: redis.asyncio.Redis, reading: Reading = MSGPACK_ONLY) -> None:
        self._client = client
        self._reading = reading

    async def state(self, job_id: str, queue: str) -> JobState:
        """Return where a job stands."""
        found, held, place, now = await self._look(job_id, queue, payload=False)
        return self._state(job_id, found[0], held=held, score=place.score, now_ms=now)

    async def job(self, job_id: str, queue: str) -> JobInfo:
        """Return all that is stored on a job; its `state` is UNKNOWN when nothing is.

        A payload or result that cannot be decoded here leaves its fields empty rather than raise; of a result `error`
        then says why, of a payload `unreadable`.
        """
        found, held, place, now = await self._look(job_id, queue, payload=True)
        stored, payload, attempts, told, waits_for, past = found
        if stored is not None:
            ended = ended_info(job_id, queue, stored, self._reading, past)
            if ended.state is not JobState.ENDED:
                ended = dataclasses.replace(ended, progress=progress_in(told, self._reading, job_id))
            return ended
        state = live_state(place.score, held, now)
        if state is JobState.UNKNOWN:
            return JobInfo(job_id=job_id, state=state)
        lives = Stored(payload, place.score, place.due, held, attempts, told, waited_for(waits_for), past)
        return live_info(job_id, queue, state, lives, self._reading)

    async def queue(self, queue: str) -> QueueReport:
        """Return how a queue stands."""
        now = await self._now_ms()
        pipeline = self._client.pipeline(transaction=True)
        pipeline.zcount(_bytes(queue), "-inf", now)
        pipeline.zcard(_bytes(queue))
        pipeline.zrange(_bytes(queue), 0, _FIRST_ONES - 1, withscores=True)
        pipeline.hlen(_name(keys.laned(queue)))
        due, total, first, laned = await pipeline.execute()
        # Jobs with a head start stand in front of older ones, and the head of a lane stands since it became that.
        places = {job_id: score for job_id, score in first if score <= now}
        marks: list[bytes | None] = []
        if places:
            pipeline.hmget(_name(keys.fair(queue)), list(places))
            (marks,) = await pipeline.execute()
        places |= {job_id: place_in(mark) for job_id, mark in zip(places, marks, strict=True) if mark is not None}
        since = min(map(read_due, places.values()), default=None)
        oldest = None if since is None else max(0.0, (now - since) / 1000)
        return QueueReport(queue, due + laned, total - due, oldest)

    async def next_due(self, queue: str) -> float | None:
        """Return when the first of a queue's jobs that are not due comes due, Unix ms; None if none will by itself.

        A job that runs comes due when its lease ends. One that stands in the lane of a limit does when it is let go.
        """
        now = await self._now_ms()
        ahead = await self._client.zrangebyscore(
            _bytes(queue), f"({now}", "+inf", start=0, num=_FIRST_ONES, withscores=True
        )
        return next((score for _, score in ahead if not is_parked(score)), None)

    async def limits(self, name: str | None = None) -> list[LimitInfo]:
        """Return how each limit in use stands, those of one name if one is given; idle ones go within a minute."""
        return await LimitStore(self._client).standing(name)

    async def workers(self) -> list[WorkerReport]:
        """Return the reports of the workers that live, sorted by id; what cannot be read is left out."""
        ids = await self._client.zrange(keys.WORKERS, 0, -1)
        if not ids:
            return []
        found = []
        for report in await self._client.mget([keys.WORKER.encode() + worker for worker in sorted(ids)]):
            with contextlib.suppress(*MALFORMED):  # whatever a foreign program wrote there
                if report is not None:
                    found.append(msgspec.json.decode(report, type=WorkerReport))
        return found

    async def dead_letters(self) -> int:
        """Return how many jobs that failed for good are kept."""
        return int(await self._client.zcard(keys.DEAD))

    async def queues_in_use(self, given: Sequence[str]) -> list[str]:
        """Return these queues, then those that live workers serve besides."""
        return queues_in_use(given, await self.workers())

    async def results(self, job_ids: Sequence[str]) -> list[Result | None]:
        """Return the results of these jobs, None where none is kept."""
        stored = await self._client.mget([_bytes(keys.result(job_id)) for job_id in job_ids])
        found = zip(job_ids, stored, strict=True)
        return [None if raw is None else decode_result(raw, self._reading, job_id) for job_id, raw in found]

    async def _now_ms(self) -> int:
        seconds, microseconds = await self._client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def _look(self, job_id: str, queue: str, *, payload: bool) -> tuple[list[Any], Any, _Place, int]:
        names = [_bytes(keys.result(job_id))]
        if payload:
            others = (keys.job, keys.retry, keys.progress, keys.limit_wait)
            names += [_bytes(name(job_id)) for name in others]
        pipeline = self._client.pipeline(transaction=True)
        pipeline.mget(names)
        pipeline.get(_bytes(keys.lease(job_id)))
        pipeline.zscore(_bytes(queue), _bytes(job_id))
        pipeline.hget(_name(keys.fair(queue)), _name(job_id))
        pipeline.hget(_name(keys.laned(queue)), _name(job_id))
        pipeline.time()
        if payload:
            pipeline.lrange(_name(keys.attempts(job_id)), 0, -1)
        found, held, score, mark, lane, (seconds, microseconds), *past = await pipeline.execute()
        found += past
        place = _Place(score, score if mark is None else place_in(mark))
        if score is None and lane is not None:
            lane_key = _bytes(keys.lane(queue, lane.decode(errors="replace")))
            score = await self._client.zscore(lane_key, _bytes(job_id))
            place = _Place(score, score)
        return found, held, place, int(seconds) * 1000 + int(microseconds) // 1000

    def _state(self, job_id: str, stored: bytes | None, *, held: Any, score: float | None, now_ms: int) -> JobState:
        if stored is None:
            return live_state(score, held, now_ms)
        try:
            return state_of_result(decode_result(stored, self._reading, job_id))
        except Undecodable:
            return JobState.ENDED


def queues_in_use(given: Sequence[str], workers: Sequence[WorkerReport]) -> list[str]:
    """Return these queues, then those that live workers serve besides."""
    return list(dict.fromkeys([*given, *(queue for worker in workers for queue in worker.queues)]))


def _name(name: str) -> Any:
    """Return a name for a command of which redis-py's types know that it takes text, and not that bytes do as well."""
    return _bytes(name)


def _bytes(name: str) -> bytes:
    return name.encode(errors="surrogateescape")  # ids are any bytes an arq producer cares to use
