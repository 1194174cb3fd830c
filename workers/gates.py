"""A task's limits, as one of its jobs meets them: which gates, at what cost, and which of its errors a breaker counts.

Owns the way from a declaration (common/limits.py) and a job's arguments to gates (common/redis/limits.py), resolved
once a task as far as it goes. Asks nobody; workers/admission.py does.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from common.codec import Payload
from common.errors import ConfigurationError, PayloadError, Retry
from common.limits import MOST_COST, SPARE, CircuitBreaker, ConcurrencyLimit, Limit, RateLimit, key_text
from common.redis.limits import Gate, Kind, gate
from common.retry_after import asked_to_wait
from common.tasks import Task

__all__ = ["LimitError", "TaskGates", "asked_delay", "check_shared"]

_KEEP_MS = 24 * 3600 * 1000
"""How long a gate in use is kept, at the least."""

_KEEP_UNBOUNDED_MS = 30 * 24 * 3600 * 1000
"""The same, where attempts have no timeout."""


class LimitError(PayloadError):
    """A job's arguments give no key, or no cost, for one of its limits; the message names the limit."""


class _Made:
    """One limit of a task: what does not depend on the job is made once."""

    __slots__ = ("cost", "fixed", "keep_ms", "key", "kind", "limit", "name", "numbers")

    def __init__(self, limit: Limit, name: str, keep_ms: int) -> None:
        self.limit = limit
        self.name = name
        self.keep_ms = keep_ms
        self.key = limit.key
        self.cost: float | str | Callable[..., float] = 1.0
        self.kind: Kind
        self.numbers: tuple[float, ...]
        if isinstance(limit, RateLimit):
            self.kind, self.numbers = "rate", (limit.interval * 1000 * SPARE, limit.burst)
            self.cost = limit.cost
        elif isinstance(limit, ConcurrencyLimit):
            self.kind, self.numbers = "concurrency", (limit.limit,)
        else:
            self.kind = "breaker"
            self.numbers = (
                limit.trials,
                _ms(limit.open_for),
                limit.longest_open * 1000,
                limit.threshold,
                limit.minimum,
                _ms(limit.window),
            )
        self.fixed = None if self.key is not None else gate(self.kind, name, None, keep_ms, self.numbers)

    @property
    def needs_arguments(self) -> bool:
        return self.key is not None or not isinstance(self.cost, int | float)


