"""What an enqueue may ask for, checked. What is made of it is binding.py's."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Self, TypedDict

from common.codec import MOST_TRIES
from common.errors import ConfigurationError
from common.fairness import FairKey, lane_of
from common.limits import MOST_COST
from common.priorities import Priority, read_priority
from common.uniqueness import Uniqueness, check_uniqueness

__all__ = [
    "NO_OPTIONS",
    "EnqueueArguments",
    "EnqueueOptions",
    "check_id_from_elsewhere",
    "check_name",
    "due_time",
    "is_text",
    "not_one_call",
    "seconds",
]

_LONGEST = 10 * 365 * 24 * 3600.0
_NOT_IN_NAMES = re.compile(r"[\x00-\x20\x7f\ud800-\udfff]")
_NOT_IN_BYTES = re.compile(r"[\ud800-\udfff]")
_STANDS_FOR_NO_BYTE = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")


class EnqueueArguments(TypedDict, total=False):
    """What every way to enqueue takes by name, for one job or for each of many; None is as if it were not given.

    Attributes:
        delay: seconds until it is due, by the server's clock.
        at: when it is due; aware of its time zone.
        expires: seconds from now after which it is not started any more, nor tried again.
        queue: instead of the task's own, or the first of `BARQUE_QUEUES`.
        timeout: seconds one attempt may take, instead of the task's own.
        soft_timeout: seconds after which an attempt is told to come to an end, instead of the task's own.
        deadline: seconds the job may take from when it is first due, or the moment itself, instead of the task's own:
            no attempt begins after that, and one that runs is stopped.
        max_attempts: attempts it has at the most, instead of what the task's policy says.
        metadata: plain data that travels with the job and is seen by the task, by `info()` and in tools.
        unique: `Unique`, `Debounce` or `Throttle`, instead of the task's own; False lets this job be one of many.
        unique_key: what its `key` would make of the arguments, any data that can travel: for a `Call` by name, whose
            arguments have no names here.
        fair_key: whose job it is, a name or a number, instead of what the task's own `fair_key` names: the tenants of a
            queue take turns.
        priority: instead of the task's own: from 0, which is normal, to 9, or "normal", "high", "urgent", "critical".
        limit_key: what tells it apart at its task's limits with a `key=`, instead of what they take from the arguments.
        limit_cost: what it costs at its task's rate limits, instead of what they say.
    """

    delay: float | timedelta | None
    at: datetime | None
    expires: float | timedelta | None
    queue: str | None
    timeout: float | timedelta | None
    soft_timeout: float | timedelta | None
    deadline: float | timedelta | datetime | None
    max_attempts: int | None
    metadata: Mapping[str, Any] | None
    unique: Uniqueness | Literal[False] | None
    unique_key: Any
    priority: Priority | None
    limit_key: str | None
    limit_cost: float | None
    fair_key: FairKey | None


@dataclass(frozen=True, slots=True)
class EnqueueOptions:
    """`EnqueueArguments`, checked; None takes the task's or the worker's default.

    Attributes:
        lane: of a tenant whose fair key is not known any more.
    """

    delay: float | timedelta | None = None
    at: datetime | None = None
    expires: float | timedelta | None = None
    queue: str | None = None
    timeout: float | timedelta | None = None
    soft_timeout: float | timedelta | None = None
    deadline: float | timedelta | datetime | None = None
    max_attempts: int | None = None
    metadata: Mapping[str, Any] | None = None
    unique: Uniqueness | Literal[False] | None = None
    unique_key: Any = None
    priority: Priority | None = None
    limit_key: str | None = None
    limit_cost: float | None = None
    fair_key: FairKey | None = None
    lane: str = ""

    def __post_init__(self) -> None:
        if self.delay is not None and self.at is not None:
            raise ConfigurationError("give delay= or at=, not both")
        if self.at is not None and self.at.tzinfo is None:
            raise ConfigurationError("at= needs a time zone: datetime.now(tz=UTC) + …, or .astimezone()")
        delay = seconds("delay", self.delay, least=0.0) or 0.0
        expires = seconds("expires", self.expires, least=0.001)
        if self.at is not None:
            delay = self.at.timestamp() - time.time()
        if expires is not None:
            self.check_expires_after(delay)
        timeout = seconds("timeout", self.timeout, least=0.001)
        soft = seconds("soft_timeout", self.soft_timeout, least=0.001)
        if soft is not None and timeout is not None and soft >= timeout:
            raise ConfigurationError(
                f"soft_timeout={soft:g} s is not before timeout={timeout:g} s: nobody would be told"
            )
        self._check_deadline(delay)
        most: object = self.max_attempts
        if most is not None and (not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= MOST_TRIES):
            raise ConfigurationError(f"max_attempts={most!r}: give a whole number of attempts, 1 to {MOST_TRIES:,}")
        read_priority("priority", self.priority)
        lane_of(self.fair_key)
        if self.unique is not None and self.unique is not False:
            check_uniqueness(self.unique)
        _check_limit_options(self.limit_key, self.limit_cost)

    def check_expires_after(self, due: float) -> None:
        """Return if a job that is due after so many seconds does not expire before.

        Raises:
            ConfigurationError: it does.
        """
        expires = seconds("expires", self.expires, least=0.001)
        if expires is not None and expires <= due:
            raise ConfigurationError(
                f"expires={expires:g} s is over before the job is due in {due:g} s; expires counts from now"
            )

    def _check_deadline(self, delay: float) -> None:
        if not isinstance(self.deadline, datetime):
            seconds("deadline", self.deadline, least=0.001)
            return
        if self.deadline.tzinfo is None:
            raise ConfigurationError("deadline= needs a time zone: datetime.now(tz=UTC) + …, or .astimezone()")
        if self.deadline.timestamp() <= time.time() + delay:
            raise ConfigurationError(f"deadline={self.deadline.isoformat()} has passed by the time the job is due")

    @property
    def first_due(self) -> float:
        """When the job is first due, by this clock: Unix seconds."""
        if self.at is not None:
            return self.at.timestamp()
        return time.time() + (seconds("delay", self.delay, least=0.0) or 0.0)

    @property
    def ends_by(self) -> float | None:
        """When the job has to have ended, Unix seconds; None where its task says."""
        if isinstance(self.deadline, datetime):
            return self.deadline.timestamp()
        within = seconds("deadline", self.deadline, least=0.001)
        return None if within is None else max(self.first_due, time.time()) + within

    @classmethod
    def of(cls, given: EnqueueArguments) -> Self:
        """Return what a caller gave by name.

        Raises:
            TypeError: there is no argument of that name.
            ConfigurationError: one makes no sense.
        """
        unknown = sorted(given.keys() - EnqueueArguments.__annotations__.keys())
        if unknown:
            known = ", ".join(["job_id", "durable", *EnqueueArguments.__annotations__])
            raise TypeError(f"enqueue got an unexpected keyword argument {unknown[0]!r}; there are: {known}")
        return cls(**given)

    def with_metadata(self, more: Mapping[str, Any]) -> Self:
        """Return these options with more metadata; what the enqueue itself gave under the same names stays."""
        return replace(self, metadata={**more, **(self.metadata or {})})

    @property
    def due_now(self) -> bool:
        """Whether the job is due at once and never expires."""
        return self.delay is None and self.at is None and self.expires is None


def _check_limit_options(key: object, cost: object) -> None:
    if key is not None and (not isinstance(key, str) or not key or _NOT_IN_BYTES.search(key)):
        raise ConfigurationError("limit_key= takes text, without lone surrogates")
    if cost is not None and (isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost <= MOST_COST):
        raise ConfigurationError(f"limit_cost={cost!r}: give a number from 0 to a million")


def not_one_call(given: object, surplus: Sequence[object] = ()) -> ConfigurationError:
    """Return the error for what was given to enqueue instead of one Call. Shows no argument."""
    what = type(given).__name__
    if surplus:
        what += f" and {len(surplus)} more argument{'' if len(surplus) == 1 else 's'}"
    return ConfigurationError(
        f"enqueue takes a Call, got {what}: call the task, as in enqueue(fetch_url(url)), "
        'or name it: enqueue(Call("fetch_url", url))'
    )


def check_id_from_elsewhere(option: str, name: object) -> str:
    """Return the id of a job, or the name of a queue, that another program may have made: any bytes there can be.

    Bytes that are no UTF-8 are written as Python does it (surrogateescape), as lists of jobs do, too.

    Raises:
        ConfigurationError: it is no text, is empty, or has a lone surrogate that stands for no byte.
    """
    if not isinstance(name, str) or not name or _STANDS_FOR_NO_BYTE.search(name):
        raise ConfigurationError(f"{option}={name!r}: give text, without lone surrogates")
    return name


def is_text(given: object, *, most: int | None = None) -> bool:
    """Whether it is text, not empty, and of so many characters at the most."""
    return isinstance(given, str) and bool(given) and (most is None or len(given) <= most)


def seconds(name: str, value: float | timedelta | None, *, least: float) -> float | None:
    """Return an option of so many seconds at the least; None where it is not given.

    Raises:
        ConfigurationError: it is less, more than ten years, or no number.
    """
    if value is None:
        return None
    given = value.total_seconds() if isinstance(value, timedelta) else value
    try:
        fits = least <= given <= _LONGEST
    except TypeError:  # "60s", say
        fits = False
    if not fits:
        raise ConfigurationError(f"{name}={value!r}: give seconds, or a timedelta, of {least:g} or more")
    return float(given)


class DueTime(NamedTuple):
    """When a job is due: after a delay by the server's clock, unless `at_ms` (Unix ms) is given."""

    delay_ms: int
    at_ms: int


