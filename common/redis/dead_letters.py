"""Dead letters in Redis, as typed methods: paging through them, reading one, putting jobs back, forgetting them.

Owns the commands and the layout of these scripts' arguments; a letter is written by complete.lua, with the outcome it
belongs to. What its bytes mean is common/dead_letters.py's. A page is two commands, however many letters there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import redis.asyncio

from common.redis import keys
from common.redis.layout import id_bytes
from common.redis.scripts import Script

__all__ = ["MOST_AT_ONCE", "SCRIPTS", "Answer", "DeadStore", "Filed", "Page", "StoredLetter"]

MOST_AT_ONCE = 500
"""Letters in one call: replaying one moves its payload about, and the server does nothing else meanwhile."""

REPLAY = Script("replay_dead")
DELETE = Script("delete_dead")

SCRIPTS = (REPLAY, DELETE)

_ANY = "surrogateescape"

Answer = Literal["replayed", "taken", "missing"]
_ANSWERS: dict[int, Answer] = {1: "replayed", 0: "taken", -1: "missing"}


class Filed(NamedTuple):
    """One letter of a page: its job, its score (Unix ms, no two are equal), and its record, None if that is gone."""

    job_id: str
    score: float
    about: bytes | None


class Page(NamedTuple):
    """Some letters in order; there may be more if there are as many as were asked for."""

    now_ms: int
    letters: list[Filed]


class StoredLetter(NamedTuple):
    """One letter with all that is kept of it."""

    job_id: str
    score: float
    about: bytes | None
    queue: str
    payload: bytes
    traceback: str
    attempts: list[bytes]


class DeadStore:
    """The dead letters of one server."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def page(
        self, *, newest_first: bool, after: float | None, since_ms: float | None, until_ms: float | None, most: int
    ) -> Page:
        """Return some letters, in the order they came or the other way round.

        Args:
            after: the score of the last one of the page before.
            since_ms, until_ms: Unix ms; letters that came in between, both included.
        """
        low: float | str = "-inf" if since_ms is None else since_ms
        high: float | str = "+inf" if until_ms is None else until_ms
        if after is not None and newest_first:
            high = f"({after!r}"
        elif after is not None:
            low = f"({after!r}"
        first, last = (high, low) if newest_first else (low, high)
        pipeline = self.client.pipeline(transaction=False)
        pipeline.time()
        pipeline.zrange(
            keys.DEAD,
            first,  # type: ignore[arg-type]  # a score, as BYSCORE has it
            last,  # type: ignore[arg-type]
            desc=newest_first,
            withscores=True,
            byscore=True,
            offset=0,
            num=most,
        )
        (seconds, micros), found = await pipeline.execute()
        now = int(seconds) * 1000 + int(micros) // 1000
        if not found:
            return Page(now, [])
        abouts = await self.client.hmget(keys.DEAD_ABOUT, [job_id for job_id, _ in found])  # type: ignore[misc]
        return Page(
            now,
            [
                Filed(job_id.decode(errors=_ANY), score, about)
                for (job_id, score), about in zip(found, abouts, strict=True)
            ],
        )

    async def get(self, job_id: str) -> StoredLetter | None:
        """Return all that is kept of one letter; None if there is none."""
        raw_id = id_bytes(job_id)
        pipeline = self.client.pipeline(transaction=True)
        pipeline.zscore(keys.DEAD, raw_id)
        pipeline.hget(keys.DEAD_ABOUT, raw_id)  # type: ignore[arg-type]  # bytes do as well
        pipeline.hgetall(id_bytes(keys.dead_letter(job_id)))  # type: ignore[arg-type]
        pipeline.lrange(id_bytes(keys.attempts(job_id)), 0, -1)  # type: ignore[arg-type]
        score, about, letter, attempts = await pipeline.execute()
        if score is None or b"payload" not in letter:
            return None
        return StoredLetter(
            job_id,
            score,
            about,
            letter.get(b"queue", b"").decode(errors=_ANY),
            letter[b"payload"],
            letter.get(b"traceback", b"").decode(errors="replace"),
            attempts,
        )

    async def count(self, *, since_ms: float | None = None, until_ms: float | None = None) -> int:
        """Return how many letters came in between, both included."""
        low: float | str = "-inf" if since_ms is None else since_ms
        high: float | str = "+inf" if until_ms is None else until_ms
        found: int = await self.client.zcount(keys.DEAD, low, high)
        return found

    async def now_ms(self) -> int:
        """Return the server's clock, Unix ms."""
        seconds, micros = await self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def replay(self, job_ids: Sequence[str], *, delay_ms: int) -> list[Answer]:
        """Put jobs back into their queues; the answers are replay_dead.lua's.

        Raises:
            redis.exceptions.ConnectionError and the like: it is not known which are back; asked again, those that are
                answer "missing".
        """
        pipeline = self.client.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hget(id_bytes(keys.dead_letter(job_id)), "queue")  # type: ignore[arg-type]  # bytes do as well
        queues = await pipeline.execute(raise_on_error=False) if job_ids else []
        by_queue: dict[str, list[int]] = {}
        for index, queue in enumerate(queues):
            if isinstance(queue, bytes):
                by_queue.setdefault(queue.decode(errors=_ANY), []).append(index)
        answers: list[Answer] = ["missing"] * len(job_ids)
        for queue, members in by_queue.items():
            for start in range(0, len(members), MOST_AT_ONCE):
                part = members[start : start + MOST_AT_ONCE]
                reply = await REPLAY(self.client, (queue,), (delay_ms, *(id_bytes(job_ids[index]) for index in part)))
                for index, word in zip(part, reply, strict=True):
                    answers[index] = _ANSWERS[word]
        return answers

    async def delete(self, job_ids: Sequence[str]) -> int:
        """Forget letters; return how many there were."""
        removed = 0
        for start in range(0, len(job_ids), MOST_AT_ONCE):
            part = job_ids[start : start + MOST_AT_ONCE]
            removed += await DELETE(self.client, (), [id_bytes(job_id) for job_id in part])
        return removed
