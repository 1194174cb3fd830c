"""`producer.limits`: how the fleet's limits stand, and having them begin anew.

Owns what these calls check and say; reading and resetting are common/redis/limits.py's. `BlockingLimits` is the same
for synchronous code. What limits are is said where tasks declare them: common/limits.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.limits import check_name
from common.redis.limits import LimitInfo, LimitStore

if TYPE_CHECKING:
    from producer.blocking import BlockingProducer
    from producer.client import Producer

__all__ = ["BlockingLimits", "Limits"]


class Limits:
    """The limits in use on one producer's server; see docs/limits.md."""

    __slots__ = ("_producer",)

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def list(self, name: str | None = None) -> tuple[LimitInfo, ...]:
        """Return how each limit stands that is in use, one entry a key; idle ones are forgotten after a minute.

        Args:
            name: those of this name only: the task's, unless its limits have names of their own.

        Raises:
            RedisUnavailable: the server cannot be reached.
        """
        store = LimitStore(self._producer.store.client)
        return tuple(await self._producer.answers.of(store.standing(name), "the limits in use"))

    async def reset(self, name: str) -> tuple[LimitInfo, ...]:
        """Have the limits of one name begin anew, those of all its keys: rates without a past, breakers closed.

        Jobs that run keep their places. Returns how they stood before; nothing where there is none in use.

        Raises:
            ConfigurationError: the name cannot be one.
            RedisUnavailable: the server cannot be reached; some may be reset.
        """
        check_name("reset", name)
        store = LimitStore(self._producer.store.client)
        return tuple(await self._producer.answers.of(store.reset(name), "a reset of limits"))


class BlockingLimits:
    """`producer.limits` for synchronous code; each method is that of `Limits`, and waits."""

    __slots__ = ("_limits", "_producer")

    def __init__(self, producer: BlockingProducer, limits: Limits) -> None:
        self._producer = producer
        self._limits = limits

    def list(self, name: str | None = None) -> tuple[LimitInfo, ...]:
        """Return how each limit stands that is in use; see `Limits.list`."""
        return self._producer.run(self._limits.list(name))

    def reset(self, name: str) -> tuple[LimitInfo, ...]:
        """Have the limits of one name begin anew; see `Limits.reset`."""
        return self._producer.run(self._limits.reset(name))
