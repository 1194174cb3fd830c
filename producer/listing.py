"""What jobs there are, as methods of a producer: by state, by what they are, a page at a time.

Owns what these calls check and say. Which filters there are is job_filters.py's, the walk finding.py's.
`BlockingListing` is the same for synchronous code.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, Unpack

from common.errors import ConfigurationError
from common.jobs import JobInfo

if TYPE_CHECKING:
    from common.codec import Reading
    from common.redis.inspect import Inspector
    from common.redis.store import Store
    from common.settings import Settings
    from producer.answers import Answers
    from producer.blocking import _Opened
    from producer.job_filters import JobFilters

__all__ = ["MOST_ON_A_PAGE", "BlockingListing", "JobCounts", "JobPage", "Listing"]

R = TypeVar("R")

MOST_ON_A_PAGE = 500


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, and where to go on.

    Attributes:
        jobs: what is told of them, arguments included: for code; whoever shows them hides what may be secret.
        next: give this as `cursor` to have those that follow; None where the end was reached. Fit for a URL.
        looked_at: jobs, or keys, looked at for this page. A page that has looked at about two thousand ends there,
            however few fit, even none; as long as there is a `next`, there may be more.
        unreadable: jobs among them that cannot be decoded here, so that they may be meant or not; they are left out.
        results_refused: whether jobs that have ended were left out, as the user on the server may not SCAN. Where no
            others are asked for, that is an error.
    """

    jobs: tuple[JobInfo, ...]
    next: str | None
    looked_at: int
    unreadable: int = 0
    results_refused: bool = False

    @property
    def at_end(self) -> bool:
        """Whether the end was reached."""
        return self.next is None


@dataclass(frozen=True, slots=True)
class JobCounts:
    """How many jobs there are, as far as that can be told without a look at each.

    Attributes:
        queued: due and waiting for a worker, those in lanes of tenants included; and those a stock arq worker runs,
            which stay where they are.
        later: the others: due in the future, running, or waiting for a limit. No index tells them apart.
        running: attempts that run, as live workers said last.
        dead: jobs that failed for good, and are kept.
        succeeded, retried, failed: attempts that ended so, of the live workers since each started.
    """

    queued: int
    later: int
    running: int
    dead: int
    succeeded: int
    retried: int
    failed: int


class _Open(Protocol):
    """What is needed of a producer."""

    settings: Settings
    reading: Reading
    answers: Answers

    @property
    def store(self) -> Store: ...

    @property
    def inspector(self) -> Inspector: ...


class Listing:
    """What `Producer` has these methods from."""

    async def jobs(
        self: _Open, *, limit: int = 50, cursor: str | None = None, **filters: Unpack[JobFilters]
    ) -> JobPage:
        """Return some of the jobs that fit, and where to go on.

        Those that run come first, by id; then those that are due, the first one first, those that wait for a limit,
        and those due later; then the dead, the newest first; then those that have ended otherwise, as far as results
        are kept, in no order but the newest first on each page. Queues come one after the other, by name.

        A page is some hundred jobs' worth of the server's time, however many there are. A job that is there all the
        while, in the same state and place, is on a page; one that moves meanwhile may be on two, or on none.

        Args:
            limit: jobs on a page at the most, 500; of results, and of jobs in lanes, it may be a few more.
            cursor: `next` of the page before; the filters are to be the same.
            filters: see `JobFilters`: state, queue, task, id, key, error; all must fit.

        Raises:
            ConfigurationError: a filter or the cursor is not what it can be.
            RedisUnavailable: the server cannot be reached.
        """
        from common.redis.inspect import queues_in_use  # noqa: PLC0415 - most programs list nothing
        from common.redis.listing import ListingStore  # noqa: PLC0415
        from producer.finding import Search  # noqa: PLC0415
        from producer.job_filters import Sought  # noqa: PLC0415
        from producer.page_cursor import decode_cursor, encode_cursor  # noqa: PLC0415

        most: object = limit
        if not isinstance(most, int) or not 1 <= most <= MOST_ON_A_PAGE:
            raise ConfigurationError(f"limit={limit!r}: give a number from 1 to {MOST_ON_A_PAGE}")
        sought = Sought.of(filters)
        place = None if cursor is None else decode_cursor(cursor, sought.identity)

        def ask(call: Awaitable[R]) -> Awaitable[R]:
            return self.answers.of(call, "jobs")

        workers = await ask(self.inspector.workers())
        queues = [sought.queue] if sought.queue else queues_in_use(self.settings.queues, workers)
        if place is not None and place.queue and not sought.queue:  # its last worker may have gone meanwhile
            queues = [*queues, place.queue.decode(errors="surrogateescape")]
        store = ListingStore(self.store.client, self.reading)
        begun = {(run.job_id, worker.worker): run.started_ms for worker in workers for run in worker.longest}
        search = Search(store, self.inspector, sought, self.reading, ask, queues=queues, begun=begun, limit=limit)
        if sought.job_id is not None:
            await search.look_up(sought.job_id)
            following = None
        else:
            following = await search.page(place)
        after = None if following is None else encode_cursor(following, sought.identity)
        return JobPage(tuple(search.jobs), after, search.looked_at, search.unreadable, search.results_refused)

    async def job_counts(self: _Open, *, queue: str | None = None) -> JobCounts:
        """Return how many jobs there are, by what can be told without a look at each.

        Args:
            queue: of this queue; without it, of all that are in use. `dead` and what follows are of all queues.
        """
        from common.redis.inspect import queues_in_use  # noqa: PLC0415 - as above
        from producer.options import check_id_from_elsewhere  # noqa: PLC0415

        def ask(call: Awaitable[R]) -> Awaitable[R]:
            return self.answers.of(call, "the numbers of jobs")

        if queue is not None:
            check_id_from_elsewhere("queue", queue)
        inspector = self.inspector
        workers = await ask(inspector.workers())
        queues = [queue] if queue else queues_in_use(self.settings.queues, workers)
        reports = [await ask(inspector.queue(name)) for name in queues]
        return JobCounts(
            queued=sum(report.queued for report in reports),
            later=sum(report.scheduled for report in reports),
            running=sum(worker.running if queue is None else worker.runs_in(queue) for worker in workers),
            dead=await ask(inspector.dead_letters()),
            succeeded=sum(worker.succeeded for worker in workers),
            retried=sum(worker.retried for worker in workers),
            failed=sum(worker.failed for worker in workers),
        )


class _Openable(Protocol):
    """What is needed of a blocking producer."""

    def _open(self) -> _Opened: ...


class BlockingListing:
    """What `BlockingProducer` has these methods from; each is that of `Listing`, and waits."""

    def jobs(self: _Openable, *, limit: int = 50, cursor: str | None = None, **filters: Unpack[JobFilters]) -> JobPage:
        """Return some of the jobs that fit, and where to go on; see `Producer.jobs`."""
        background, producer = self._open()
        return background.run(producer.jobs(limit=limit, cursor=cursor, **filters))

    def job_counts(self: _Openable, *, queue: str | None = None) -> JobCounts:
        """Return how many jobs there are; see `Producer.job_counts`."""
        background, producer = self._open()
        return background.run(producer.job_counts(queue=queue))
