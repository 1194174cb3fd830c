"""How a producer's jobs get to the server: those enqueued together in one round trip, confirmed where that is wanted.

Owns the batches, the limit on the server's answer, and what the caller is told when jobs were not taken, or perhaps.
What a job is made of is binding.py's, what its caller gets client.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from common.errors import NotConfirmed, RedisUnavailable
from common.group_commit import SEND, Begun, GroupCommit, Send
from common.redis.connection import TROUBLE
from common.redis.durability import Confirmation, ConfirmedAnswer, check_confirmation, confirmed, enqueue_confirmed
from common.redis.reasons import may_have_run
from common.redis.store import Enqueue, EnqueueAnswer, FreshJobs
from producer.answers import why

if TYPE_CHECKING:
    from common.redis.store import Store
    from producer.client import Producer
    from producer.results import ResultListener

__all__ = ["Sending"]

T = TypeVar("T")

_MOST_CONFIRMED = 10_000
"""Enqueues that share one confirmation, which may take a second: more than share a round trip."""


class Sending:
    """Sends one producer's jobs.

    Args:
        durable: what holds for a call that does not say.
    """

    def __init__(self, producer: Producer, *, durable: bool) -> None:
        self._producer = producer
        self._store: Store | None = None
        self._results: ResultListener | None = None
        self._answers = producer.answers
        self._replicas = producer.settings.durable_replicas
        wanted = Confirmation(durable, self._replicas)
        self._confirmation = wanted if any(wanted) else None
        self._confirmable: set[Confirmation] = set()
        self._enqueues = GroupCommit(self._send_each, begin=self._begin)
        self._confirmed_enqueues = GroupCommit(self._send_each_confirmed, most=_MOST_CONFIRMED)

    def opened(self, store: Store, results: ResultListener) -> None:
        """Say where jobs are sent, and where results are pushed to."""
        self._store, self._results = store, results

    async def aclose(self) -> None:
        """Wait until all that was handed over is answered."""
        store = self._store
        await self._enqueues.aclose()
        await self._confirmed_enqueues.aclose()
        if self._store is store:  # else it was opened anew meanwhile
            self._store = self._results = None

    async def check(self, client: Any) -> None:
        """Find out whether the server can confirm what is wanted of every enqueue.

        Raises:
            ConfigurationError: it cannot.
        """
        if self._confirmation is not None:
            await self._check(client, self._confirmation)

    def wanted(self, durable: bool | None) -> Confirmation | None:  # noqa: FBT001 - as the caller gave it
        """Return what is to be confirmed of a call that says so, or nothing."""
        if durable is None:
            return self._confirmation
        return Confirmation(disk=True, replicas=self._replicas) if durable else None

    async def one(self, item: Enqueue, *, durable: bool | None) -> bool:
        """Add one job, with all that are added meanwhile; return whether it is new.

        Raises:
            NotConfirmed, RedisUnavailable: see `Producer.enqueue`.
        """
        store = self._store or self._producer.store  # one that is closed says so before anything waits
        until = asyncio.get_running_loop().time() + self._answers.within
        wanted = self._confirmation if durable is None else self.wanted(durable)
        if wanted is None:
            return await self._enqueues.submit((item, until))
        await self._check(store.client, wanted)
        return await self._confirmed_enqueues.submit((item, until, wanted))

    async def many(self, items: Sequence[Enqueue], *, durable: bool | None) -> None:
        """Add jobs; all of them, or the error says how many were not taken."""
        wanted, until = self.wanted(durable), self.until()
        if wanted is not None:
            await self._check(self._producer.store.client, wanted)
        answers = await self._send(items, until, wanted)
        refusals = [answer for answer in answers if not isinstance(answer, bool)]
        if refusals:
            raise self.as_raised(len(refusals), refusals[0], of=len(items))

    async def fresh(self, jobs: FreshJobs) -> None:
        """Add jobs that ask for nothing, as `many` does."""
        count = len(jobs.job_ids)
        refusals = await self.answered(self._producer.store.enqueue_fresh(jobs), self.until(), count)
        if refusals:
            raise self._not_taken(sum(refused for refused, _ in refusals), refusals[0][1], of=count)

    async def added(
        self,
        add: Callable[[Any], Awaitable[Sequence[T | Exception]]],
        jobs: int,
        *,
        until: float,
        wanted: Confirmation | None,
    ) -> Sequence[T | Exception]:
        """Return what a call answers that adds so many jobs, once they are confirmed as is wanted.

        Args:
            add: given the client to add them by.
            until: from `until`.
        """
        client = self._producer.store.client
        if wanted is None:
            return await self.answered(add(client), until, jobs)
        await self._check(client, wanted)
        return await self.answered(confirmed(client, add, wanted, where=self._answers.where, until=until), until, jobs)

    async def answered(self, adding: Awaitable[T], until: float, jobs: int) -> T:
        """Return the answer to a call that adds so many jobs.

        Raises:
            RedisUnavailable: there was none by `until`, or none can be had.
        """
        try:
            async with asyncio.timeout_at(until) as limit:
                return await adding
        except TROUBLE as error:
            if limit.expired():
                raise self._late(jobs) from None
            raise self._not_taken(jobs, error) from None

    def as_raised(self, jobs: int, answer: Exception, *, of: int = 1) -> RedisUnavailable:
        """Return what the caller of these jobs is told of an answer that is an error."""
        return answer if isinstance(answer, NotConfirmed) else self._not_taken(jobs, answer, of=of)

    def until(self) -> float:
        """Return the event loop's time by which the server must answer what is asked now."""
        return asyncio.get_running_loop().time() + self._answers.within

    def _begin(self, asked: tuple[Enqueue, float], told: Callable[[bool | Exception | Send], None]) -> Begun | None:
        """Add the job of one caller, while there is no other."""
        item, until = asked
        store, results = self._store, self._results
        if store is None or results is None:
            return None

        def answered(answer: EnqueueAnswer | Exception | None) -> None:
            if answer is None:
                told(SEND)
            else:
                told(self.as_raised(1, answer) if isinstance(answer, TROUBLE) else answer)

        push_to = results.expect(item.job_id)
        line = store.begin_enqueue(item, answered, push_to, results.expect_no_more)
        if line is None:
            if push_to:
                results.expect_no_more()
            return None

        def give_up() -> None:
            told(self._late(1))
            line.drop()

        return Begun(until, give_up)

    async def _send_each(
        self, items: Sequence[tuple[Enqueue, float]], wanted: Confirmation | None = None
    ) -> list[bool | Exception]:
        """Add the jobs of many callers; return for each caller whether its job is new, or its error."""
        # The youngest's: those of many batches that all wait are told so together, not batch after batch.
        until = max(until for _, until in items)
        try:
            answers = await self._send([item for item, _ in items], until, wanted)
        except RedisUnavailable as error:
            text = str(error)
            return [RedisUnavailable(text) for _ in items]
        return [answer if isinstance(answer, bool) else self.as_raised(1, answer) for answer in answers]

    async def _send_each_confirmed(
        self, items: Sequence[tuple[Enqueue, float, Confirmation]]
    ) -> list[bool | Exception]:
        most = Confirmation.of_all([wanted for _, _, wanted in items])
        return await self._send_each([(item, until) for item, until, _ in items], most)

    async def _send(
        self, items: Sequence[Enqueue], until: float, wanted: Confirmation | None
    ) -> Sequence[ConfirmedAnswer]:
        store = self._producer.store
        if wanted is None:
            return await self.answered(store.enqueue(items), until, len(items))
        adding = enqueue_confirmed(store.client, items, wanted, where=self._answers.where, until=until)
        return await self.answered(adding, until, len(items))

    async def _check(self, client: Any, wanted: Confirmation) -> None:
        """Find out, once, whether the server can confirm what is wanted."""
        if wanted not in self._confirmable:
            await self._answers.of(check_confirmation(client, self._answers.where, wanted), "how durable its jobs are")
            self._confirmable.add(wanted)

    def _late(self, jobs: int) -> RedisUnavailable:
        return RedisUnavailable(
            f"{self._answers.where} gave no answer within {self._answers.within:g} s; {jobs} job(s) may be there or not"
        )

    def _not_taken(self, jobs: int, error: BaseException, *, of: int = 1) -> RedisUnavailable:
        where = self._answers.where
        if may_have_run(error):
            return RedisUnavailable(
                f"the connection to {where} was lost ({why(error)}); {jobs} job(s) may be there or not"
            )
        others = f", but has the other {of - jobs} of this call" if of > jobs else ""
        return RedisUnavailable(f"{where} did not take {jobs} job(s){others}: {why(error)}")