def due_time(delay: float | timedelta | None, at: datetime | None) -> DueTime:
    """Return when a job is to be due that says one of the two.

    Raises:
        ConfigurationError: neither or both are given, or it is no time.
    """
    if (delay is None) == (at is None):
        raise ConfigurationError("give delay= or at=, one of the two")
    if at is not None:
        if getattr(at, "tzinfo", None) is None:
            raise ConfigurationError("at= needs a time zone: datetime.now(tz=UTC) + …, or .astimezone()")
        if at.timestamp() - time.time() > _LONGEST:
            raise ConfigurationError(f"at={at.isoformat()}: give a time of the next ten years")
        return DueTime(0, max(1, round(at.timestamp() * 1000)))
    return DueTime(round((seconds("delay", delay, least=0.0) or 0.0) * 1000), 0)


def check_name(option: str, name: object) -> str:
    """Return the name of a queue, or the id of a job, of our own making.

    Raises:
        ConfigurationError: it cannot be one.
    """
    if not isinstance(name, str) or not name or len(name) > 512 or _NOT_IN_NAMES.search(name):
        raise ConfigurationError(
            f"{option}={name!r}: give text of 1 to 512 characters without spaces, control characters or lone surrogates"
        )
    return name


NO_OPTIONS = EnqueueOptions()
"""A job that is due now, in its task's queue, with all as its task and its worker say."""
