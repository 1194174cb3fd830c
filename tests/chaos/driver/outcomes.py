"""What the server says of the jobs when all is over, read with a plain client and arq's own words.

Owns the reading of results without Barque, so that a defect of Barque's own reading hides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import redis

from tests.chaos.driver.verdict import Outcome

__all__ = ["Server"]

_AT_ONCE = 1000


class _Result(msgspec.Struct):
    s: bool
    t: int


class Server:
    """A plain client of the server under test."""

    def __init__(self, url: str, queue: str = "arq:queue") -> None:
        # redis-py types its replies for asynchronous clients too.
        self._client: Any = redis.Redis.from_url(url)
        self._queue = queue

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def version(self) -> str:
        """Return the server's name and version."""
        info = self._client.info("server")
        if "valkey_version" in info:
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info['redis_version']}"

    def waiting(self) -> int:
        """Return how many jobs are in the queue, running ones included."""
        return int(self._client.zcard(self._queue))

    def outcomes(self, job_ids: Sequence[str]) -> dict[str, Outcome]:
        """Return the outcomes of those jobs that have one."""
        found: dict[str, Outcome] = {}
        for start in range(0, len(job_ids), _AT_ONCE):
            part = job_ids[start : start + _AT_ONCE]
            for job_id, raw in zip(part, self._client.mget([f"arq:result:{name}" for name in part]), strict=True):
                if raw is not None:
                    result = msgspec.msgpack.decode(raw, type=_Result)
                    found[job_id] = Outcome(result.s, result.t)
        return found

    def leftovers(self) -> list[str]:
        """Return what is left of jobs that have all ended: places in the queue, and payloads."""
        places = [f"{member.decode()} in {self._queue}" for member in self._client.zrange(self._queue, 0, -1)]
        return places + [key.decode() for key in self._client.scan_iter("arq:job:*", count=1000)]
