"""A worker's connection in the shape arq's users know: an `ArqRedis`, through which `ctx["redis"]` and cron enqueue.

Owns what such a pool writes and reads with. How a server that is away is waited for is connecting.py's.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from arq.connections import ArqRedis, RedisSettings, create_pool

from common.redis.connection import connect
from common.settings import Settings
from common.values import encode
from workers import connecting

__all__ = ["PoolOptions", "unopened"]


def unopened(settings: Settings) -> ArqRedis:
    """Return a pool that leads where the settings say, without having tried it."""
    return connect(settings, client_class=ArqRedis)


class PoolOptions(NamedTuple):
    """What a worker's pool enqueues with; arq's `job_serializer`, `default_queue_name` and so on."""

    job_serializer: Any
    job_deserializer: Any
    default_queue_name: str
    expires_extra_ms: int

    async def by_settings(self, settings: Settings, *, worker: str) -> ArqRedis:
        """Connect as Barque's settings say; see `connecting.by_settings`."""
        pool = await connecting.by_settings(settings, client_class=ArqRedis, name=f"worker-{worker}")
        for name, value in self._asdict().items():
            setattr(pool, name, value)
        return pool

    async def as_arq(self, where: RedisSettings | None) -> ArqRedis:
        """Connect as arq's settings say; see `connecting.as_arq`."""
        return await connecting.as_arq(create_pool, where or RedisSettings(), **self._asdict())

    def readable(self, pool: ArqRedis) -> ArqRedis:
        """Return the pool, or, if it writes what this worker would not read, a copy that does not.

        The caller's own object stays as it is: others may be fed through it.
        """
        if pool.job_serializer is not None or self.job_serializer is not encode:
            return pool
        pool = copy.copy(pool)
        pool.job_serializer, pool.job_deserializer = self.job_serializer, self.job_deserializer
        return pool
