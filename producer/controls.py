"""What an operator does to jobs under way, as methods of a producer: pause, resume, abort by what they are, purge.

Owns what these calls check and say. Which jobs a filter means, and the walk, are aborting.py's; one job is steered by
its handle, job.py. `BlockingControls` is the same for synchronous code.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, Unpack

from common.errors import ConfigurationError
from common.pauses import LONGEST_REASON, Pause, encode_said, read_pause
from common.redis.control import ControlStore
from common.tasks import Task
from producer.options import check_id_from_elsewhere, is_text

if TYPE_CHECKING:
    from common.codec import Reading
    from common.redis.inspect import Inspector
    from common.redis.store import Store
    from common.settings import Settings
    from producer.aborting import Aborted, AbortFilters, Wanted
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

    async def pause(
        self: _Open,
        *,
        queue: str | None = None,
        task: str | Task[..., Any] | None = None,
        reason: str | None = None,
        by: str | None = None,
    ) -> Pause:
        """Have no more jobs of a queue, or of a task in any queue, started until it is resumed. What runs goes on.

        Of a queue nothing is claimed any more once this returns. Of a task, workers hear of it at once: what they
        claim of it is put aside, not counted as an attempt. It holds whatever restarts, until `resume`.

        Args:
            queue: its name; give this or a task.
            task: the task, or its name.
            reason: why, for who lists pauses and reads logs; not for secrets.
            by: who; this user and host by default.

        Returns:
            The pause; the one there is already, with `is_new` False, where it was paused before.

        Raises:
            ConfigurationError: it is not clear what is meant, or too much is paused already.
        """
        kind, name = _paused(queue, task)
        said = encode_said(_text("by", by) or _user(), _text("reason", reason))
        asked = ControlStore(self.store.client).pause(kind, name, said)
        word, stored = await self.answers.of(asked, "a pause", otherwise="it may be paused or not")
        if word == "full":
            raise ConfigurationError(f"{kind} {name} was not paused: there are a thousand pauses; resume some first")
        return replace(read_pause(*stored), is_new=word == "paused")

    async def resume(self: _Open, *, queue: str | None = None, task: str | Task[..., Any] | None = None) -> bool:
        """Let jobs of a queue, or of a task, be started again; return whether it was paused.

        Workers that sleep are woken. Jobs of a task that were put aside go back to where they stood in their queues,
        some hundred at a time; should this be interrupted, workers go on with that.
        """
        kind, name = _paused(queue, task)
        store = ControlStore(self.store.client)
        otherwise = "it may be resumed or not"
        was_paused = await self.answers.of(store.resume(kind, name), "the end of a pause", otherwise=otherwise)
        left = 1 if kind == "task" else 0
        while left:
            left = await self.answers.of(store.call_up(name), "jobs to go on", otherwise=otherwise)
        return was_paused

    async def pauses(self: _Open) -> list[Pause]:
        """Return all that is paused, since when, by whom and why; the first ones first."""
        store = ControlStore(self.store.client)
        standing = await self.answers.of(store.standing(), "what is paused")
        tasks = [stored.name for stored in standing.pauses if stored.kind == "task"]
        waiting = dict(zip(tasks, await self.answers.of(store.waiting(tasks), "what is paused"), strict=True))
        return [
            replace(read_pause(*stored), waiting=waiting[stored.name] if stored.kind == "task" else None)
            for stored in standing.pauses
        ]

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
        from producer.aborting import Wanted  # noqa: PLC0415 - most programs abort nothing by filter

        chosen = any(given is not None for given in filters.values())
        if chosen == everything:
            raise ConfigurationError(
                "say which: task=, queue=, state=, older_than=, arguments=, metadata=; or everything=True instead"
            )
        wanted = Wanted.of(**filters)
        return await _sweep(self, wanted, filters.get("queue"), self.keep_cancelled_ms, progress, dry_run=dry_run)

    async def purge(
        self: _Open,
        queue: str,
        *,
        keep_results: bool = True,
        progress: Callable[[Aborted], None] | None = None,
    ) -> Aborted:
        """End all jobs of a queue that wait, as cancelled, and say how many; those that run are left alone.

        So whoever waits for one is told, and its id says what became of it. Due or due later, between two attempts, in
        a lane, or waiting for a limit: all of them; dead letters stay. It goes through the queue a hundred jobs at a
        time. Jobs that are enqueued meanwhile, or go back to wait, may be among them or not: pause the queue's
        producers, or call it again. Interrupted, it may be called again.

        Args:
            keep_results: keep a result of each, for `BARQUE_KEEP_RESULT`. A million jobs leave a million results, each
                with the job's arguments; without them the server's memory is free at once.
            progress: called after each step with what became of it so far.

        Raises:
            ConfigurationError: no queue can have this name.
        """
        from producer.aborting import Wanted  # noqa: PLC0415 - as above

        wanted = Wanted.of(queue=check_id_from_elsewhere("queue", queue), state=("scheduled", "queued"))
        return await _sweep(self, wanted, queue, self.keep_cancelled_ms if keep_results else 0, progress)


async def _sweep(
    producer: _Open,
    wanted: Wanted,
    queue: str | None,
    keep_ms: int,
    progress: Callable[[Aborted], None] | None,
    *,
    dry_run: bool = False,
) -> Aborted:
    """End the jobs that are wanted, of one queue or of all that are in use."""
    from producer.aborting import Aborted, Sweep  # noqa: PLC0415 - as above

    def ask(call: Awaitable[R], otherwise: str) -> Awaitable[R]:
        return producer.answers.of(call, "jobs to be aborted", otherwise=otherwise)

    queues = [queue] if queue else await ask(producer.inspector.queues_in_use(producer.settings.queues), "")
    store = ControlStore(producer.store.client)
    sweep = Sweep(store, wanted, producer.reading, ask, keep_ms=keep_ms, dry_run=dry_run)
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

    def pause(
        self: _Openable,
        *,
        queue: str | None = None,
        task: str | Task[..., Any] | None = None,
        reason: str | None = None,
        by: str | None = None,
    ) -> Pause:
        """Have no more jobs of a queue, or of a task, started; see `Producer.pause`."""
        background, producer = self._open()
        return background.run(producer.pause(queue=queue, task=task, reason=reason, by=by))

    def resume(self: _Openable, *, queue: str | None = None, task: str | Task[..., Any] | None = None) -> bool:
        """Let them be started again; see `Producer.resume`."""
        background, producer = self._open()
        return background.run(producer.resume(queue=queue, task=task))

    def pauses(self: _Openable) -> list[Pause]:
        """Return all that is paused; see `Producer.pauses`."""
        background, producer = self._open()
        return background.run(producer.pauses())

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

    def purge(
        self: _Openable,
        queue: str,
        *,
        keep_results: bool = True,
        progress: Callable[[Aborted], None] | None = None,
    ) -> Aborted:
        """End all jobs of a queue that wait; see `Producer.purge`. `progress` is called in the background thread."""
        background, producer = self._open()
        return background.run(producer.purge(queue, keep_results=keep_results, progress=progress))


def _paused(queue: str | None, task: str | Task[..., Any] | None) -> tuple[Literal["queue", "task"], str]:
    """Return what is meant.

    Raises:
        ConfigurationError: neither or both are given, or it can be no name.
    """
    if (queue is None) == (task is None):
        raise ConfigurationError("say which: queue= or task=, one of the two")
    if queue is not None:
        return "queue", check_id_from_elsewhere("queue", queue)
    return "task", check_id_from_elsewhere("task", task.name if isinstance(task, Task) else task)


def _text(option: str, given: str | None) -> str | None:
    if given is not None and not is_text(given, most=LONGEST_REASON):
        raise ConfigurationError(f"{option}=…: give text of 1 to {LONGEST_REASON} characters")
    return given


def _user() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{os.uname().nodename}"
