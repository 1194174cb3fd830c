"""The walk behind `producer.jobs`: through queues, lanes, dead letters and results, a page at a time.

Owns in which order that goes, what of it is meant, and how much one page may look at. The commands are
common/redis/listing.py's, the filters job_filters.py's, the cursor's form page_cursor.py's.

    running    running jobs whose lease ends soon, and others; then the first due ones, for a stock arq worker leaves
               those it runs where they stand
    queued     due jobs of the queue; those in lanes of tenants; those that came out of lanes meanwhile
    waiting, scheduled, dead    one way each
    ended      all results there are: succeeded, failed, cancelled, and those that cannot be read

Each way ends before the next one begins, and each queue before the next one, by name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from common.codec import Reading, decode_job
from common.errors import Undecodable
from common.fairness import lane_of
from common.jobs import JobInfo, JobState, RemoteError
from common.redis.inspect import Inspector
from common.redis.job_info import described, ended_info, live_state, moment
from common.redis.layout import id_bytes
from common.redis.listing import Batch, Buried, Found, ListingStore, Seen
from common.redis.scores import is_held_back
from common.uniqueness import digest_of
from common.values import MALFORMED
from common.worker_reports import LONGEST_ID, bounded
from producer.job_filters import Sought
from producer.page_cursor import Place

__all__ = ["MOST_LOOKED_AT", "Search"]

MOST_LOOKED_AT = 2000
"""Jobs, or keys, that one page looks at: a few ms of the server's, in steps of less than one."""

_STEP, _STEP_INSIDE = 500, 200
"""Jobs in one step, where their places tell all, and where their payloads do."""

_WALKS = {"running": 3, "queued": 4, "waiting": 1, "scheduled": 1, "dead": 1, "ended": 1}
"""The ways of each walk."""

_QUEUED_OF_A_KEY = (1, 2, 0, 3)
"""In which order the ways through what is queued are gone, where they are after a key; the last one is for those that
changed their way meanwhile."""

_OF_NO_QUEUE = {"dead", "ended"}
_DONE = b"done"
_LANE = re.compile(r"[0-9a-f]{24}")
_ANY = "surrogateescape"


