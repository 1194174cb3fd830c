"""When a failed attempt is tried again, and after how long: plain data and pure functions.

Owns no clock and does no I/O. The executor asks `RetryPolicy.decide` and hands the answer on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from common.errors import ConfigurationError, Retry

__all__ = ["NEVER", "Backoff", "Jitter", "RetryPolicy", "exponential", "fixed", "linear"]

Seconds = float | timedelta
Backoff = Callable[[int], float]
"""Takes the number of the attempt that failed (from 1), returns seconds to wait, before jitter."""

Jitter = Literal["full", "none"]

_LONGEST = 365 * 24 * 3600.0  # a delay past a year is a mistake, and 2**n must not overflow


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


@dataclass(frozen=True, slots=True)
class _Linear:
    step: float
    maximum: float

    def __call__(self, attempt: int) -> float:
        return min(self.step * attempt, self.maximum)


@dataclass(frozen=True, slots=True)
class _Fixed:
    delay: float

    def __call__(self, attempt: int) -> float:  # noqa: ARG002 - the shape of a Backoff
        return self.delay


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
class RetryPolicy:
    """Say which failures are tried again, how often, and how far apart.

    Args:
        max_attempts: attempts in all, the first included; 1 means no retry. None takes the
            worker's setting (`BARQUE_MAX_ATTEMPTS`).
        backoff: seconds to wait after the n-th failed attempt; see `exponential`, `linear`, `fixed`.
        jitter: "full" waits a random time between zero and the backoff, so that a thousand jobs
            which failed together do not come back together; "none" waits exactly the backoff.
        retry_on: only these exceptions are tried again. `Exception` covers timeouts.
        fail_on: these never are, even when `retry_on` covers them.
    """

    max_attempts: int | None = None
    backoff: Backoff = _Exponential(1.0, 2.0, 60.0)
    jitter: Jitter = "full"
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    fail_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ConfigurationError(f"RetryPolicy(max_attempts={self.max_attempts!r}): a job has at least 1 attempt")
        if self.jitter not in {"full", "none"}:
            raise ConfigurationError(f'RetryPolicy(jitter={self.jitter!r}): give "full" or "none"')
        for name in ("retry_on", "fail_on"):
            kinds = getattr(self, name)
            if not isinstance(kinds, tuple) or not all(
                isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
            ):
                raise ConfigurationError(f"RetryPolicy({name}={kinds!r}): give a tuple of exception classes")

    def retries(self, error: BaseException) -> bool:
        """Return whether this kind of error is tried again at all."""
        if isinstance(error, Retry):
            return True
        return isinstance(error, self.retry_on) and not isinstance(error, self.fail_on)

    def decide(self, error: BaseException, attempt: int, max_attempts: int) -> float | None:
        """Return seconds until the next attempt, or None when the job has failed for good.

        Args:
            error: what the attempt ended with.
            attempt: the number of the attempt that ended, from 1.
            max_attempts: the cap in force (this policy's, or the worker's setting).
        """
        if attempt >= max_attempts or not self.retries(error):
            return None
        if isinstance(error, Retry) and error.after is not None:
            return min(error.after, _LONGEST)
        return self.delay(attempt)

    def delay(self, attempt: int) -> float:
        """Return seconds to wait after attempt number `attempt` failed, jitter included."""
        try:
            longest = float(self.backoff(attempt))
        except OverflowError:
            longest = _LONGEST
        # A user's own backoff may return anything; NaN compares false and ends as zero.
        longest = min(longest, _LONGEST) if longest > 0 else 0.0
        return random.uniform(0, longest) if self.jitter == "full" else longest  # noqa: S311


NEVER = RetryPolicy(max_attempts=1)
"""One attempt, whatever happens."""


def _seconds(name: str, value: Seconds) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not 0 <= seconds <= _LONGEST:
        raise ConfigurationError(f"{name}={value!r}: give a number of seconds from 0 to a year")
    return seconds
