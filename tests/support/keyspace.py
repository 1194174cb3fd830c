"""The whole keyspace as a plain dict, to seed and to compare with.

Owns the notation in which tests of storage are written:

    {
        "q": {"a": "now", "b": "now+60s", "c": 5},          sorted set: scores as time, or Unix ms as they are
        "q": {"a": "lease+60s"},                            the score of a running job: the end of its lease
        "arq:job:a": b"payload",                            string without a TTL
        "arq:in-progress:a": (b"w:1:1", "10s"),             string with one
        "barque:waiters": {"a": b"channel"},                hash
        "barque:attempts:a": [b"one", b"two"],              list; with a TTL as a string has it
        "barque:attempts:a": [b"lost 1 lease-60s"],         the end of a lost attempt, as the score it was
    }

Times are told to the nearest ten seconds, so that no test depends on how long a script takes: tests use times that are
far enough apart.
"""

import re
from typing import Any

import redis.asyncio

__all__ = ["Keyspace"]

_STEP = 10_000
_LOST = re.compile(rb"^(lost \d+ )([\d.]+)$")
_FAR_AHEAD = 10**13  # Unix ms: the year 2286
_LONG_AGO = 10**11
"""Scores below this are not times of our days: they are shown as the numbers they are."""


class Keyspace:
    """Seeds a server's database and shows all that is in it."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def now_ms(self) -> int:
        """Return the server's clock in Unix ms."""
        seconds, microseconds = await self.client.time()
        return seconds * 1000 + microseconds // 1000

    async def seed(self, state: dict[str, Any]) -> None:
        """Write these keys."""
        now = await self.now_ms()
        for key, given in state.items():
            value, ttl = (given[0], _ms(given[1])) if isinstance(given, tuple) else (given, None)
            if isinstance(value, list):
                await self.client.rpush(key, *value)
                if ttl is not None:
                    await self.client.pexpire(key, ttl)
            elif ttl is not None:
                await self.client.set(key, value, px=ttl)
            elif isinstance(value, bytes):
                await self.client.set(key, value)
            elif all(isinstance(item, bytes) for item in value.values()):
                await self.client.hset(key, mapping=value)
            else:
                await self.client.zadd(key, {member: _score(score, now) for member, score in value.items()})

    async def dump(self) -> dict[str, Any]:
        """Return every key with its value and TTL."""
        now = await self.now_ms()
        found: dict[str, Any] = {}
        for raw in [key async for key in self.client.scan_iter()]:
            value = await self._value(raw, now)
            ttl = await self.client.pttl(raw)
            found[_text(raw)] = value if ttl < 0 else (value, f"{_rounded(ttl)}s")
        return found

    async def clear(self) -> None:
        """Remove every key."""
        await self.client.flushdb()

    async def _value(self, key: bytes, now: int) -> Any:
        kind = (await self.client.type(key)).decode()
        if kind == "string":
            return await self.client.get(key)
        if kind == "zset":
            return {_text(m): _shown(s, now) for m, s in await self.client.zrange(key, 0, -1, withscores=True)}
        if kind == "hash":
            return {_text(field): value for field, value in (await self.client.hgetall(key)).items()}
        if kind == "list":
            return [
                _LOST.sub(lambda f: f[1] + str(_shown(float(f[2]), now)).encode(), item)
                for item in await self.client.lrange(key, 0, -1)
            ]
        return kind


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")


def _ms(text: str) -> int:
    return int(text.removesuffix("s")) * 1000


def _score(score: float | str, now: int) -> float:
    if isinstance(score, str):
        found = re.fullmatch(r"(now|lease)(?:([+-]\d+)s)?", score)
        assert found, score
        return now + int(found[2] or 0) * 1000 + (0.5 if found[1] == "lease" else 0)
    return score


def _rounded(ms: float) -> int:
    return round(ms / _STEP) * _STEP // 1000


def _shown(score: float, now: int) -> float | str:
    if not _LONG_AGO <= score < _FAR_AHEAD:  # not a time of this run: exact, as it was given
        return int(score)
    seconds = _rounded(score - now)
    since = "lease" if score % 1 == 0.5 else "now"
    return f"{since}{seconds:+}s" if seconds else since
