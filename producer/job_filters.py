"""Which jobs a search means: the filters of `producer.jobs`, checked, and how each is matched.

Owns no walk and no command; pure.
"""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Collection
from typing import Any, Literal, NamedTuple, TypedDict, get_args

from common.codec import Payload
from common.errors import ConfigurationError
from common.fairness import lane_of
from common.jobs import JobInfo, JobState, RemoteError
from common.redis.limits import is_of_key
from common.tasks import Task
from producer.options import check_id_from_elsewhere, is_text

__all__ = ["LISTED_STATES", "JobFilters", "ListedState", "Sought"]

ListedState = Literal["running", "queued", "waiting", "scheduled", "dead", "succeeded", "failed", "cancelled", "ended"]
"""Those of a `JobState`; of the jobs that wait, those that wait for a limit are by themselves, "waiting"; and "dead":
failed for good, and kept to be replayed."""

LISTED_STATES: tuple[ListedState, ...] = get_args(ListedState)
"""In the order in which a search goes through them."""

_LIVE = frozenset({"running", "queued", "waiting", "scheduled"})
_ENDED = frozenset({"succeeded", "failed", "cancelled", "ended"})
_WITH_ERRORS = frozenset({"dead", "failed", "cancelled", "ended"})


class JobFilters(TypedDict, total=False):
    """What jobs are chosen by; all that are given must fit.

    state: one of `ListedState`, or several; all by default.
    queue: the queue they are in, or were; without it, those of `BARQUE_QUEUES` and all that live workers serve.
    task: the task, or its name, in which `*` and `?` stand for any characters.
    id: the job's id. It is looked up, in whatever state it is.
    key: what the job was given as limit key or as fair key; or as unique key, where `task` is given, too. Keys as the
        server has them do as well: a lane, the name of a gate, the hash of a unique key.
    error: text within the error's class or message, in upper or lower case.
    """

    state: ListedState | JobState | str | Collection[ListedState | JobState | str] | None
    queue: str | None
    task: str | Task[..., Any] | None
    id: str | None
    key: str | None
    error: str | None


class Sought(NamedTuple):
    """Filters, checked."""

    states: frozenset[str]
    queue: str | None
    task: str | None
    job_id: str | None
    key: str | None
    error: str | None

    @classmethod
    def of(cls, filters: JobFilters) -> Sought:
        """Return the filters, ready to be matched.

        Raises:
            TypeError: there is no filter of that name.
            ConfigurationError: one is not what it can be, or two cannot both fit.
        """
        unknown = sorted(filters.keys() - JobFilters.__annotations__.keys())
        if unknown:
            known = ", ".join([*JobFilters.__annotations__, "limit", "cursor"])
            raise TypeError(f"jobs got an unexpected keyword argument {unknown[0]!r}; there are: {known}")
        queue, job_id, task = filters.get("queue"), filters.get("id"), filters.get("task")
        for name, given in (("queue", queue), ("id", job_id)):
            if given is not None:
                check_id_from_elsewhere(name, given)
        pattern = glob.escape(task.name) if isinstance(task, Task) else task
        key, error = filters.get("key"), filters.get("error")
        for name, text in (("task", pattern), ("key", key), ("error", error)):
            if text is not None and not is_text(text):
                raise ConfigurationError(f"{name}={text!r}: give text")
        states = _states(filters.get("state"), with_key=key is not None, with_error=error is not None)
        return cls(states, queue, pattern, job_id, key, None if error is None else error.casefold())

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells these filters from others, in any process."""
        return (sorted(self.states), *self[1:])

    @property
    def looks_inside(self) -> bool:
        """Whether it depends on what is in a job, more than on where it stands."""
        return (self.task, self.key, self.error) != (None, None, None)

    @property
    def results(self) -> frozenset[str]:
        """Those of the states that results tell of."""
        return self.states & _ENDED

    @property
    def plain_task(self) -> str | None:
        """The task's name, if it stands for one alone."""
        return None if self.task is None or glob.has_magic(self.task) else self.task

    def fits_task(self, task: str) -> bool:
        """Whether a job is of a task that is meant."""
        return self.task is None or fnmatch.fnmatchcase(task, self.task)

    def fits_key(self, payload: Payload, waits_for: bytes | None) -> bool:
        """Whether a job has the key that is meant.

        Args:
            waits_for: the gate it waits for.
        """
        if self.key is None:
            return True
        extras = payload.extras
        if extras is not None and self.key == extras.limit_key:
            return True
        if extras is not None and extras.lane is not None and extras.lane in {self.key, lane_of(self.key)}:
            return True
        return waits_for is not None and is_of_key(waits_for.decode(errors="replace"), self.key)

    def fits_error(self, error: RemoteError | None) -> bool:
        """Whether a job has an error that is meant."""
        if self.error is None:
            return True
        return error is not None and (self.error in error.type.casefold() or self.error in error.message.casefold())

    def fits_info(self, info: JobInfo) -> bool:
        """Whether a job that was looked up is meant, its key aside."""
        if not self.states & _listed(info):
            return False
        in_queue = self.queue is None or info.queue in {None, self.queue}
        return in_queue and (self.task is None or self.fits_task(info.task or "")) and self.fits_error(info.error)


def _listed(info: JobInfo) -> set[str]:
    """Return the states in whose lists a job is."""
    states: set[str] = {"dead"} if info.is_dead else set()
    if info.state is JobState.UNKNOWN:
        return states or set(LISTED_STATES)  # it is there, and nobody knows where: shown to whoever named it
    waits = info.waits_for is not None and info.state in {JobState.QUEUED, JobState.SCHEDULED}
    return states | {"waiting" if waits else info.state.value}


def _states(given: object, *, with_key: bool, with_error: bool) -> frozenset[str]:
    """Return the states to go through.

    Raises:
        ConfigurationError: one is unknown, or what else is asked for is not told of jobs in it.
    """
    told = frozenset(LISTED_STATES)
    if with_error:
        told &= _WITH_ERRORS
    if with_key:
        told &= _LIVE | {"dead"}
    if given is None:
        return told
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, Collection) or not names or any(name not in LISTED_STATES for name in names):
        raise ConfigurationError(f"state={given!r}: give {', '.join(LISTED_STATES)}, or several of them")
    chosen = frozenset(str(name) for name in names)
    if not chosen <= told:
        what, why = ("error=", "has not failed") if with_error and not chosen <= _WITH_ERRORS else ("key=", "has ended")
        raise ConfigurationError(
            f"{what} with state={given!r}: nothing of the kind is kept of a job that {why}; "
            f"leave state= away, or give {', '.join(sorted(told))}"
        )
    return chosen
