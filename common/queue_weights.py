"""Queues with weights: what `high=6,default=3,low=1` says.

Owns how weights are written and checked. How a claim divides its room by them is claim.lua's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from common.errors import ConfigurationError

__all__ = ["WeightedQueues", "as_entries", "queues_and_weights", "read_queues"]

_MOST = 1_000_000


class WeightedQueues(tuple[str, ...]):  # noqa: SLOT001 - the weights need a place, and a tuple's subclass has none
    """Names of queues, in order, each with its weight.

    Attributes:
        weights: in the order of the names.
    """

    weights: tuple[int, ...]

    def __new__(cls, weights: Mapping[str, int]) -> Self:
        """Make it of names and their weights, which have been checked."""
        queues = super().__new__(cls, weights)
        queues.weights = tuple(weights.values())
        return queues

    def __repr__(self) -> str:
        return f"WeightedQueues({self.by_name()!r})"

    def by_name(self) -> dict[str, int]:
        """Return the weights by name."""
        return dict(zip(self, self.weights, strict=True))

    def __getnewargs__(self) -> tuple[dict[str, int]]:
        return (self.by_name(),)


def as_entries(value: Any) -> Any:
    """Return a table of weights as `read_queues` takes them, `high=6`; anything else as it is."""
    if isinstance(value, Mapping):
        return tuple(f"{name}={str(weight).lower()}" for name, weight in value.items())
    return value


def read_queues(names: Sequence[str]) -> tuple[str, ...]:
    """Return queues as they are written in a setting: each a name, or a name, `=` and its weight.

    Names may hold any sign, so the weight stands behind the last `=`. Where one queue has a weight, those without
    weigh 1; where none has, these are plain names.

    Raises:
        ValueError: a weight is none, or a queue is named twice with weights.
    """
    if isinstance(names, WeightedQueues):
        return names
    if not any("=" in name for name in names):
        return tuple(names)
    weights: dict[str, int] = {}
    for entry in names:
        name, separator, weight = entry.rpartition("=")
        if not separator:
            name, weight = entry, "1"
        if not name or not (weight.isascii() and weight.isdigit()):
            raise ValueError(
                f"{entry!r}: write a queue's weight as name=3, a whole number from 1 up (a name with an = needs one)"
            )
        if name in weights:
            raise ValueError(f"{name!r} is named twice")
        weights[name] = int(weight)
    return _checked(weights)


def queues_and_weights(queues: Sequence[str] | Mapping[str, int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the names of queues and their weights; no weights where there are none.

    Raises:
        ConfigurationError: a weight is none.
    """
    if isinstance(queues, Mapping):
        try:
            queues = _checked(queues)
        except ValueError as error:
            raise ConfigurationError(f"queues: {error}") from None
    return tuple(queues), getattr(queues, "weights", ())


def _checked(weights: Mapping[str, int]) -> WeightedQueues:
    """Return queues with these weights.

    Raises:
        ValueError: one is no whole number from 1 up.
    """
    for name, weight in weights.items():
        if type(weight) is not int or not 1 <= weight <= _MOST:
            hint = "; a queue of no weight would never be served: leave it out" if weight == 0 else ""
            raise ValueError(f"{name!r}: {weight!r} is no weight: give a whole number from 1 to {_MOST:,}{hint}")
    return WeightedQueues(weights)
