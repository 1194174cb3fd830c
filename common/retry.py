"""When a failed attempt is tried again, and after how long: plain data and pure functions.

Owns no clock and does no I/O. Whoever judges an attempt asks `RetryPolicy.decide` and acts on the answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Literal, NamedTuple

from common.errors import ConfigurationError, Retry
from common.retry_after import asked_to_wait

__all__ = [
    "NEVER",
    "Backoff",
    "Decision",
    "Jitter",
    "RetryPolicy",
    "RetryRule",
    "Then",
    "exponential",
    "fixed",
    "linear",
    "read_policy",
]

Seconds = float | timedelta
Backoff = Callable[[int], float]
"""Takes the number of the attempt that failed (from 1), returns seconds to wait, before jitter."""

Jitter = Literal["full", "none"]

Then = Literal["retry", "fail", "ignore"]
"""What follows a failed attempt: another one; the end of the job as failed; its end as succeeded, without a result."""

_LONGEST = 365 * 24 * 3600.0  # a delay past a year is a mistake, and 2**n must not overflow

_SPREAD = 0.1
"""By how much of itself a `Retry-After` is lengthened at the most: whoever was told the same comes at other times."""


@dataclass(frozen=True, slots=True)
class _Exponential:
    first: float
    factor: float
    maximum: float

    def __call__(self, attempt: int) -> float:
        try:
            delay = self.first * self.factor ** (attempt - 1)
        except OverflowError:
            return self.maximum
        return min(delay, self.maximum)

    def __repr__(self) -> str:
        return f"exponential({self.first:g}, factor={self.factor:g}, maximum={self.maximum:g})"


@dataclass(frozen=True, slots=True)
class _Linear:
    step: float
    maximum: float

    def __call__(self, attempt: int) -> float:
        return min(self.step * attempt, self.maximum)

    def __repr__(self) -> str:
        return f"linear({self.step:g}, maximum={self.maximum:g})"


@dataclass(frozen=True, slots=True)
class _Fixed:
    delay: float

    def __call__(self, attempt: int) -> float:  # noqa: ARG002 - the shape of a Backoff
        return self.delay

    def __repr__(self) -> str:
        return f"fixed({self.delay:g})"


def exponential(first: Seconds = 1, *, factor: float = 2, maximum: Seconds = 60) -> Backoff:
    """Wait `first` seconds, then `factor` times as long each time, never longer than `maximum`."""
    if not 1 <= factor < float("inf"):
        raise ConfigurationError(f"exponential(factor={factor!r}): the factor must be a number of at least 1")
    return _Exponential(_seconds("first", first), factor, _seconds("maximum", maximum))


def linear(step: Seconds = 1, *, maximum: Seconds = 60) -> Backoff:
    """Wait `step`, then twice `step`, three times `step`, never longer than `maximum` seconds."""
    return _Linear(_seconds("step", step), _seconds("maximum", maximum))


def fixed(delay: Seconds) -> Backoff:
    """Wait the same number of seconds each time."""
    return _Fixed(_seconds("delay", delay))


@dataclass(frozen=True, slots=True)
class RetryRule:
    """What follows one kind of error, where that is not what the policy says of all.

    Args:
        then: "retry"; "fail", at once; or "ignore": the job has succeeded, without a result.
        max_attempts: the attempt after which this kind of error is final. It lowers the policy's cap, and does not
            raise it: attempts are counted over all kinds of errors together.
        backoff: instead of the policy's.
    """

    then: Then = "retry"
    max_attempts: int | None = None
    backoff: Backoff | None = None

    def __post_init__(self) -> None:
        if self.then not in {"retry", "fail", "ignore"}:
            raise ConfigurationError(f'RetryRule({self.then!r}): give "retry", "fail" or "ignore"')
        _check_attempts("RetryRule", self.max_attempts)
        if self.backoff is not None and not callable(self.backoff):
            raise ConfigurationError(f"RetryRule(backoff={self.backoff!r}): give exponential(…), or a function")
        if self.then != "retry" and (self.max_attempts is not None or self.backoff is not None):
            raise ConfigurationError(f"RetryRule({self.then!r}): only a retry has max_attempts= or backoff=")


class Decision(NamedTuple):
    """What follows a failed attempt.

    Attributes:
        delay: seconds until the next attempt, where there is one.
        why: what keeps an error from being tried again that otherwise would be and has attempts left; or "".
    """

    then: Then
    delay: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class RetryPolicy:
    """Say which failures are tried again, how often, and how far apart.

    Which of `rules`, `fail_on` and `retry_on` holds for an error: the one that names its most specific class, in the
    order of the class's `__mro__`; for one and the same class a rule. But what `fail_on` covers is not tried again
    for being in `retry_on`, however specific. What none of them names fails.

    Args:
        max_attempts: attempts in all, the first included; 1 means no retry. None takes the
            worker's setting (`BARQUE_MAX_ATTEMPTS`).
        backoff: seconds to wait after the n-th failed attempt; see `exponential`, `linear`, `fixed`.
        jitter: "full" waits a random time between zero and the backoff, so that a thousand jobs
            which failed together do not come back together; "none" waits exactly the backoff.
        retry_on: only these exceptions are tried again. `Exception` covers timeouts.
        fail_on: these never are, even when `retry_on` covers them.
        rules: by exception class, "retry", "fail" or "ignore", or a `RetryRule` with a backoff and a cap of its own.
        max_time: seconds since the job was first due after which no attempt begins. None is no limit.
        heed_retry_after: let a `Retry-After` that the error carries lengthen the backoff (common/retry_after.py).
    """

    max_attempts: int | None = None
    backoff: Backoff = _Exponential(1.0, 2.0, 60.0)
    jitter: Jitter = "full"
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    fail_on: tuple[type[BaseException], ...] = ()
    rules: Mapping[type[BaseException], RetryRule | Then] = field(default_factory=dict, hash=False)
    max_time: Seconds | None = None
    heed_retry_after: bool = True

    def __post_init__(self) -> None:
        _check_attempts("RetryPolicy", self.max_attempts)
        if not callable(self.backoff):
            raise ConfigurationError(f"RetryPolicy(backoff={self.backoff!r}): give exponential(…), or a function")
        if self.jitter not in {"full", "none"}:
            raise ConfigurationError(f'RetryPolicy(jitter={self.jitter!r}): give "full" or "none"')
        for name in ("retry_on", "fail_on"):
            kinds = getattr(self, name)
            if not isinstance(kinds, tuple) or not all(map(_is_error, kinds)):
                raise ConfigurationError(f"RetryPolicy({name}={kinds!r}): give a tuple of exception classes")
        object.__setattr__(self, "rules", self._checked_rules())
        if self.max_time is not None:
            object.__setattr__(self, "max_time", _seconds("max_time", self.max_time))

    def _checked_rules(self) -> dict[type[BaseException], RetryRule]:
        given: object = self.rules
        if not isinstance(given, Mapping) or not all(map(_is_error, given)):
            raise ConfigurationError(f"RetryPolicy(rules={self.rules!r}): give a dict whose keys are exception classes")
        found = {}
        for kind, rule in self.rules.items():
            if kind in self.fail_on:
                raise ConfigurationError(f"RetryPolicy: {kind.__name__} is in fail_on and in rules; say one of them")
            found[kind] = rule if isinstance(rule, RetryRule) else RetryRule(rule)
        return found

    def __repr__(self) -> str:
        said = [(one.name, getattr(self, one.name)) for one in fields(self)]
        changed = [f"{name}={value!r}" for name, value in said if value != getattr(_DEFAULT, name)]
        return f"RetryPolicy({', '.join(changed)})"

    def retries(self, error: BaseException) -> bool:
        """Return whether this kind of error is tried again at all."""
        return self.rule(error).then == "retry"

    def rule(self, error: BaseException) -> RetryRule:
        """Return what holds for this kind of error."""
        if isinstance(error, Retry):
            return _RETRY
        for kind in type(error).__mro__:
            rule = self.rules.get(kind)
            if isinstance(rule, RetryRule):
                return rule
            if kind in self.fail_on:
                return _FAIL
            if kind in self.retry_on:
                break
        # isinstance knows more classes than the order above does: those registered with an abstract one.
        return _RETRY if isinstance(error, self.retry_on) and not isinstance(error, self.fail_on) else _FAIL

    def decide(self, error: BaseException, attempt: int, max_attempts: int, *, gone: float = 0.0) -> Decision:
        """Return what follows an attempt that ended with this error.

        Args:
            error: what the attempt ended with.
            attempt: the number of the attempt that ended, from 1.
            max_attempts: the cap in force (the job's own, this policy's, or the worker's setting).
            gone: seconds since the job was first due.
        """
        rule = self.rule(error)
        if rule.then != "retry":
            return Decision(rule.then)
        if attempt >= max_attempts:
            return Decision("fail")
        if rule.max_attempts is not None and attempt >= rule.max_attempts:
            return Decision("fail", why=f"an error of this kind is final after attempt {rule.max_attempts}")
        delay = self._wait(error, rule, attempt)
        if self.max_time is not None and gone + delay > _seconds("max_time", self.max_time):
            return Decision("fail", why=_too_late(gone + delay, self.max_time))
        return Decision("retry", delay)

    def delay(self, attempt: int, backoff: Backoff | None = None) -> float:
        """Return seconds to wait after attempt number `attempt` failed, jitter included.

        Args:
            attempt: from 1.
            backoff: instead of the policy's own.
        """
        try:
            longest = float((backoff or self.backoff)(attempt))
        except OverflowError:
            longest = _LONGEST
        # A user's own backoff may return anything; NaN compares false and ends as zero.
        longest = min(longest, _LONGEST) if longest > 0 else 0.0
        return random.uniform(0, longest) if self.jitter == "full" else longest  # noqa: S311

    def _wait(self, error: BaseException, rule: RetryRule, attempt: int) -> float:
        if isinstance(error, Retry) and error.after is not None:
            return min(error.after, _LONGEST)
        delay = self.delay(attempt, rule.backoff)
        asked = asked_to_wait(error) if self.heed_retry_after else None
        if asked is None or asked <= delay:
            return delay
        return asked * random.uniform(1, 1 + _SPREAD) if self.jitter == "full" else asked  # noqa: S311


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _check_attempts(where: str, attempts: object) -> None:
    if attempts is not None and (not isinstance(attempts, int) or attempts < 1):
        raise ConfigurationError(f"{where}(max_attempts={attempts!r}): a job has at least 1 attempt")


def _too_late(then: float, most: Seconds) -> str:
    return (
        f"the next attempt would begin {then:.0f} s after the job was first due, "
        f"past max_time={_seconds('max_time', most):g} s"
    )


def _seconds(name: str, value: Seconds) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not 0 <= seconds <= _LONGEST:
        raise ConfigurationError(f"{name}={value!r}: give a number of seconds from 0 to a year")
    return seconds


_RETRY, _FAIL = RetryRule("retry"), RetryRule("fail")
_DEFAULT = RetryPolicy()

NEVER = RetryPolicy(max_attempts=1)
"""One attempt, whatever happens."""


def read_policy(option: str, given: object) -> RetryPolicy:
    """Return a task's policy, or the one by default.

    Raises:
        ConfigurationError: it is none.
    """
    if given is None:
        return RetryPolicy()
    if not isinstance(given, RetryPolicy):
        attempts = given if isinstance(given, int) and given > 0 else 5
        raise ConfigurationError(f"{option}={given!r}: give a policy, as in RetryPolicy(max_attempts={attempts:d})")
    return given