class TaskGates:
    """The limits of one task.

    Attributes:
        breaks, holds: whether a breaker, or a rate that holds its key back, wants to know how attempts end.
        leaves: whether anybody does, or places are to be given back.
    """

    def __init__(self, task: Task[..., Any], limits: Sequence[Limit], *, timeout: float | None) -> None:
        keep_ms = _KEEP_UNBOUNDED_MS if timeout is None else max(_KEEP_MS, round(timeout * 2000))
        self._task = task
        self._parameters = inspect.signature(task.function)
        self._made: list[_Made] = []
        for limit in limits:
            same = sum(type(made.limit) is type(limit) for made in self._made)
            own = f"{task.name}-{same + 1}" if same else task.name
            self._made.append(_Made(limit, limit.name or own, keep_ms))
        names = [(made.kind, made.name) for made in self._made]
        for kind, name in names:
            if names.count((kind, name)) > 1:
                raise ConfigurationError(f"task {task.name!r}: two of its limits are called {name!r}; rename one")
        self._asks_arguments = any(made.needs_arguments for made in self._made)
        self.breaks = any(made.kind == "breaker" for made in self._made)
        self.holds = any(isinstance(m.limit, RateLimit) and m.limit.hold_on_retry_after for m in self._made)
        self.leaves = self.breaks or self.holds or any(made.kind == "concurrency" for made in self._made)

    @property
    def declared(self) -> list[tuple[str, str, Limit]]:
        """Kind, name and declaration of each."""
        return [(made.kind, made.name, made.limit) for made in self._made]

    def of_job(self, payload: Payload) -> tuple[tuple[Gate, float], ...]:
        """Return the gates a job has to pass, each with what it costs there.

        Raises:
            PayloadError: its arguments are not what the task takes, or give no key or cost.
        """
        extras = payload.extras
        given_key = extras.limit_key if extras is not None else None
        given_cost = extras.limit_cost if extras is not None else None
        values: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        if self._asks_arguments:
            parts = payload.as_msgpack()
            values = self._task.arguments.read(*parts) if parts is not None else payload.as_objects()
        found: list[tuple[Gate, float]] = []
        for made in self._made:
            passed = made.fixed
            if passed is None:
                key = given_key if given_key is not None else key_text(self._value(made, "key", made.key, values))
                passed = gate(made.kind, made.name, key, made.keep_ms, made.numbers)
            found.append((passed, self._cost(made, given_cost, values)))
        return tuple(found)

    def counts(self, kind: type[BaseException]) -> dict[str, bool]:
        """Return, by the name of each breaker, whether this kind of error is a failure to it."""
        return {made.name: made.limit.counts(kind) for made in self._made if isinstance(made.limit, CircuitBreaker)}

    def held_by(self, passed: Gate) -> bool:
        """Whether this gate is a rate that an attempt told to come back later holds back."""
        return any(
            isinstance(made.limit, RateLimit) and made.limit.hold_on_retry_after and made.name == passed.name
            for made in self._made
        )

    def tolerance(self) -> float:
        """Return by how many seconds a start may be late and no window gets too full."""
        spare = [_seconds(made.limit.per) for made in self._made if isinstance(made.limit, RateLimit)]
        return min(spare, default=math.inf) * (SPARE - 1)

    def _cost(self, made: _Made, given: float | None, values: tuple[tuple[Any, ...], dict[str, Any]] | None) -> float:
        if made.kind != "rate":
            return 1.0
        if given is not None:
            return given
        if isinstance(made.cost, int | float):
            return float(made.cost)
        cost = self._value(made, "cost", made.cost, values)
        if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost <= MOST_COST:
            raise LimitError(f"{self._task.name}: limit {made.name!r}: its cost is no number from 0 to a million")
        return float(cost)

    def _value(
        self,
        made: _Made,
        what: str,
        way: str | Callable[..., Any] | None,
        values: tuple[tuple[Any, ...], dict[str, Any]] | None,
    ) -> Any:
        assert values is not None
        args, kwargs = values
        try:
            if callable(way):
                return way(*args, **kwargs)
            bound = self._parameters.bind(None, *args, **kwargs)
            bound.apply_defaults()
            arguments: Mapping[str, Any] = bound.arguments
            return arguments[str(way)]
        except Exception as error:
            raise LimitError(
                f"{self._task.name}: limit {made.name!r}: no {what} can be taken from the arguments: "
                f"{type(error).__name__}"
            ) from error


def check_shared(gates: Sequence[TaskGates]) -> None:
    """Hold limits that share a name to one declaration, but for what their keys and costs are taken from.

    Raises:
        ConfigurationError: two differ; the message names it.
    """
    known: dict[tuple[str, str], tuple[TaskGates, tuple[float, ...], bool]] = {}
    for task_gates in gates:
        for made in task_gates._made:  # noqa: SLF001 - one file
            place = (made.kind, made.name)
            first = known.setdefault(place, (task_gates, made.numbers, made.key is None))
            if first[1:] != (made.numbers, made.key is None):
                raise ConfigurationError(
                    f"limit {made.name!r} is declared by the tasks {first[0]._task.name!r} and "  # noqa: SLF001
                    f"{task_gates._task.name!r}, with different numbers or only once with a key: "  # noqa: SLF001
                    "declare it once and pass the same object to both, or give one another name"
                )


def asked_delay(error: BaseException | None) -> float | None:
    """Return the seconds after which an error asks to be tried again, if it names a time."""
    if error is None:
        return None
    after = error.after if isinstance(error, Retry) else asked_to_wait(error)
    return after or None


def _ms(value: float | timedelta) -> float:
    return _seconds(value) * 1000


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
