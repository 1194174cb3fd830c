"""Every write to Redis, as typed methods: one method a transition of a job's life.

Knows nothing of tasks, of payload contents or of event loops' tasks. How the scripts' arguments are laid out is in
layout.py, what goes in and out in records.py; reads for people are in inspect.py, key names in keys.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis
import redis.asyncio
from redis.exceptions import NoScriptError

from common.redis import keys, scripts
from common.redis.beginnings import FETCH, Beginnings, EnqueueAnswer
from common.redis.layout import (
    MOST_PER_CALL,
    bounds,
    claim_arguments,
    complete_arguments,
    enqueue_arguments,
    id_bytes,
    parse_claim,
    parse_renewal,
    parts,
    ranked_arguments,
    renew_arguments,
    sizes,
)
from common.redis.reasons import ServerError
from common.redis.records import (
    Claim,
    Claimed,
    Enqueue,
    Finish,
    FreshJobs,
    Held,
    HeldLease,
    Letter,
    Order,
    PutBack,
    Rank,
    Refusals,
    Renewal,
)
from common.redis.wire import Argument, call_many

__all__ = [
    "FIRST_FIRST",
    "MOST_PER_CALL",
    "BlockingStore",
    "Claim",
    "Claimed",
    "Enqueue",
    "EnqueueAnswer",
    "Finish",
    "FreshJobs",
    "Held",
    "HeldLease",
    "Letter",
    "Order",
    "PutBack",
    "Rank",
    "Refusals",
    "Renewal",
    "Store",
]

FIRST_FIRST = Order()
"""The first queue is served first, and alone as long as it has more than there is room for."""

FETCHED_AT_ONCE = 64


class Store(Beginnings):
    """Redis, as a worker and a producer see it."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def enqueue(self, jobs: Sequence[Enqueue]) -> list[EnqueueAnswer]:
        """Add jobs, thousands in one round trip; return for each whether it was added.

        False says that the id is taken: that job is in a queue, or its result is still kept. An error says that
        the server refused the job; others of the same call may be added all the same. What one script takes, up
        to MOST_PER_CALL jobs of one queue and some MB of payloads, is added whole or not at all.

        Raises:
            redis.exceptions.ConnectionError and the like: it is not known which were added.
        """
        if len(jobs) == 1:
            return [await self._enqueue_one(jobs)]
        by_queue: dict[str, list[int]] = {}
        ranked: dict[str, list[int]] = {}
        for index, job in enumerate(jobs):
            (by_queue if job.rank is None else ranked).setdefault(job.queue, []).append(index)
        calls: list[scripts.ScriptCall] = []
        parts: list[list[int]] = []
        ways = ((scripts.ENQUEUE, enqueue_arguments, by_queue), (scripts.ENQUEUE_RANKED, ranked_arguments, ranked))
        for script, arguments_of, queues in ways:
            for queue, members in queues.items():
                for start, end in bounds([len(jobs[index].payload) for index in members]):
                    part = members[start:end]
                    calls.append((script, [queue], arguments_of(jobs, part)))
                    parts.append(part)
        answers: list[EnqueueAnswer] = [True] * len(jobs)
        for part, reply in zip(parts, await scripts.call_scripts(self.client, calls), strict=True):
            if isinstance(reply, ServerError):
                for index in part:
                    answers[index] = reply
                continue
            others = [index for index in part if not jobs[index].fresh]
            for index, new in zip(others, reply[1:], strict=True):
                answers[index] = bool(new)
        return answers

    async def _enqueue_one(self, jobs: Sequence[Enqueue]) -> EnqueueAnswer:
        """Do as `enqueue`, on the short way: a job enqueued into an idle fleet is not to wait for bookkeeping."""
        try:
            if jobs[0].rank is None:
                reply = await scripts.ENQUEUE(self.client, (jobs[0].queue,), enqueue_arguments(jobs, [0]))
            else:
                reply = await scripts.ENQUEUE_RANKED(self.client, (jobs[0].queue,), ranked_arguments(jobs, [0]))
        except ServerError as error:
            return error
        return jobs[0].fresh or bool(reply[1])

    async def enqueue_fresh(self, jobs: FreshJobs) -> list[tuple[int, ServerError]]:
        """Add jobs as `enqueue` does, at half its cost; return how many were refused, and why, call by call.

        Raises:
            redis.exceptions.ConnectionError and the like: it is not known which were added.
        """
        calls: list[scripts.ScriptCall] = []
        for start, end in bounds([len(payload) for payload in jobs.payloads]):
            arguments: list[Argument] = [end - start, *(b"",) * (2 * (end - start))]
            arguments[1::2], arguments[2::2] = jobs.job_ids[start:end], jobs.payloads[start:end]
            calls.append((scripts.ENQUEUE, [jobs.queue], arguments))
        replies = await scripts.call_scripts(self.client, calls)
        return [
            (int(arguments[0]), reply)
            for (_, _, arguments), reply in zip(calls, replies, strict=True)
            if isinstance(reply, ServerError)
        ]

    async def claim(
        self,
        queues: Sequence[str],
        *,
        most: int,
        lease_ms: int,
        worker: str,
        number: int,
        unanswered: int = 0,
        order: Order = FIRST_FIRST,
    ) -> Claim:
        """Take up to `most` due jobs under leases of this worker.

        Args:
            queues: served as `order` says.
            number: how many claims this worker made before; it makes each lease's token unique.
            unanswered: number of the first claim of this worker's whose reply did not come, 0 if there is none. What
                it took is given again, besides `most`.
        """
        most = min(most, MOST_PER_CALL)
        arguments = claim_arguments(queues, most, lease_ms, worker, number, unanswered, order)
        reply = await scripts.CLAIM(self.client, queues, arguments)
        return parse_claim(reply, worker, number)

    async def complete(
        self, queues: Sequence[str], outcomes: Sequence[Finish | PutBack], *, again: bool = False
    ) -> Refusals:
        """Record outcomes; return which were refused.

        Args:
            again: they were sent before and no reply came, so that they may be recorded already. Those that are,
                are told apart from those whose lease was lost.
        """
        refusals = Refusals([], [])
        for start, end in bounds(sizes(outcomes)):
            arguments, order = complete_arguments(outcomes[start:end], again=again)
            lost, repeated = await scripts.COMPLETE(self.client, queues, arguments)
            refusals.lost.extend(start + order[index] for index in lost)
            refusals.repeated.extend(start + order[index] for index in repeated)
        return refusals

    async def renew(self, queues: Sequence[str], leases: Sequence[Held], *, lease_ms: int) -> Renewal:
        """Extend leases; say which are lost and which attempts are to be aborted."""
        renewal = Renewal([], [])
        for part in parts(leases):
            reply = await scripts.RENEW(self.client, queues, renew_arguments(part, lease_ms))
            parse_renewal(reply, part, renewal)
        return renewal

    async def await_results(self, channel: str, job_ids: Sequence[str]) -> list[bytes | bool]:
        """Ask for results to be pushed to a channel.

        Returns, for each id: its result, if it is there already; True, if it will be pushed; False, if
        there is no such job or its result is no longer kept.
        """
        answers: list[bytes | bool] = []
        for start in range(0, len(job_ids), MOST_PER_CALL):
            part = job_ids[start : start + MOST_PER_CALL]
            reply = await scripts.AWAIT(self.client, (), (channel, *map(id_bytes, part)))
            large = [job_id for job_id, item in zip(part, reply, strict=True) if item == FETCH]
            fetched = iter(await self.results(large))
            answers.extend(
                item if isinstance(item, bytes) else (next(fetched) or False) if item == FETCH else bool(item)
                for item in reply
            )
        return answers

    async def results(self, job_ids: Sequence[str]) -> list[bytes | None]:
        """Return the results that can be fetched, None where there is none.

        One that is not kept can be fetched for a minute, where somebody waited for it when its job ended.
        """
        found: list[bytes | None] = []
        for start in range(0, len(job_ids), FETCHED_AT_ONCE):
            part = job_ids[start : start + FETCHED_AT_ONCE]
            stored: list[bytes | None] = await self.client.mget([id_bytes(keys.result(job_id)) for job_id in part])
            missing = [index for index, result in enumerate(stored) if result is None]
            if missing:
                awaited = await self.client.mget([id_bytes(keys.awaited(part[index])) for index in missing])
                for index, result in zip(missing, awaited, strict=True):
                    stored[index] = result
            found.extend(stored)
        return found

    async def payload(self, job_id: str) -> bytes | None:
        """Return a job's payload, None where there is none."""
        stored: bytes | None = await self.client.get(id_bytes(keys.job(job_id)))
        return stored

    async def claim_when_woken(
        self,
        queues: Sequence[str],
        seconds: float,
        *,
        most: int,
        lease_ms: int,
        worker: str,
        number: int,
        order: Order = FIRST_FIRST,
        taken: Callable[[Claim], object] | None = None,
    ) -> Claim:
        """Wait until an enqueue or `nudge` wakes this worker, or so many seconds, then claim, in one round trip.

        The server claims the moment it is woken, whether this worker has heard of it or not: ask for few.

        Args:
            most, lease_ms, worker, number, order: as for `claim`.
            taken: called with a claim that has jobs as soon as it is there, before this returns it.
        """
        # BZPOPMIN takes milliseconds at the finest, and 0 would block for ever.
        names = [*(keys.wake(queue) for queue in queues), keys.nudge(worker)]
        wait = ("BZPOPMIN", *names, f"{max(seconds, 0.001):.3f}")
        arguments = claim_arguments(queues, most, lease_ms, worker, number, 0, order)
        early: Claim | None = None

        def arrived(replies: list[Any]) -> None:
            nonlocal early
            if not isinstance(replies[1], Exception):
                early = parse_claim(replies[1], worker, number)
                if taken is not None and early.jobs:
                    taken(early)

        woken, reply = await call_many(self.client, (wait, scripts.CLAIM.command(queues, arguments)), arrived)
        if early is not None:
            claim = early
        else:
            if isinstance(reply, NoScriptError):
                reply = await scripts.CLAIM(self.client, queues, arguments)
            if isinstance(reply, Exception):
                raise reply
            claim = parse_claim(reply, worker, number)
            if taken is not None and claim.jobs:
                taken(claim)
        if isinstance(woken, Exception) and not claim.jobs:
            raise woken  # a marker of a foreign type; without a pause, claims would follow one another
        return claim

    async def nudge(self, worker: str) -> None:
        """End this worker's wait for work."""
        await self.client.zadd(keys.nudge(worker), {"stop": 0})

    async def aborting(self, job_ids: Sequence[str]) -> dict[str, float]:
        """Return those of these ids that are to be aborted, whoever asked, with the scores of the wishes."""
        found: dict[str, float] = {}
        if not job_ids or not await self.client.exists(keys.ABORT):
            return found
        for start in range(0, len(job_ids), MOST_PER_CALL):
            part = job_ids[start : start + MOST_PER_CALL]
            asked = await self.client.zmscore(keys.ABORT, [id_bytes(job_id) for job_id in part])  # type: ignore[misc]  # bytes do as well
            found.update((job_id, wish) for job_id, wish in zip(part, asked, strict=True) if wish is not None)
        return found

    async def erase(self, queue: str, job_ids: Sequence[str]) -> None:
        """Remove a queue and all there is of these jobs, results too: for a queue of one's own, once it is idle.

        A worker that still runs one of them finds its lease lost.
        """
        for start in range(0, len(job_ids), MOST_PER_CALL):
            part = [id_bytes(job_id) for job_id in job_ids[start : start + MOST_PER_CALL]]
            prefixes = [keys.JOB, keys.RETRY, keys.LEASE, keys.RESULT, keys.AWAITED, keys.DEAD_LETTER]
            prefixes += (keys.PROGRESS, keys.STREAM, keys.WATCHERS, keys.ATTEMPTS)
            pipeline = self.client.pipeline(transaction=True)
            pipeline.unlink(*(prefix.encode() + job_id for prefix in prefixes for job_id in part))
            pipeline.zrem(queue, *part)
            pipeline.zrem(keys.lift(queue), *part)
            pipeline.zrem(keys.ABORT, *part)
            pipeline.zrem(keys.DEAD, *part)
            pipeline.hdel(keys.DEAD_ABOUT, *part)  # type: ignore[arg-type]  # bytes do as well
            pipeline.hdel(keys.WAITERS, *part)  # type: ignore[arg-type]  # bytes do as well
            await pipeline.execute()
        pipeline = self.client.pipeline(transaction=True)
        pipeline.hgetall(keys.lanes(queue))
        pipeline.hgetall(keys.laned(queue))
        heads, laned = await pipeline.execute()
        its_keys = [keys.lane(queue, lane.decode(errors="replace")) for lane in {*heads, *laned.values()}]
        its_keys += (name(queue) for name in (keys.wake, keys.lift, keys.lanes, keys.fair, keys.laned, keys.health))
        await self.client.unlink(queue, *its_keys)

    async def report_worker(self, worker: str, report: bytes, *, now_ms: int, keep_ms: int) -> bytes | None:
        """Publish what a worker says, for `keep_ms`; return the revision of the fleet's schedules, if there are any."""
        pipeline = self.client.pipeline(transaction=True)
        _report(pipeline, worker, report, now_ms, keep_ms)
        return (await pipeline.execute())[-1]  # type: ignore[no-any-return]

    async def forget_worker(self, worker: str) -> None:
        """Remove a worker's report, at its clean stop."""
        pipeline = self.client.pipeline(transaction=True)
        pipeline.delete(keys.worker(worker), keys.nudge(worker))
        pipeline.zrem(keys.WORKERS, worker)
        await pipeline.execute()


