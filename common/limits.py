"""What a task may be held to across the fleet: a rate, a number at once, a breaker. Declarations: plain data, checked.

Owns what may be declared and how a limit's key is computed from a job's arguments. Knows no Redis and no clock: the
worker asks the server (workers/admission.py), and the server judges (common/redis/lua/admit.lua).
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any

from common.errors import ConfigurationError

__all__ = [
    "MOST_COST",
    "SPARE",
    "CircuitBreaker",
    "ConcurrencyLimit",
    "Key",
    "Limit",
    "RateLimit",
    "check_limits",
    "check_name",
    "key_text",
]

Key = str | Callable[..., object] | None
"""Which jobs share one count: None all of the task; text names an argument, whose value tells them apart; a callable
is called with the job's arguments, as the task is but without the context, and returns what tells them apart."""

Seconds = float | timedelta

MOST_COST = 1_000_000.0
"""What one job may cost at the most."""

SPARE = 1.02
"""By how much starts are further apart than the limit asks: what is late by less does not make a window too full."""

_OPEN_AT_MOST = 300.0
_LONGEST = 30 * 24 * 3600.0
_NAME = re.compile(r"[^\x00-\x20\x7f\ud800-\udfff]{1,200}")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Start no more than so many jobs in a time, on the whole fleet.

    A job over the limit is given a time of its own, in order, and waits for it in the queue.

    Args:
        limit: jobs, or units of cost, in each `per`.
        per: seconds.
        key: see `Key`.
        burst: how many may start at once after a pause. With 1 they are evenly spaced, and no window of `per` seconds
            holds more than `limit`; with more, one may hold `limit + burst - 1`.
        cost: what one job counts for: a number, the name of an argument that holds it, or a callable of the arguments.
        hold_on_retry_after: where an attempt is told to come back after a time (`Retry(after=…)`, as the HTTP tasks
            raise for a 429 with `Retry-After`), hold back all jobs of its key until then.
        name: limits of one name share their count, also across tasks; by default each task has its own.
    """

    limit: float
    _: KW_ONLY
    per: Seconds = 1.0
    key: Key = None
    burst: float = 1
    cost: float | str | Callable[..., float] = 1
    hold_on_retry_after: bool = False
    name: str | None = None

    def __post_init__(self) -> None:
        _number("RateLimit", "limit", self.limit, 0, 1_000_000, "a number above zero, a million at most")
        _duration("RateLimit", "per", self.per)
        _number("RateLimit", "burst", self.burst, 0.999, 1_000_000, "a number of at least 1, a million at most")
        if not isinstance(self.cost, str) and not callable(self.cost):
            _number("RateLimit", "cost", self.cost, -1, MOST_COST, "a number from 0 to a million")
            if self.cost < 0:
                raise ConfigurationError(f"RateLimit(cost={self.cost!r}): give a number from 0 to a million")
        _common("RateLimit", self.key, self.name)

    @property
    def interval(self) -> float:
        """Seconds that each unit of cost takes, if evenly spaced."""
        return _seconds(self.per) / self.limit


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """Run no more than so many jobs at once, on the whole fleet.

    A job over the limit waits in line, and is woken when one before it ends.

    Args:
        limit: jobs at once.
        key: see `Key`.
        name: limits of one name share their count, also across tasks; by default each task has its own.
    """

    limit: int
    _: KW_ONLY
    key: Key = None
    name: str | None = None

    def __post_init__(self) -> None:
        _count("ConcurrencyLimit", "limit", self.limit, 1_000_000)
        _common("ConcurrencyLimit", self.key, self.name)


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """Stop starting jobs while too many fail, and let a few try again after a time. Jobs wait instead of failing.

    Args:
        threshold: the share of attempts that must fail for it to open, above 0, at most 1.
        minimum: attempts in the window below which it does not open.
        window: seconds over which attempts are counted.
        open_for: seconds it stays open before the first trial; doubled each time a trial fails.
        open_at_most: seconds it stays open at the most; by default 300, or `open_for` where that is more.
        trials: attempts that must succeed, one after the other or side by side, for it to close again.
        errors: exceptions that count as failures. `Exception` covers timeouts. Another one counts as a success: what
            is called has answered. A `Retry` (`Snooze`, `Discard`) counts as its cause, and not at all if it has none.
        ignore: exceptions that never count as failures, even when `errors` covers them.
        key: see `Key`.
        name: breakers of one name share their state, also across tasks; by default each task has its own.
    """

    _: KW_ONLY
    threshold: float = 0.5
    minimum: int = 10
    window: Seconds = 30.0
    open_for: Seconds = 15.0
    open_at_most: Seconds | None = None
    trials: int = 1
    errors: tuple[type[BaseException], ...] = (Exception,)
    ignore: tuple[type[BaseException], ...] = ()
    key: Key = None
    name: str | None = None

    def __post_init__(self) -> None:
        _number("CircuitBreaker", "threshold", self.threshold, 0, 1, "a share above 0, at most 1")
        for name in ("minimum", "trials"):
            _count("CircuitBreaker", name, getattr(self, name), 10_000)
        for name in ("window", "open_for"):
            _duration("CircuitBreaker", name, getattr(self, name))
        if self.open_at_most is not None:
            _duration("CircuitBreaker", "open_at_most", self.open_at_most)
        if self.longest_open < _seconds(self.open_for):
            raise ConfigurationError(
                f"CircuitBreaker(open_for={self.open_for!r}, open_at_most={self.open_at_most!r}): "
                "open_at_most is the longest of the times it stays open; make it the larger one"
            )
        for name in ("errors", "ignore"):
            kinds = getattr(self, name)
            if not isinstance(kinds, tuple) or not all(
                isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
            ):
                raise ConfigurationError(f"CircuitBreaker({name}={kinds!r}): give a tuple of exception classes")
        _common("CircuitBreaker", self.key, self.name)

    @property
    def longest_open(self) -> float:
        """Seconds it stays open at the most."""
        if self.open_at_most is None:
            return max(_OPEN_AT_MOST, _seconds(self.open_for))
        return _seconds(self.open_at_most)

    def counts(self, kind: type[BaseException]) -> bool:
        """Return whether this kind of error counts as a failure."""
        return issubclass(kind, self.errors) and not issubclass(kind, self.ignore)


Limit = RateLimit | ConcurrencyLimit | CircuitBreaker


def check_limits(limits: object, function: Callable[..., Any], *, task: str) -> tuple[Limit, ...]:
    """Return a task's limits; an argument that a key or a cost names is one of the function's.

    Raises:
        ConfigurationError: they are no limits, or name what the function does not take.
    """
    if isinstance(limits, Limit) or not isinstance(limits, Sequence) or isinstance(limits, str):
        raise ConfigurationError(f"task {task!r}: limits={limits!r}: give a list, as in limits=[RateLimit(100)]")
    parameters = list(inspect.signature(function).parameters.values())[1:]
    named = [p.name for p in parameters if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]
    for limit in limits:
        if not isinstance(limit, Limit):
            raise ConfigurationError(
                f"task {task!r}: limits has {limit!r}: give RateLimit, ConcurrencyLimit or CircuitBreaker"
            )
        for option in ("key", "cost"):
            wanted = getattr(limit, option, None)
            if isinstance(wanted, str) and wanted not in named:
                raise ConfigurationError(
                    f"task {task!r}: {type(limit).__name__}({option}={wanted!r}): the task has no argument of that "
                    f"name; it takes: {', '.join(named) or 'none'}. A callable of the arguments does as well"
                )
    return tuple(limits)


def check_name(what: str, name: object) -> str:
    """Return the name of a limit.

    Raises:
        ConfigurationError: it cannot be one.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{what}(name={name!r}): give text of 1 to 200 characters without spaces or control characters"
        )
    return name


def key_text(value: object) -> str:
    """Return what tells the jobs of one limit apart, as text: equal for equal plain values."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return str(value)


def _common(what: str, key: object, name: object) -> None:
    if key is not None and not callable(key) and (not isinstance(key, str) or not key):
        raise ConfigurationError(f"{what}(key={key!r}): give the name of an argument, or a callable of the arguments")
    if name is not None:
        check_name(what, name)


def _number(what: str, name: str, value: object, above: float, most: float, wanted: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value <= most:
        raise ConfigurationError(f"{what}({name}={value!r}): give {wanted}")


def _count(what: str, name: str, value: object, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigurationError(f"{what}({name}={value!r}): give a whole number from 1 to {most:,}")


def _duration(what: str, name: str, value: object) -> None:
    seconds = _seconds(value) if isinstance(value, int | float | timedelta) else math.nan
    if not 0.001 <= seconds <= _LONGEST:
        raise ConfigurationError(f"{what}({name}={value!r}): give seconds, or a timedelta, from 1 ms to 30 days")


def _seconds(value: Seconds) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
