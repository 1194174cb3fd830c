"""The server that all peers share in one run, and what it tells of the work it did.

Owns starting and ending it. Nothing is persisted, for nobody: neither snapshots nor an append-only file, so that a
disk does not decide. It listens on loopback alone.
"""

from __future__ import annotations

import shutil
from types import TracebackType
from typing import Any, Self

import redis

from common.embedded import EmbeddedServer

__all__ = ["Server"]


class Server:
    """A Redis or Valkey of this run's own: `redis-server` on PATH, else the embedded one."""

    def __init__(self) -> None:
        self._server = EmbeddedServer(binary=shutil.which("redis-server"))
        self._client: Any = None

    def __enter__(self) -> Self:
        self._server.start()
        self._client = redis.Redis.from_url(self._server.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self._server.stop()

    @property
    def url(self) -> str:
        """Its URL."""
        return self._server.url

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._server.pid

    @property
    def title(self) -> str:
        """Its name and version."""
        about = self._client.info("server")
        if "valkey_version" in about:
            return f"Valkey {about['valkey_version']}"
        return f"Redis {about['redis_version']}"

    def clear(self) -> None:
        """Forget everything but the scripts."""
        self._client.flushall()

    def forget(self, prefix: str) -> None:
        """Forget the keys whose names begin so."""
        names = list(self._client.scan_iter(f"{prefix}*", count=10_000))
        if names:
            self._client.unlink(*names)

    def cpu_seconds(self) -> float:
        """Return the CPU time it has used, in seconds."""
        about = self._client.info("cpu")
        return float(about["used_cpu_sys"]) + float(about["used_cpu_user"])

    def script_microseconds(self) -> float:
        """Return the time it has spent in scripts, the commands they call included, in microseconds."""
        stats = self._client.info("commandstats")
        return float(sum(stats.get(f"cmdstat_{name}", {}).get("usec", 0) for name in ("eval", "evalsha")))

    def count(self, sorted_set: str) -> int:
        """Return how many members a sorted set has."""
        return int(self._client.zcard(sorted_set))
