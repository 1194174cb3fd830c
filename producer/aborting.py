"""Abort many jobs: which of them a filter means, and the walk that ends them.

Owns the filters and how they are matched. One step looks at about a hundred jobs, so a walk through a million keeps
neither the server nor the event loop from anything else. The handle of one job is job.py's.
"""

from __future__ import annotations

import fnmatch
import glob
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypedDict

from common.codec import Payload, Reading, decode_job
from common.errors import ConfigurationError, Undecodable
from common.jobs import JobState
from common.redis.control import Abort, AbortAnswer, ControlStore, Page, Waiting
from common.tasks import Task
from common.values import encode, to_plain
from producer.cancelled import cancelled_result
from producer.options import check_id_from_elsewhere, is_text, seconds

__all__ = ["AbortFilters", "Aborted", "Sweep", "Wanted"]

_STATES = (JobState.SCHEDULED, JobState.QUEUED, JobState.RUNNING)


class AbortFilters(TypedDict, total=False):
    """What jobs are chosen by; all that are given must fit.

    task: the task, or its name, in which `*` and `?` stand for any characters.
    queue: the queue they are in; without it, those of `BARQUE_QUEUES` and all that live workers serve.
    state: scheduled, queued or running, or several of them.
    older_than: enqueued longer ago than this, in seconds or as a timedelta.
    arguments: values by the place of an argument, from 0, or by the name of one that was passed by name; where `task`
        is a Task, by any argument's name.
    metadata: entries that the job's metadata has, among others perhaps.
    """

    task: str | Task[..., Any] | None
    queue: str | None
    state: JobState | str | Collection[JobState | str] | None
    older_than: float | timedelta | None
    arguments: Mapping[int | str, Any] | None
    metadata: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Aborted:
    """What became of an abort of many, so far or in the end.

    Attributes:
        looked_at: jobs seen, whether they fit or not.
        matched: jobs that fit.
        cancelled: those that waited, and have ended.
        told: those that ran: their workers have been told to cancel them.
        left: those that ended, were enqueued anew, or began though only waiting ones were meant, before their turn
            came.
        unreadable: jobs that cannot be decoded here, and so may fit or not; they are left alone.
    """

    looked_at: int = 0
    matched: int = 0
    cancelled: int = 0
    told: int = 0
    left: int = 0
    unreadable: int = 0