class Search:
    """One page of a search.

    Args:
        ask: awaits the server's answer.
        queues: those to look in.
        begun: since when attempts run, Unix ms, by job and worker, where a worker tells: those that run for longest.

    Attributes:
        jobs: those found so far.
        looked_at: jobs, or keys, looked at so far.
        unreadable: those that cannot be decoded here, so that they may be meant or not.
        results_refused: whether results were left out, as the server lets us not scan for them.
    """

    def __init__(
        self,
        store: ListingStore,
        inspector: Inspector,
        sought: Sought,
        reading: Reading,
        ask: Callable[[Awaitable[Any]], Awaitable[Any]],
        *,
        queues: Sequence[str],
        begun: Mapping[tuple[str, str], int],
        limit: int,
    ) -> None:
        self._store = store
        self._inspector = inspector
        self._sought = sought
        self._reading = reading
        self._ask = ask
        self._queues = queues
        self._begun = begun
        self._limit = limit
        self._walks = [walk for walk in _WALKS if walk in sought.states or (walk == "ended" and sought.results)]
        self._ids: set[str] = set()
        self._keys_seen = 0
        self.jobs: list[JobInfo] = []
        self.looked_at = 0
        self.unreadable = 0
        self.results_refused = False

    async def page(self, place: Place | None) -> Place | None:
        """Find some jobs from a place on; return where to go on, None at the end."""
        if place is None:
            await self._look_up_unique()
            place = self._first_of(self._walks)
        elif place.walk not in self._walks:
            place = None  # nothing that we made
        results_from = None
        while place is not None and len(self.jobs) < self._limit and self.looked_at < MOST_LOOKED_AT:
            if place.walk == "ended" and results_from is None:
                results_from = len(self.jobs)
            place = await self._step(place)
        if results_from is not None:
            self.jobs[results_from:] = sorted(self.jobs[results_from:], key=_when_finished, reverse=True)
        return place

    async def look_up(self, job_id: str) -> None:
        """Find one job by its id, in whatever state it is."""
        raw = id_bytes(job_id)
        self.looked_at += 1
        queue = await self._ask(self._store.where(raw, self._queues)) or self._queues[0]
        info: JobInfo = await self._ask(self._inspector.job(job_id, queue))
        if info.state is JobState.RUNNING:
            info = self._with_start(info)
        letter: Buried | None = await self._ask(self._store.letter(raw))
        if letter is not None and info.state is JobState.UNKNOWN:
            ((info, _),) = await self._ask(self._store.buried([letter]))
        elif letter is not None:
            info = dataclasses.replace(info, is_dead=True)
        elif info.state is JobState.UNKNOWN:
            (payload,) = await self._ask(self._store.payloads([raw]))
            if payload is None:
                return
            told = described(payload, self._reading, job_id, queue)
            info = JobInfo(job_id=job_id, state=JobState.UNKNOWN, **told)
        if self._sought.fits_info(info) and job_id not in self._ids:
            self._ids.add(job_id)
            self.jobs.append(info)

    def _with_start(self, info: JobInfo) -> JobInfo:
        """Return what is told of a job that runs, and since when, if its worker told."""
        begun = self._begun.get((bounded(info.job_id, LONGEST_ID), info.worker or ""))
        return dataclasses.replace(info, started_at=moment(begun))

    async def _look_up_unique(self) -> None:
        """Find the job of a unique key: there is one at the most, and the key's record names it."""
        key, task = self._sought.key, self._sought.plain_task
        if key is None:
            return
        hashes = [key]
        if task is not None:
            hashes.append(digest_of(task, key))
            with contextlib.suppress(ValueError, RecursionError):
                hashes.append(digest_of(task, json.loads(key)))  # a number, or several arguments
        for each in hashes:
            raw = await self._ask(self._store.unique_job(each))
            if raw is not None:
                await self.look_up(raw.decode(errors=_ANY))

    async def _step(self, place: Place) -> Place | None:
        """Take a step; return the next place."""
        room = self._limit - len(self.jobs)
        size = _STEP_INSIDE if self._sought.looks_inside or place.walk == "ended" else _STEP
        most = min(size, MOST_LOOKED_AT - self.looked_at)
        if place.walk == "dead":
            batch, found = await self._dead(place, most, room)
        elif place.walk == "ended":
            batch, found = await self._ended(place, most, room)
        else:
            if place.walk == "queued" and not self._sought.looks_inside:
                most = min(most, room)  # nearly each of them is one
            batch = await self._ask(self._in_queue(place, most))
            place = place.since(batch.now_ms)
            batch, found = await self._live(place, batch, room)
        self.looked_at += batch.looked_at
        for info in found:
            if info.job_id not in self._ids:
                self._ids.add(info.job_id)
                self.jobs.append(info)
        return place.at(batch.following) if batch.following is not None else self._after(place)

    def _in_queue(self, place: Place, most: int) -> Awaitable[Batch]:
        """Return the jobs of the next step of a way through a queue, whether they are meant or not."""
        store, queue, spot = self._store, place.queue.decode(errors=_ANY), place.spot
        key, way = self._sought.key, place.way
        if key is not None and place.walk == "queued":  # the lane of its tenant is found at once, if it has one
            way = _QUEUED_OF_A_KEY[way]
        match place.walk, way:
            case "running", 0:
                return store.running(queue, spot, most)
            case "running", 1:
                return store.running_long(queue, spot, most, place.since_ms)
            case "running", _:
                return store.first_due(queue, spot, most)
            case "queued", 0:
                return store.due(queue, spot, most)
            case "queued", 1 if key is None:
                return store.in_lanes(queue, spot, most)
            case "queued", 1:
                return store.in_lane(queue, lane_of(key), spot, most)
            case "queued", 2:  # the key of a tenant may look like a lane
                return store.in_lane(queue, key if key is not None and _LANE.fullmatch(key) else "", spot, most)
            case "queued", _:
                return store.came_forward(queue, spot, most, place.since_ms)
            case _:
                return store.later(queue, spot, most)

    async def _live(self, place: Place, batch: Batch, room: int) -> tuple[Batch, list[JobInfo]]:
        """Return those of a step that are meant."""
        queue = place.queue.decode(errors=_ANY)
        seen = batch.seen
        if place.walk in {"waiting", "scheduled"}:
            seen = [each for each in seen if is_held_back(each.score) == (place.walk == "waiting")]
        payloads: dict[bytes, bytes | str | None] = {}
        inside, runs = self._sought.looks_inside, place.walk == "running"
        if inside and not runs:  # before anything else is asked of them: most are not meant
            payloads = await self._payloads(seen)
            seen = await self._fitting(seen, payloads, queue)
        found = await self._in_state(seen, batch.now_ms, runs=runs)
        if inside and runs:
            payloads = await self._payloads([each.seen for each in found])
            meant = set(await self._fitting([each.seen for each in found], payloads, queue))
            found = [each for each in found if each.seen in meant]
        batch, found = _cut(batch, found, room)
        payloads = payloads or await self._payloads([each.seen for each in found])
        told = [payloads[each.seen.job_id] for each in found]
        infos: list[JobInfo] = await self._ask(self._store.live(queue, found, told))
        return batch, [self._with_start(info) for info in infos] if place.walk == "running" else infos

    async def _in_state(self, seen: Sequence[Seen], now_ms: int, *, runs: bool) -> list[Found]:
        """Return those that somebody runs, or those that nobody does."""
        found = []
        holders = await self._ask(self._store.holders([each.job_id for each in seen]))
        for each, stored in zip(seen, holders, strict=True):
            holder = None if stored == _DONE else stored
            if runs == (holder is not None):
                score = now_ms if each.score is None else each.score
                found.append(Found(each, live_state(score, holder, now_ms), holder))
        return found

    async def _payloads(self, seen: Sequence[Seen]) -> dict[bytes, bytes | str | None]:
        raw_ids = [each.job_id for each in seen]
        return dict(zip(raw_ids, await self._ask(self._store.payloads(raw_ids)), strict=True))

    async def _fitting(
        self, seen: Sequence[Seen], payloads: Mapping[bytes, bytes | str | None], queue: str
    ) -> list[Seen]:
        """Return those that are meant, by what is in them."""
        waits: Sequence[bytes | None] = [None] * len(seen)
        if self._sought.key is not None:
            waits = await self._ask(self._store.waits([each.job_id for each in seen]))
        told = zip(seen, waits, strict=True)
        return [each for each, waits_for in told if self._fits(each, queue, payloads[each.job_id], waits_for)]

    async def _dead(self, place: Place, most: int, room: int) -> tuple[Batch, list[JobInfo]]:
        letters, batch = await self._ask(self._store.dead(place.spot, most))
        sought, found = self._sought, []
        for letter in letters:
            about = letter.about
            if sought.queue is not None and about.queue != sought.queue:
                continue
            if not sought.fits_error(RemoteError(about.error, about.message)):
                continue
            if sought.task is not None and not about.task:
                self.unreadable += 1
            elif sought.fits_task(about.task):
                found.append(letter)
        if sought.key is None:
            batch, found = _cut(batch, found, room)
        told = await self._ask(self._store.buried(found))
        if sought.key is not None:
            pairs = zip(found, told, strict=True)
            kept = {
                letter.seen.job_id: each
                for letter, each in pairs
                if self._fits(letter.seen, letter.about.queue, each[1], None)
            }
            batch, found = _cut(batch, [letter for letter in found if letter.seen.job_id in kept], room)
            told = [kept[letter.seen.job_id] for letter in found]
        return batch, [info for info, _ in told]

    async def _ended(self, place: Place, most: int, room: int) -> tuple[Batch, list[JobInfo]]:
        if not self._sought.looks_inside:  # about as many keys as there is room for the results among them
            among_them = sum(info.state.ended for info in self.jobs)
            most = min(most, max(room, room * (self._keys_seen // (among_them + 1))))
        asked = self._store.results(place.spot, most, or_none=len(self._walks) > 1)
        batch: Batch | None = await self._ask(asked)
        if batch is None:
            self.results_refused = True
            return Batch(0, [], 0, None), []
        self._keys_seen += batch.looked_at
        raw_ids = [seen.job_id for seen in batch.seen]
        stored = await self._ask(self._store.stored_results(raw_ids))
        dead = await self._ask(self._store.are_dead(raw_ids))
        found = []
        for seen, raw, is_dead in zip(batch.seen, stored, dead, strict=True):
            info = None if raw is None else self._result(seen.job_id.decode(errors=_ANY), raw)
            if info is not None and not (is_dead and "dead" in self._sought.states):  # it is listed there
                found.append(_Ended(seen, dataclasses.replace(info, is_dead=is_dead)))
        batch, found = _cut(batch, found, room)
        return batch, [each.info for each in found]

    def _result(self, job_id: str, raw: bytes | str) -> JobInfo | None:
        """Return what is told of a job that has ended, if it is meant."""
        sought = self._sought
        if isinstance(raw, str):
            info = JobInfo(job_id=job_id, state=JobState.ENDED, error=RemoteError("common.errors.Undecodable", raw))
        else:
            info = ended_info(job_id, "", raw, self._reading)
        if info.state is JobState.ENDED and (sought.looks_inside or sought.queue or "ended" not in sought.states):
            self.unreadable += 1
            return None
        if info.state.value not in sought.states or (sought.queue is not None and info.queue != sought.queue):
            return None
        return info if sought.fits_task(info.task or "") and sought.fits_error(info.error) else None

    def _fits(self, seen: Seen, queue: str, payload: bytes | str | None, waits_for: bytes | None) -> bool:
        """Whether a job is meant, by what is in it."""
        if not isinstance(payload, bytes):
            self.unreadable += 1
            return False
        try:
            job = decode_job(payload, self._reading, seen.job_id.decode(errors=_ANY), queue)
            return self._sought.fits_task(job.task) and self._sought.fits_key(job, waits_for)
        except (Undecodable, *MALFORMED, TypeError, ValueError):  # the parts of a pickle may be of any shape
            self.unreadable += 1
            return False

    def _after(self, place: Place) -> Place | None:
        """Return the beginning of the next way; None if that was the last."""
        if place.way + 1 < _WALKS[place.walk]:
            return Place(place.walk, place.queue, place.way + 1, place.since_ms)
        if place.walk not in _OF_NO_QUEUE:
            for raw in self._raw_queues():
                if raw > place.queue:
                    return Place(place.walk, raw)
        later = list(_WALKS)[list(_WALKS).index(place.walk) + 1 :]
        return self._first_of([walk for walk in later if walk in self._walks])

    def _first_of(self, walks: Sequence[str]) -> Place | None:
        if not walks:
            return None
        return Place(walks[0], b"" if walks[0] in _OF_NO_QUEUE else self._raw_queues()[0])

    def _raw_queues(self) -> list[bytes]:
        return sorted(map(id_bytes, self._queues))


class _HasSeen(Protocol):
    @property
    def seen(self) -> Seen: ...


F = TypeVar("F", bound=_HasSeen)


class _Ended(NamedTuple):
    """A result on the way."""

    seen: Seen
    info: JobInfo


def _cut(batch: Batch, found: list[F], room: int) -> tuple[Batch, list[F]]:
    """Return what there is room for, and the step as if it had ended there; all of it where a step cannot be cut."""
    if len(found) <= room or (last := found[room - 1].seen).behind is None:
        return batch, found
    passed = next(index for index, seen in enumerate(batch.seen, 1) if seen is last)
    looked_at = batch.looked_at - len(batch.seen) + passed
    return batch._replace(looked_at=looked_at, following=last.behind), found[:room]


def _when_finished(info: JobInfo) -> float:
    return 0.0 if info.finished_at is None else info.finished_at.timestamp()