class BlockingStore:
    """The part of the store that the renewing thread uses, over a synchronous connection of its own."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def renew(self, queues: Sequence[str], leases: Sequence[Held], *, lease_ms: int) -> Renewal:
        """Extend leases; say which are lost and which attempts are to be aborted."""
        renewal = Renewal([], [])
        for part in parts(leases):
            reply = scripts.RENEW.blocking(self.client, queues, renew_arguments(part, lease_ms))
            parse_renewal(reply, part, renewal)
        return renewal

    def report_worker(self, worker: str, report: bytes, *, now_ms: int, keep_ms: int) -> None:
        """Publish what is said of a worker that cannot speak for itself, its event loop standing still."""
        pipeline = self.client.pipeline(transaction=True)
        _report(pipeline, worker, report, now_ms, keep_ms)
        pipeline.execute()

    def close(self) -> None:
        """Close the connection."""
        self.client.close()
        self.client.connection_pool.disconnect()


def _report(pipeline: Any, worker: str, report: bytes, now_ms: int, keep_ms: int) -> None:
    """Write a report, and ask for the revision of the fleet's schedules."""
    pipeline.set(keys.worker(worker), report, px=keep_ms)
    pipeline.zadd(keys.WORKERS, {worker: now_ms})
    pipeline.zremrangebyscore(keys.WORKERS, "-inf", now_ms - keep_ms)
    pipeline.get(keys.SCHEDULES_REVISION)
