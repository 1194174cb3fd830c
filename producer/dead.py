"""`producer.dead`: jobs that failed for good, to look at, to replay and to delete.

Owns what these calls check and say. Which letters a filter fits is dead_filter.py's, the commands behind it all are
common/redis/dead_letters.py's. `BlockingDeadLetters` is the same for synchronous code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, Unpack

from common.dead_letters import DeadLetter, decode_about, read_letter
from common.errors import ConfigurationError, JobNotFound
from common.redis.dead_letters import MOST_AT_ONCE, DeadStore, Page
from producer.dead_filter import DeadFilters, Found, Wanted, checked_count, walk
from producer.options import check_id_from_elsewhere, seconds

if TYPE_CHECKING:
    from producer.blocking import BlockingProducer
    from producer.client import Producer

__all__ = ["BlockingDeadLetters", "DeadLetters", "DeadPage", "Replayed"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeadPage:
    """Some dead letters, the newest first.

    Attributes:
        next: give this as `after` to have those that follow; None if these were the last.
    """

    letters: tuple[DeadLetter, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a replay.

    Attributes:
        replayed: how many jobs are back in their queues.
        taken: ids that were not put back, as a job of the id is there, runs, or has ended since with another result.
        missing: ids of which no letter is kept.
    """

    replayed: int
    taken: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class DeadLetters:
    """The jobs that failed for good, of one producer's server.

        async for letter in producer.dead.iterate(task="fetch_url", since=timedelta(hours=1)):
            print(letter.job_id, letter.error.type, letter.error.message)
        await producer.dead.replay(task="fetch_url", error="ConnectError")

    The filters are the same everywhere, see `DeadFilters`: task, error, queue, since, until.
    """

    __slots__ = ("_producer",)

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def list(self, *, limit: int = 100, after: str | None = None, **filters: Unpack[DeadFilters]) -> DeadPage:
        """Return some letters, the newest first, without payloads and tracebacks.

        Args:
            limit: letters to return at the most.
            after: `next` of the page before.
        """
        start, checked_limit = _position(after), checked_count("limit", limit)
        wanted = await self._wanted(filters)
        found = [each async for part in self._walk(wanted, after=start, limit=checked_limit) for each in part]
        more = repr(found[-1].filed.score) if len(found) == checked_limit else None
        return DeadPage(tuple(map(_shown, found)), more)

    async def iterate(self, **filters: Unpack[DeadFilters]) -> AsyncIterator[DeadLetter]:
        """Yield all letters that fit, the newest first, without payloads and tracebacks.

        Letters that come meanwhile are not among them; those deleted or replayed meanwhile may be.
        """
        async for part in self._walk(await self._wanted(filters)):
            for found in part:
                yield _shown(found)

    async def get(self, job_id: str) -> DeadLetter:
        """Return one letter with its payload, traceback and arguments.

        Raises:
            JobNotFound: there is none of this job.
        """
        check_id_from_elsewhere("job_id", job_id)
        stored = await self._ask(self._store.get(job_id), f"the dead letter of job {job_id}")
        if stored is None:
            raise JobNotFound(
                f"there is no dead letter of job {job_id}: the job did not fail for good, or its letter was replayed, "
                "deleted or displaced by newer ones, or is over age (BARQUE_DEAD_KEEP, BARQUE_DEAD_LIMIT)",
                job_id=job_id,
            )
        return read_letter(
            job_id,
            stored.score,
            decode_about(stored.about),
            queue=stored.queue,
            traceback=stored.traceback,
            payload=stored.payload,
            reading=self._producer.reading,
            attempts=stored.attempts,
        )

    async def count(self, **filters: Unpack[DeadFilters]) -> int:
        """Return how many letters fit. With a task, an error or a queue that takes a look at each."""
        wanted = await self._wanted(filters)
        if not wanted.looks_inside:
            asked = self._store.count(since_ms=wanted.since_ms, until_ms=wanted.until_ms)
            return await self._ask(asked, "the number of dead letters")
        total = 0
        async for part in self._walk(wanted):
            total += len(part)
        return total

    async def replay(
        self,
        *job_ids: str,
        limit: int | None = None,
        delay: float | timedelta | None = None,
        everything: bool = False,
        **filters: Unpack[DeadFilters],
    ) -> Replayed:
        """Put jobs back into their queues, under their ids, with their attempts counted anew.

        The result of the failure goes, and whoever waits from now on, by `producer.job(job_id)`, gets how it ends this
        time. The oldest come first. A letter that comes while this runs is left alone: a job that fails again at once
        is not replayed over and over. Interrupted, it may be called again: what is back is back once.

        Args:
            *job_ids: these jobs; or filters, not both.
            limit: with filters, jobs at the most.
            delay: due after so many seconds instead of at once.
            everything: all there are; to be said instead of filters, so that nobody does it by mistake.
        """
        delay_ms = round((seconds("delay", delay, least=0.0) or 0.0) * 1000)
        replayed = 0
        others: dict[str, dict[str, None]] = {"taken": {}, "missing": {}}
        async for part in self._selected(job_ids, filters, limit, everything=everything):
            asked = self._store.replay(part, delay_ms=delay_ms)
            answers = await self._ask(asked, "jobs to be replayed", otherwise="some may be back in their queues")
            for job_id, answer in zip(part, answers, strict=True):
                if answer == "replayed":
                    replayed += 1
                else:
                    others[answer][job_id] = None
        return Replayed(replayed, tuple(others["taken"]), tuple(others["missing"]))

    async def delete(
        self, *job_ids: str, limit: int | None = None, everything: bool = False, **filters: Unpack[DeadFilters]
    ) -> int:
        """Forget letters, for good; return how many there were. The arguments are those of `replay`."""
        removed = 0
        async for part in self._selected(job_ids, filters, limit, everything=everything):
            asked = self._store.delete(part)
            removed += await self._ask(asked, "dead letters to be deleted", otherwise="some may be gone")
        return removed

    @property
    def _store(self) -> DeadStore:
        return DeadStore(self._producer.store.client)

    async def _ask(self, call: Awaitable[T], asked: str, *, otherwise: str = "") -> T:
        return await self._producer.answers.of(call, asked, otherwise=otherwise)

    async def _wanted(self, filters: DeadFilters) -> Wanted:
        ages = any(isinstance(filters.get(name), timedelta) for name in ("since", "until"))
        return Wanted.of(await self._now_ms() if ages else 0, **filters)

    async def _now_ms(self) -> int:
        return await self._ask(self._store.now_ms(), "the time")

    def _walk(
        self, wanted: Wanted, *, newest_first: bool = True, after: float | None = None, limit: int | None = None
    ) -> AsyncIterator[Sequence[Found]]:
        def ask(call: Awaitable[Page]) -> Awaitable[Page]:
            return self._ask(call, "dead letters")

        return walk(self._store, wanted, ask, newest_first=newest_first, after=after, limit=limit)

    async def _selected(
        self, job_ids: Sequence[str], filters: DeadFilters, limit: int | None, *, everything: bool
    ) -> AsyncIterator[Sequence[str]]:
        """Yield the ids that are meant, in parts.

        Raises:
            ConfigurationError: nothing is named, or ids and filters are.
        """
        chosen = limit is not None or any(given is not None for given in filters.values())
        if job_ids and (chosen or everything):
            raise ConfigurationError("give job ids, or filters, or everything=True: one of the three")
        if not job_ids and not chosen and not everything:
            raise ConfigurationError("say which: job ids, task=, error=, queue=, since=, until=, or everything=True")
        for job_id in job_ids:
            check_id_from_elsewhere("job_id", job_id)
        if job_ids:
            ids = tuple(dict.fromkeys(job_ids))
            for start in range(0, len(ids), MOST_AT_ONCE):
                yield ids[start : start + MOST_AT_ONCE]
            return
        most = None if limit is None else checked_count("limit", limit)
        wanted = await self._wanted(filters)
        if wanted.until_ms is None:
            wanted = wanted._replace(until_ms=await self._now_ms() + 1)
        async for part in self._walk(wanted, newest_first=False, limit=most):
            yield [found.filed.job_id for found in part]