class Wanted(NamedTuple):
    """Filters, checked."""

    task: str | None
    states: frozenset[JobState]
    older_than: float | None
    positional: Mapping[int, Any]
    named: Mapping[str, tuple[int | None, Any]]
    metadata: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        *,
        task: str | Task[..., Any] | None = None,
        queue: str | None = None,
        state: JobState | str | Collection[JobState | str] | None = None,
        older_than: float | timedelta | None = None,
        arguments: Mapping[int | str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Wanted:
        """Return the filters, ready to be matched.

        Raises:
            ConfigurationError: one is not what it can be.
        """
        if queue is not None:
            check_id_from_elsewhere("queue", queue)
        pattern = glob.escape(task.name) if isinstance(task, Task) else task
        if pattern is not None and not is_text(pattern):
            raise ConfigurationError(f"task={task!r}: give a task, or its name")
        given = {} if arguments is None else dict(arguments)
        if any(isinstance(key, bool) or not isinstance(key, int | str) for key in given):
            raise ConfigurationError("arguments= takes values by place, from 0, or by name: {0: 5, 'user': 'ada'}")
        places = _places(task, given) if isinstance(task, Task) else {}
        plain = {key: _plain("arguments", value) for key, value in given.items()}
        return cls(
            pattern,
            _states(state),
            seconds("older_than", older_than, least=0.0),
            {key: value for key, value in plain.items() if isinstance(key, int)},
            {key: (places.get(key), value) for key, value in plain.items() if isinstance(key, str)},
            {key: _plain("metadata", value) for key, value in (metadata or {}).items()},
        )

    @property
    def looks_inside(self) -> bool:
        """Whether it depends on what is in a job's payload."""
        return (
            self.task is not None or self.older_than is not None or bool(self.positional or self.named or self.metadata)
        )

    def fits(self, payload: Payload, now_ms: int) -> bool:
        """Whether a job is one of those that are meant, its state aside.

        Raises:
            Undecodable: its arguments are needed, and are none.
        """
        if self.task is not None and not fnmatch.fnmatchcase(payload.task, self.task):
            return False
        if self.older_than is not None and now_ms - payload.enqueued_ms < self.older_than * 1000:
            return False
        if self.metadata:
            found = (payload.extras.meta if payload.extras else None) or {}
            if any(key not in found or found[key] != value for key, value in self.metadata.items()):
                return False
        return not (self.positional or self.named) or self._has_arguments(*payload.as_objects())

    def _has_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        for place, value in self.positional.items():
            if not 0 <= place < len(args) or args[place] != value:
                return False
        for name, (where, value) in self.named.items():
            if name in kwargs:
                if kwargs[name] != value:
                    return False
            elif where is None or where >= len(args) or args[where] != value:
                return False
        return True


class Sweep:
    """One walk through queues that aborts what fits.

    Args:
        ask: awaits an answer of the server's, given what is to be known if none comes.
        keep_ms: keep the results of those that waited so long.
        dry_run: abort nothing, count alone.
    """

    def __init__(
        self,
        store: ControlStore,
        wanted: Wanted,
        reading: Reading,
        ask: Callable[[Awaitable[Any], str], Awaitable[Any]],
        *,
        keep_ms: int,
        dry_run: bool,
    ) -> None:
        self._store = store
        self._wanted = wanted
        self._reading = reading
        self._ask = ask
        self._keep_ms = keep_ms
        self._dry_run = dry_run
        self._seen: set[tuple[str, str]] = set()
        self.counts = Aborted()

    async def through(self, queue: str) -> AsyncIterator[Aborted]:
        """Walk through one queue; yield after each step what became of it so far."""
        cursor = 0
        while True:
            page: Page = await self._ask(self._store.page(queue, cursor), "")
            fitting, unreadable = self._chosen(queue, page)
            words: list[AbortAnswer] = []
            if fitting and not self._dry_run:
                aborts = [
                    Abort(
                        job.job_id,
                        cancelled_result(self._reading, job.job_id, queue, job.payload),
                        job.payload if job.payload is not None else b"",
                    )
                    for job in fitting
                ]
                spares_running = JobState.RUNNING not in self._wanted.states
                asked = self._store.abort(queue, aborts, keep_ms=self._keep_ms, spares_running=spares_running)
                words = await self._ask(asked, "some may have been aborted")
            before = self.counts
            self.counts = Aborted(
                looked_at=before.looked_at + len(page.jobs),
                matched=before.matched + len(fitting),
                cancelled=before.cancelled + words.count("cancelled"),
                told=before.told + words.count("running"),
                left=before.left + len(words) - words.count("cancelled") - words.count("running"),
                unreadable=before.unreadable + unreadable,
            )
            yield self.counts
            cursor = page.cursor
            if cursor == 0:
                return

    def _chosen(self, queue: str, page: Page) -> tuple[list[Waiting], int]:
        """Return the jobs of a page that fit, and how many cannot be judged."""
        fitting, unreadable = [], 0
        for job in page.jobs:
            if job.state not in self._wanted.states or (queue, job.job_id) in self._seen:
                continue
            fits = self._fits(queue, job, page.now_ms)
            if fits is None:
                unreadable += 1
            elif fits:
                fitting.append(job)
                # A page may show again what was on one before. What waited has gone by then.
                if self._dry_run or job.state is JobState.RUNNING:
                    self._seen.add((queue, job.job_id))
        return fitting, unreadable

    def _fits(self, queue: str, job: Waiting, now_ms: int) -> bool | None:
        if not self._wanted.looks_inside:
            return True
        if job.payload is None:
            return None
        try:
            return self._wanted.fits(decode_job(job.payload, self._reading, job.job_id, queue), now_ms)
        except Undecodable:
            return None


def _states(given: JobState | str | Collection[JobState | str] | None) -> frozenset[JobState]:
    if given is None:
        return frozenset(_STATES)
    names = [given] if isinstance(given, str) else list(given)
    if not names or any(name not in _STATES for name in names):
        raise ConfigurationError(f"state={given!r}: give {', '.join(_STATES)}, or several of them")
    return frozenset(JobState(name) for name in names)


def _places(task: Task[..., Any], given: Collection[int | str]) -> dict[str, int]:
    """Return where a task's arguments stand, by name, in a call that passes them by place.

    Raises:
        ConfigurationError: one that is looked for is none the task takes: nothing would fit.
    """
    parameters = list(inspect.signature(task.function).parameters.values())[1:]
    names = [parameter.name for parameter in parameters]
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        for name in given:
            if isinstance(name, str) and name not in names:
                raise ConfigurationError(
                    f"arguments={{{name!r}: …}}: the task {task.name!r} has no argument of that name; it takes: "
                    f"{', '.join(names) or 'none'}"
                )
    return {name: place for place, name in enumerate(names)}


def _plain(option: str, value: Any) -> Any:
    """Return a value as it is in a decoded job."""
    return to_plain(encode(value, what=f"{option}="))
