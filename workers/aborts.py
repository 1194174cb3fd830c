"""Cancel the attempts of this worker that somebody asked to abort, and no others.

Owns how a wish finds its attempt. There are three ways for one to come: an order on the control channel, which names
the attempt by its token; the set of wishes, where stock arq clients ask and tell nobody, looked at with each heartbeat;
and the replies to renewals and claims. An id may be enqueued again while a wish is on its way, so none of them goes by
the id alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from common.redis.records import Claimed, Held
from common.redis.store import Store
from workers.attempt import Attempt

__all__ = ["Aborts"]

_MOST_EARLY = 1000
"""Orders that are remembered for attempts not heard of yet."""

_EARLY_FOR = 30.0
"""Seconds for which they are: a claim whose reply takes longer has run out."""

_CERTAIN = 0.25
"""A wish that was made of the very job; see is_meant in common/redis/scores.py."""


class Aborts:
    """Finds the attempts that are to be aborted, among those that are held.

    Args:
        worker: this worker's id, with which its tokens begin.
        held: its attempts by job id.
        stop: cancels one.
    """

    def __init__(self, worker: str, held: Mapping[str, Attempt], stop: Callable[[Attempt], None]) -> None:
        self._tokens_of_ours = f"{worker}:"
        self._held = held
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self.early: dict[str, float] = {}

    def order(self, token: str, job_id: str) -> None:
        """Abort one attempt, which may be of any worker.

        Another connection brings claims: the order may overtake the job it is about, and is kept for it then.
        """
        attempt = self._held.get(job_id)
        if attempt is not None and attempt.lease.token == token:
            self._stop(attempt)
        elif token.startswith(self._tokens_of_ours):
            now = self._loop.time()
            self.early = {kept: since for kept, since in self.early.items() if now - since < _EARLY_FOR}
            if len(self.early) < _MOST_EARLY:
                self.early[token] = now

    def overtaken(self, jobs: Sequence[Claimed]) -> Sequence[Claimed]:
        """Return the jobs of a claim, those of which orders came before them as to be aborted."""
        for job in jobs:
            if self.early.pop(job.token, None) is not None:
                job.aborted = _CERTAIN
        return jobs

    async def look(self, store: Store) -> None:
        """Look whether one of the attempts that are held is to be aborted."""
        held = dict(self._held)
        for job_id, wish in (await store.aborting(list(held))).items():
            attempt = held[job_id]
            if self._held.get(job_id) is attempt and attempt.is_meant_by(wish):
                self._stop(attempt)

    def renewed(self, wishes: Iterable[tuple[Held, float]]) -> None:
        """Abort what a renewal found to be unwanted."""
        for lease, wish in wishes:
            attempt = self._held.get(lease.job_id)
            if attempt is not None and attempt.lease.token == lease.token and attempt.is_meant_by(wish):
                self._stop(attempt)