class BlockingDeadLetters:
    """`producer.dead` for synchronous code; each method is that of `DeadLetters`, and waits."""

    __slots__ = ("_letters", "_producer")

    def __init__(self, producer: BlockingProducer, letters: DeadLetters) -> None:
        self._producer = producer
        self._letters = letters

    def list(self, *, limit: int = 100, after: str | None = None, **filters: Unpack[DeadFilters]) -> DeadPage:
        """Return some letters, the newest first; see `DeadLetters.list`."""
        return self._producer.run(self._letters.list(limit=limit, after=after, **filters))

    def iterate(self, **filters: Unpack[DeadFilters]) -> Iterator[DeadLetter]:
        """Yield all letters that fit, the newest first; see `DeadLetters.iterate`."""
        after: str | None = None
        while True:
            page = self.list(limit=MOST_AT_ONCE, after=after, **filters)
            yield from page.letters
            after = page.next
            if after is None:
                return

    def get(self, job_id: str) -> DeadLetter:
        """Return one letter with all that is kept of it; see `DeadLetters.get`."""
        return self._producer.run(self._letters.get(job_id))

    def count(self, **filters: Unpack[DeadFilters]) -> int:
        """Return how many letters fit; see `DeadLetters.count`."""
        return self._producer.run(self._letters.count(**filters))

    def replay(
        self,
        *job_ids: str,
        limit: int | None = None,
        delay: float | timedelta | None = None,
        everything: bool = False,
        **filters: Unpack[DeadFilters],
    ) -> Replayed:
        """Put jobs back into their queues; see `DeadLetters.replay`."""
        asked = self._letters.replay(*job_ids, limit=limit, delay=delay, everything=everything, **filters)
        return self._producer.run(asked)

    def delete(
        self, *job_ids: str, limit: int | None = None, everything: bool = False, **filters: Unpack[DeadFilters]
    ) -> int:
        """Forget letters; see `DeadLetters.delete`."""
        return self._producer.run(self._letters.delete(*job_ids, limit=limit, everything=everything, **filters))


def _shown(found: Found) -> DeadLetter:
    return read_letter(found.filed.job_id, found.filed.score, found.about)


def _position(after: str | None) -> float | None:
    try:
        return None if after is None else float(after)
    except (TypeError, ValueError):
        raise ConfigurationError(f"after={after!r}: give `next` of the page before") from None
