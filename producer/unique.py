"""Enqueues of unique jobs: those whose task, or whose enqueue, says when two jobs are the same one.

Owns that a payload which another job is to have is signed for that one, and what the caller gets of each answer. What a
key is stands in common/uniqueness.py; the server decides (common/redis/lua/enqueue_unique.lua).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from common.errors import ConfigurationError, DuplicateJob, RedisUnavailable
from common.group_commit import GroupCommit
from common.redis.durability import Confirmation
from common.redis.reasons import ServerError
from common.redis.unique import UniqueAnswer, UniqueStore
from common.tasks import Call
from common.uniqueness import Uniqueness
from producer.binding import Binder, UniqueBound
from producer.job import Job
from producer.options import EnqueueOptions
from producer.sending import Sending

if TYPE_CHECKING:
    from producer.client import Producer

__all__ = ["UniqueJobs", "uniqueness_of"]

R = TypeVar("R")


def uniqueness_of(call: object, options: EnqueueOptions) -> Uniqueness | None:
    """Return what is declared of a call, by its enqueue or by its task; None where it is one of many.

    Raises:
        ConfigurationError: it has a key, but nothing says what that is for.
    """
    if options.unique is not None:
        return options.unique or None
    task = call.task if isinstance(call, Call) else None  # whoever binds what is no Call says so
    declared = None if task is None else task.options.unique
    if declared is None and options.unique_key is not None:
        raise ConfigurationError("unique_key= says what makes a job unique; say with unique= what that means: Unique()")
    return declared


class UniqueJobs:
    """The enqueues of one producer's unique jobs; those of one moment share round trips."""

    def __init__(self, producer: Producer, binder: Binder, sending: Sending) -> None:
        self._producer = producer
        self._binder = binder
        self._sending = sending
        self._plain = GroupCommit(self._send_each)
        self._confirmed = GroupCommit(self._send_each_confirmed)

    async def aclose(self) -> None:
        """Wait until all that was handed over is answered."""
        await self._plain.aclose()
        await self._confirmed.aclose()

    async def one(
        self,
        call: Call[R],
        options: EnqueueOptions,
        uniqueness: Uniqueness,
        *,
        job_id: str | None,
        durable: bool | None,
    ) -> Job[R]:
        """Enqueue one job, as `Producer.enqueue` does."""
        bound = self._binder.bind_unique(call, options, uniqueness, job_id)
        self._producer.store  # noqa: B018 - a closed producer says so before anything waits
        until, wanted = self._sending.until(), self._sending.wanted(durable)
        if wanted is None:
            answer = await self._plain.submit((bound, until))
        else:
            answer = await self._confirmed.submit((bound, until, wanted))
        return self._job(call, answer)

    async def many(self, calls: Sequence[Call[R]], options: EnqueueOptions, *, durable: bool | None) -> list[Job[R]]:
        """Enqueue jobs some of which are unique, as `Producer.enqueue_many` does; nothing is sent before all are bound.

        Raises:
            DuplicateJob: some were rejected; the message says how many. The others are enqueued.
        """
        plain, unique = [], []
        for call in calls:
            uniqueness = uniqueness_of(call, options)
            if uniqueness is None:
                plain.append(self._binder.bind(call, options))
            else:
                unique.append(self._binder.bind_unique(call, options, uniqueness))
        if plain:
            await self._sending.many(plain, durable=durable)
        answers = await self._answers(unique, self._sending.until(), self._sending.wanted(durable))
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        duplicates = [error for error in errors if isinstance(error, DuplicateJob)]
        if len(errors) > len(duplicates):
            refusals = [error for error in errors if not isinstance(error, DuplicateJob)]
            raise self._sending.as_raised(len(refusals), refusals[0], of=len(calls))
        if duplicates:
            raise _rejected(duplicates, of=len(calls))
        taken, added = iter(plain), (answer for answer in answers if not isinstance(answer, Exception))
        return [
            self._job(call, next(added))
            if uniqueness_of(call, options) is not None
            else Job(self._producer, (item := next(taken)).job_id, queue=item.queue, task=call.task)
            for call in calls
        ]

    def _job(self, call: Call[R], answer: UniqueAnswer) -> Job[R]:
        return Job(
            self._producer,
            answer.job_id,
            queue=answer.queue,
            task=call.task,
            is_new=answer.word == "added",
            replaced=answer.word == "replaced",
        )

    async def _send_each(
        self, items: Sequence[tuple[UniqueBound, float]], wanted: Confirmation | None = None
    ) -> list[UniqueAnswer | Exception]:
        """Add the jobs of many callers; return for each caller what became of its job, or its error."""
        until = max(until for _, until in items)  # the youngest's, as in sending.py
        try:
            answers = await self._answers([bound for bound, _ in items], until, wanted)
        except RedisUnavailable as error:
            text = str(error)
            return [RedisUnavailable(text) for _ in items]
        return [
            answer if isinstance(answer, (UniqueAnswer, DuplicateJob)) else self._sending.as_raised(1, answer)
            for answer in answers
        ]

    async def _send_each_confirmed(
        self, items: Sequence[tuple[UniqueBound, float, Confirmation]]
    ) -> list[UniqueAnswer | Exception]:
        most = Confirmation.of_all([wanted for _, _, wanted in items])
        return await self._send_each([(bound, until) for bound, until, _ in items], most)

    async def _answers(
        self, jobs: Sequence[UniqueBound], until: float, wanted: Confirmation | None
    ) -> Sequence[UniqueAnswer | Exception]:
        if not jobs:
            return []

        async def add(client: Any) -> list[UniqueAnswer | Exception]:
            answers = await self._settled(UniqueStore(client), jobs)
            return [_as_given(bound.call, answer) for bound, answer in zip(jobs, answers, strict=True)]

        return await self._sending.added(add, len(jobs), until=until, wanted=wanted)

    async def _settled(self, store: UniqueStore, jobs: Sequence[UniqueBound]) -> list[UniqueAnswer | ServerError]:
        """Return what became of the jobs, those that replace another signed for that one.

        Which one it is the server alone knows; it may be another one by the time it is asked again, and so on, but
        then other producers got on. Whoever waits for the answer has a limit on it.
        """
        answers = await store.enqueue([bound.item for bound in jobs])
        while unsigned := [index for index, answer in enumerate(answers) if _is_to_be_signed(answer)]:
            signed = []
            for index in unsigned:
                answer = answers[index]
                assert isinstance(answer, UniqueAnswer)
                signed.append(self._binder.signed_for(jobs[index], answer.job_id, answer.queue).item)
            for index, answer in zip(unsigned, await store.enqueue(signed), strict=True):
                answers[index] = answer
        return answers


def _is_to_be_signed(answer: UniqueAnswer | ServerError) -> bool:
    return isinstance(answer, UniqueAnswer) and answer.word == "sign"


def _as_given(call: Call[Any], answer: UniqueAnswer | ServerError) -> UniqueAnswer | Exception:
    if not isinstance(answer, UniqueAnswer) or answer.word != "rejected":
        return answer
    return DuplicateJob(
        f"{call.name}: nothing was enqueued, a job of the same unique key is there: {answer.job_id} in {answer.queue}",
        job_id=answer.job_id,
        queue=answer.queue,
    )


def _rejected(duplicates: Sequence[DuplicateJob], *, of: int) -> DuplicateJob:
    first = duplicates[0]
    if of == 1:
        return first
    text = f"{len(duplicates)} of {of} jobs were rejected, the others are enqueued. The first: {first}"
    return DuplicateJob(text, job_id=first.job_id, queue=first.queue)
