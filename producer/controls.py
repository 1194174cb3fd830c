"""What an operator does to jobs that are under way, as methods of a producer: abort many of them by what they are.

Owns what these calls check and say. Which jobs a filter means, and the walk, are aborting.py's; one job is steered by
its handle, job.py. `BlockingControls` is the same for synchronous code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar, Unpack

from common.errors import ConfigurationError
from common.redis.control import ControlStore

if TYPE_CHECKING:
    from common.codec import Reading
    from common.redis.inspect import Inspector
    from common.redis.store import Store
    from common.settings import Settings
    from producer.aborting import Aborted, AbortFilters
    from producer.answers import Answers
    from producer.blocking import _Opened

__all__ = ["BlockingControls", "Controls"]

R = TypeVar("R")


class _Open(Protocol):
    """What is needed of a producer."""

    settings: Settings
    reading: Reading
    answers: Answers
    keep_cancelled_ms: int

    @property
    def store(self) -> Store: ...

    @property
    def inspector(self) -> Inspector: ...


class Controls:
    """What `Producer` has these methods from."""

    async def abort_where(
        self: _Open,
        *,
        everything: bool = False,
        dry_run: bool = False,
        progress: Callable[[Aborted], None] | None = None,
        **filters: Unpack[AbortFilters],
    ) -> Aborted:
        """Abort all jobs that fit, wait they or run, and say how many of each there were.

        Those that wait end at once; the workers of those that run are told to cancel them, and this does not wait for
        it. It goes through the queues a hundred jobs at a time; jobs that are enqueued meanwhile may be among them or
        not. A job that is enqueued anew under the id of one that fits is left alone. Interrupted, it may be called
        again.

        Args:
            everything: all jobs there are; to be said instead of filters, so that nobody does it by mistake.
            dry_run: abort none, and say how many fit.
            progress: called after each step with what became of it so far.
            filters: see `AbortFilters`: task, queue, state, older_than, arguments, metadata; all must fit.

        Raises:
            ConfigurationError: nothing is named, or a filter is not what it can be.
        """
        from producer.aborting import Aborted, Sweep, Wanted  # noqa: PLC0415 - most programs abort nothing by filter

        chosen = any(given is not None for given in filters.values())
        if chosen == everything:
            raise ConfigurationError(
                "say which: task=, queue=, state=, older_than=, arguments=, metadata=; or everything=True instead"
            )
        wanted = Wanted.of(**filters)

        def ask(call: Awaitable[R], otherwise: str) -> Awaitable[R]:
            return self.answers.of(call, "jobs to be aborted", otherwise=otherwise)

        queue = filters.get("queue")
        queues = [queue] if queue else await ask(self.inspector.queues_in_use(self.settings.queues), "")
        sweep = Sweep(
            ControlStore(self.store.client), wanted, self.reading, ask, keep_ms=self.keep_cancelled_ms, dry_run=dry_run
        )
        counts = Aborted()
        for name in queues:
            async for counts in sweep.through(name):
                if progress is not None:
                    progress(counts)
        return counts


class _Openable(Protocol):
    """What is needed of a blocking producer."""

    def _open(self) -> _Opened: ...


class BlockingControls:
    """What `BlockingProducer` has these methods from; each is that of `Controls`, and waits."""

    def abort_where(
        self: _Openable,
        *,
        everything: bool = False,
        dry_run: bool = False,
        progress: Callable[[Aborted], None] | None = None,
        **filters: Unpack[AbortFilters],
    ) -> Aborted:
        """Abort all jobs that fit; see `Producer.abort_where`. `progress` is called in the background thread."""
        background, producer = self._open()
        return background.run(
            producer.abort_where(everything=everything, dry_run=dry_run, progress=progress, **filters)
        )
