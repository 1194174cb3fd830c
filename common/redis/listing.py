"""Jobs, some at a time, by where they stand: the commands behind `producer.jobs`.

Owns the ways through a queue, its lanes, the results and the dead letters, and how much of the server's time one step
may take. Writes nothing. What a page holds, and which jobs are meant, is producer/finding.py's.

A step is some hundred jobs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple

import redis.asyncio
from redis.exceptions import NoPermissionError, ResponseError

from common.codec import Reading
from common.dead_letters import About, decode_about
from common.jobs import JobInfo, JobState, RemoteError
from common.redis import keys
from common.redis.contents import is_foreign, read_contents
from common.redis.dead_letters import DeadStore
from common.redis.job_info import Stored, described, is_lease_end, live_info, moment, place_in
from common.redis.layout import id_bytes
from common.redis.limits import waited_for
from common.redis.scores import read_due
from common.redis.scripts import Script
from common.redis.wire import call

__all__ = ["SCRIPTS", "Batch", "Buried", "Found", "ListingStore", "Seen", "Spot"]

PAGE = Script("page")

SCRIPTS = (PAGE,)

_LONGEST_MS = 3600 * 1000
"""What BARQUE_LEASE may be: a job that runs stands no farther ahead."""

_SOON_MS = 60 * 1000
"""Within which most leases end: BARQUE_LEASE is 10 s, unless somebody says otherwise."""

_MOST_SORTED, _STEP_OF_SORTED = 6000, 2000
"""Jobs due that soon up to which those that run are sorted by id, for each page anew, and those read in one step."""

_MOST_HELD = 5000
"""First due jobs that are looked at for those a stock arq worker runs: it leaves them where they stand."""

_ANY = "surrogateescape"


class Spot(NamedTuple):
    """Where to go on; what its parts mean depends on the way.

    Attributes:
        score, last: behind the job of this score (as text) and id.
        scan: the server's cursor; or a count of what was seen so far.
    """

    score: str = ""
    last: bytes = b""
    scan: int = 0


class Seen(NamedTuple):
    """One job on the way.

    Attributes:
        score: None where it stands in no queue.
        behind: where to go on behind it; None where one can go on only behind the whole step.
    """

    job_id: bytes
    score: float | None
    behind: Spot | None


class Found(NamedTuple):
    """One job on the way that has not ended, its state, and who holds it."""

    seen: Seen
    state: JobState
    holder: bytes | None


class Batch(NamedTuple):
    """What one step saw.

    Attributes:
        looked_at: how many the server went through for it, whatever they were.
        following: where to go on; None at the end.
    """

    now_ms: int
    seen: list[Seen]
    looked_at: int
    following: Spot | None


class Buried(NamedTuple):
    """A dead letter on the way, with what a list tells of it."""

    seen: Seen
    about: About


class ListingStore:
    """The jobs of one server, to be listed."""

    def __init__(self, client: redis.asyncio.Redis, reading: Reading) -> None:
        self.client = client
        self._reading = reading

    async def due(self, queue: str, spot: Spot, most: int) -> Batch:
        """Return jobs of a queue whose time has come, in its order."""
        return await self._in_order("due", queue, spot, most)

    async def later(self, queue: str, spot: Spot, most: int) -> Batch:
        """Return the other jobs of a queue, in its order: delayed ones, and those that run."""
        return await self._in_order("later", queue, spot, most)

    async def first_due(self, queue: str, spot: Spot, most: int) -> Batch:
        """Return the first due jobs, as far as a stock arq worker may have taken them from."""
        batch = await self._in_order("due", queue, spot, min(most, _MOST_HELD - spot.scan))
        looked_at = spot.scan + batch.looked_at
        following = batch.following._replace(scan=looked_at) if batch.following else None
        seen = [
            each._replace(behind=each.behind and each.behind._replace(scan=spot.scan + index))
            for index, each in enumerate(batch.seen, 1)
        ]
        return batch._replace(seen=seen, following=following if looked_at < _MOST_HELD else None)

    async def running(self, queue: str, spot: Spot, most: int) -> Batch:
        """Return jobs that stand where running ones do whose lease ends soon: by id, or in the queue's order.

        Such a place is the end of a lease, and moves on while the job runs. By id a page follows from the one before;
        in the queue's order, where there are too many to sort them each time, a job may be on several.
        """
        if spot.scan == 0:
            found: list[Seen] = []
            at: Spot | None = Spot()
            while at is not None and len(found) < _MOST_SORTED:
                batch = await self._in_order("later", queue, at, _STEP_OF_SORTED)
                near = [each for each in batch.seen if _ends_within(each, batch.now_ms, _SOON_MS)]
                found += near
                at = batch.following if len(near) == len(batch.seen) else None
            if at is None:
                running = sorted((each for each in found if is_lease_end(each.score)), key=lambda each: each.job_id)
                seen = [each._replace(behind=Spot(last=each.job_id)) for each in running if each.job_id > spot.last]
                following = seen[most - 1].behind if len(seen) > most else None
                return Batch(batch.now_ms, seen[:most], len(seen[:most]), following)
        return await self._leases(queue, spot, most, _SOON_MS)

    async def running_long(self, queue: str, spot: Spot, most: int, since_ms: int) -> Batch:
        """Return jobs that stand where running ones do whose lease did not end soon, at that time (Unix ms)."""
        begin = Spot(repr(float(since_ms + _SOON_MS)))
        return await self._leases(queue, spot if spot.scan else begin, most, _LONGEST_MS)

    async def _leases(self, queue: str, spot: Spot, most: int, within_ms: int) -> Batch:
        batch = await self._in_order("later", queue, spot, most)
        near = [each for each in batch.seen if _ends_within(each, batch.now_ms, within_ms)]
        seen = [
            each._replace(behind=each.behind and each.behind._replace(scan=1))
            for each in near
            if is_lease_end(each.score)
        ]
        following = batch.following._replace(scan=1) if batch.following and len(near) == len(batch.seen) else None
        return Batch(batch.now_ms, seen, batch.looked_at, following)

    async def in_lanes(self, queue: str, spot: Spot, most: int) -> Batch:
        """Return jobs that wait in lanes of tenants, in no order."""
        scanning = self.client.hscan(keys.laned(queue), spot.scan, count=most)
        following, found = await _or_none(scanning) or (0, {})
        return Batch(0, *_unordered(sorted(found), spot, int(following)))

    async def in_lane(self, queue: str, lane: str, spot: Spot, most: int) -> Batch:
        """Return jobs of one lane, in its order."""
        return await self._in_order("due", keys.lane(queue, lane), spot, most)

    async def came_forward(self, queue: str, spot: Spot, most: int, since_ms: int) -> Batch:
        """Return jobs that came out of lanes into the queue since that time (Unix ms), in no order."""
        following, marks = await _or_none(self.client.hscan(keys.fair(queue), spot.scan, count=most)) or (0, {})
        raw_ids, looked_at, next_spot = _unordered(sorted(marks), spot, int(following))
        if not raw_ids:
            return Batch(0, [], looked_at, next_spot)
        now = await self._now_ms()
        asked = self.client.zmscore(queue, [each.job_id for each in raw_ids])  # type: ignore[misc]  # bytes do as well
        scores = await _or_none(asked) or [None] * len(raw_ids)
        seen = [
            each._replace(score=score)
            for each, score in zip(raw_ids, scores, strict=True)
            if score is not None and since_ms <= read_due(score) <= now
        ]
        return Batch(now, seen, looked_at, next_spot)

    async def results(self, spot: Spot, most: int, *, or_none: bool) -> Batch | None:
        """Return ids that have a result, in no order; the server looks at about so many keys, whatever they hold.

        Args:
            or_none: return None, rather than raise, where the server's user may not SCAN (access.py).
        """
        try:
            following, found = await self.client.scan(spot.scan, match=keys.RESULT + "*", count=most)
        except NoPermissionError:
            if not or_none:
                raise
            return None
        ids = sorted(key.removeprefix(keys.RESULT.encode()) for key in found)
        seen, _, next_spot = _unordered(ids, spot, int(following))
        return Batch(0, seen, max(most, len(ids)), next_spot)

    async def dead(self, spot: Spot, most: int) -> tuple[list[Buried], Batch]:
        """Return dead letters, the newest first; those that are over age and not swept away yet are left out."""
        after = float(spot.score) if spot.score else None
        asked = DeadStore(self.client).page(newest_first=True, after=after, since_ms=None, until_ms=None, most=most)
        page = await _or_none(asked)
        if page is None:
            return [], Batch(0, [], 0, None)
        found = []
        for filed in page.letters:
            about = decode_about(filed.about)
            if not 0 < about.until_ms < page.now_ms:
                found.append(Buried(Seen(id_bytes(filed.job_id), filed.score, Spot(repr(filed.score))), about))
        following = Spot(repr(page.letters[-1].score)) if len(page.letters) == most else None
        return found, Batch(page.now_ms, [each.seen for each in found], len(page.letters), following)

    async def holders(self, raw_ids: Sequence[bytes]) -> list[bytes | None]:
        """Return the leases of these jobs."""
        return await self._strings(keys.LEASE, raw_ids)

    async def waits(self, raw_ids: Sequence[bytes]) -> list[bytes | None]:
        """Return the gates these jobs wait for."""
        return [waited_for(mark) for mark in await self._strings(keys.LIMIT_WAIT, raw_ids)]

    async def payloads(self, raw_ids: Sequence[bytes]) -> list[bytes | str | None]:
        """Return the payloads of these jobs; text says why one was not read."""
        return await read_contents(self.client, [keys.JOB.encode() + raw for raw in raw_ids])

    async def stored_results(self, raw_ids: Sequence[bytes]) -> list[bytes | str | None]:
        """Return the results of these jobs; text says why one was not read."""
        return await read_contents(self.client, [keys.RESULT.encode() + raw for raw in raw_ids])

    async def are_dead(self, raw_ids: Sequence[bytes]) -> list[bool]:
        """Return of which of these jobs dead letters are kept."""
        if not raw_ids:
            return []
        scores = await _or_none(
            self.client.zmscore(keys.DEAD, list(raw_ids))  # type: ignore[arg-type]  # as above
        )
        return [False] * len(raw_ids) if scores is None else [score is not None for score in scores]

    async def where(self, raw_id: bytes, queues: Sequence[str]) -> str | None:
        """Return the queue that a job stands in, or waits in a lane of; None if it is none of these."""
        pipeline = self.client.pipeline(transaction=False)
        for queue in queues:
            pipeline.zscore(queue, raw_id)
            pipeline.hexists(keys.laned(queue), raw_id)  # type: ignore[arg-type]  # bytes do as well
        replies = await pipeline.execute(raise_on_error=False)
        for queue, score, is_laned in zip(queues, replies[::2], replies[1::2], strict=True):
            if isinstance(score, float) or is_laned is True:
                return queue
        return None

    async def letter(self, raw_id: bytes) -> Buried | None:
        """Return what a list tells of a job's dead letter."""
        score = await _or_none(self.client.zscore(keys.DEAD, raw_id))
        if score is None:
            return None
        about = await _or_none(self.client.hget(keys.DEAD_ABOUT, raw_id))  # type: ignore[arg-type]  # as above
        return Buried(Seen(raw_id, score, None), decode_about(about))

    async def expires_ms(self, raw_id: bytes) -> int:
        """Return in how many ms a job expires; less than 0 if it does not."""
        left: int = await self.client.pttl(keys.JOB.encode() + raw_id)
        return left

    async def unique_job(self, key: str) -> bytes | None:
        """Return the id that a unique key's record names."""
        found: bytes | None = await _or_none(self.client.hget(id_bytes(keys.unique(key)), "job"))  # type: ignore[arg-type]
        return found

    async def live(
        self,
        queue: str,
        found: Sequence[Found],
        payloads: Sequence[bytes | str | None],
    ) -> list[JobInfo]:
        """Return what is told of jobs that have not ended, these being their payloads."""
        if not found:
            return []
        raw_ids = [each.seen.job_id for each in found]
        attempts, told, waits = [
            await self._strings(prefix, raw_ids) for prefix in (keys.RETRY, keys.PROGRESS, keys.LIMIT_WAIT)
        ]
        marks = await _or_none(self.client.hmget(keys.fair(queue), raw_ids)) or [None] * len(raw_ids)  # type: ignore[arg-type]
        laned = await self._laned(queue, [each.seen.job_id for each in found if each.seen.score is None])
        infos = []
        for index, (seen, state, holder) in enumerate(found):
            score = laned.get(seen.job_id) if seen.score is None else seen.score
            mark = marks[index]
            due = score if mark is None else place_in(mark)
            stored = Stored(payloads[index], score, due, holder, attempts[index], told[index], waited_for(waits[index]))
            infos.append(live_info(seen.job_id.decode(errors=_ANY), queue, state, stored, self._reading))
        return infos

    async def buried(self, letters: Sequence[Buried]) -> list[tuple[JobInfo, bytes | str | None]]:
        """Return what is told of dead letters, and their payloads; `finished_at` is when the job failed for good."""
        names = [keys.DEAD_LETTER.encode() + each.seen.job_id for each in letters]
        payloads = await read_contents(self.client, names, field="payload")
        infos = []
        for (seen, about), payload in zip(letters, payloads, strict=True):
            job_id = seen.job_id.decode(errors=_ANY)
            told = described(payload, self._reading, job_id, about.queue)
            told["task"] = told.get("task") or about.task or None
            told["enqueued_at"] = moment(about.enqueued_ms or None) or told.get("enqueued_at")
            info = JobInfo(
                job_id=job_id,
                state=JobState.FAILED,
                queue=about.queue,
                attempt=about.attempts,
                worker=about.worker or None,
                started_at=moment(about.started_ms or None),
                finished_at=moment(seen.score),
                error=RemoteError(about.error, about.message),
                is_dead=True,
                **told,
            )
            infos.append((info, payload))
        return infos

    async def _in_order(self, side: str, key: str, spot: Spot, most: int) -> Batch:
        reply = await _or_none(PAGE(self.client, (key,), (side, spot.score, spot.last, most)))
        if reply is None:
            return Batch(0, [], 0, None)
        now, *parts = reply
        seen = [
            Seen(raw, float(score), Spot(score.decode(), raw))
            for raw, score in zip(parts[::2], parts[1::2], strict=True)
        ]
        return Batch(int(now), seen, len(seen), seen[-1].behind if seen and len(seen) == most else None)

    async def _now_ms(self) -> int:
        seconds, microseconds = await self.client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def _strings(self, prefix: str, raw_ids: Sequence[bytes]) -> list[bytes | None]:
        if not raw_ids:
            return []
        found: list[bytes | None] = await call(self.client, ["MGET", *(prefix.encode() + raw for raw in raw_ids)])
        return found

    async def _laned(self, queue: str, raw_ids: Sequence[bytes]) -> dict[bytes, float]:
        """Return the places of jobs that wait in lanes."""
        if not raw_ids:
            return {}
        lanes = await _or_none(self.client.hmget(keys.laned(queue), list(raw_ids))) or []  # type: ignore[arg-type]
        pipeline = self.client.pipeline(transaction=False)
        for raw, lane in zip(raw_ids, lanes, strict=True):
            pipeline.zscore(id_bytes(keys.lane(queue, (lane or b"").decode(errors=_ANY))), raw)
        scores = await pipeline.execute(raise_on_error=False)
        found = zip(raw_ids, scores, strict=True)
        return {raw: score for raw, score in found if isinstance(score, float)}


def _ends_within(seen: Seen, now_ms: int, within_ms: int) -> bool:
    return (seen.score or 0.0) <= now_ms + within_ms


def _unordered(raw_ids: Sequence[bytes], spot: Spot, following: int) -> tuple[list[Seen], int, Spot | None]:
    """Return what a scan brought, how many that were, and where to go on.

    One may go on within a step only where it was all there is: then `last` says up to which id all were seen, however
    much there is later. A step of several would not be the same one if it were done again.
    """
    is_whole = spot.scan == 0 and following == 0
    seen = [Seen(raw, None, Spot(last=raw) if is_whole else None) for raw in raw_ids if raw > spot.last]
    return seen, len(raw_ids), Spot(last=spot.last, scan=following) if following else None


async def _or_none(asked: Awaitable[Any]) -> Any:
    """Return the answer; None where a foreign program keeps something of another type under the key."""
    try:
        return await asked
    except ResponseError as error:
        if not is_foreign(error):
            raise
        return None
