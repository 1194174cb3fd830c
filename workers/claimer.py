"""Take due jobs while there is room for them, and sleep while there are none.

Owns the claiming loop: how many to ask for, when to ask again, and what to wait for in between (a free slot, the
wake marker, the next due time, the slow poll under it all). Starts attempts through a callback.

      room? ──no──► wait for a slot
        │yes
      claim ──as many as asked──► claim again
        │fewer
      wait for the wake marker, the next due time or the poll, and claim: one command after the other in one round
      trip, so that a job enqueued into an idle fleet is claimed by the server itself the moment it is there
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from common.redis.connection import TROUBLE
from common.redis.store import FIRST_FIRST, MOST_PER_CALL, Claim, Order, Store
from workers.backoff import Backoff
from workers.clock import ServerClock
from workers.metrics import Metrics

__all__ = ["Claimer"]

log = structlog.get_logger("barque.claimer")

_WHEN_WOKEN = 10
"""Jobs to ask for while waiting, at most: the server may give them to a worker that has died since, and their leases
have to run out then (one that lives, and has lost the connection, is given them again). If so many were there, the
next claim follows at once and asks for all there is room for."""

_LAST_REPLY = 1.0
"""Seconds to wait for the claim that is on its way when claiming stops."""


class Claimer:
    """Claims jobs for one worker.

    Args:
        room: how many more jobs may be claimed now.
        start: called with each claim that brought jobs.
        order: how a claim divides its room among the queues.
        metrics: is told of each claim that brought jobs, and of how long the server takes.
        burst: return once every queue is empty, or `most_jobs` jobs were started.
        burst_waits: a burst waits for jobs that are due later, too.
        most_jobs: in burst, the most jobs to start; negative is no limit.
        most_at_once: jobs to ask for in one claim; is told whether the one before brought as many as it asked for.
        undecided: whether jobs that were claimed may yet not start, as their limits do not let them; None: they all do.
        patience: seconds to wait for a reply; a server that hangs is then asked over a new connection.

    Attributes:
        accepting: whether jobs are to be claimed.
        server_answers: whether the last claim was answered.
        trouble: what became of it instead, by the type of the error.
        wants_room: whether it is to be told that a slot is free.
    """

    def __init__(
        self,
        store: Store,
        queues: Sequence[str],
        *,
        worker: str,
        lease_ms: int,
        poll_delay: float,
        patience: float,
        clock: ServerClock,
        room: Callable[[], int],
        start: Callable[[Claim], None],
        order: Order = FIRST_FIRST,
        metrics: Metrics | None = None,
        burst: bool = False,
        burst_waits: bool = True,
        most_jobs: int = -1,
        most_at_once: Callable[[bool], int] = lambda _: MOST_PER_CALL,
        undecided: Callable[[], bool] | None = None,
    ) -> None:
        self._store = store
        self._queues = queues
        self._order = order
        self._metrics = metrics
        self._worker = worker
        self._lease_ms = lease_ms
        self._poll_delay = poll_delay
        self._patience = patience
        self._clock = clock
        self._room = room
        self._start = start
        self._burst = burst
        self._burst_waits = burst_waits
        self._most_jobs = most_jobs
        self._most_at_once = most_at_once
        self._undecided = undecided
        self._freed = asyncio.Event()
        self._claims = 0
        self._unanswered = 0  # number of the first claim whose reply did not come
        self._started = 0
        self._backoff = Backoff()
        self._waiting = False
        self._taken: Claim | None = None
        self._asked_at = 0.0
        self._nudging: asyncio.Task[None] | None = None  # held, as the loop itself holds tasks weakly
        self.accepting = True
        self.wants_room = False
        self.server_answers = False
        self.trouble = ""

    @property
    def claiming(self) -> bool:
        """Whether it has begun to ask, and is not to stop."""
        return self.accepting and self._claims > 0

    def end(self, _: object = None) -> None:
        """Claim no more."""
        self.accepting = False

    def slot_freed(self) -> None:
        """Say that there may be room again; needed only where it `wants_room`."""
        self.wants_room = False
        self._freed.set()

    def not_started(self) -> None:
        """Say that a job that was claimed did not begin: it is no job of a burst that is to have so many."""
        self._started -= 1
        self._freed.set()

    async def run(self) -> None:
        """Claim until cancelled, until `accepting` is false, or, in burst, until all is done."""
        pause = 0.0
        while self.accepting and (self._most_left() != 0 or await self._one_did_not_start()):
            asked = min(self._most_at_once(pause <= 0), self._room(), self._most_left())
            if asked <= 0:
                await self._wait_for_room()
                continue
            try:
                if pause > 0 and not self._burst:
                    asked = min(asked, _WHEN_WOKEN)
                    claim = await self._hold_on(self._ask_when_woken(asked, pause))
                else:
                    # Taken here, so that the next claim is on its way before the jobs of this one begin.
                    claim = self._take(await self._hold_on(self._ask(asked)))
                if not claim.jobs and self._burst and (claim.waiting == 0 or not self._burst_waits):
                    return
                pause = self._until_next(claim) if len(claim.jobs) < asked else 0.0
                if pause > 0 and self._burst:
                    await self._wait_in_burst(pause)
            except TROUBLE as error:
                self.server_answers, self.trouble = False, type(error).__name__
                self._unanswered = self._unanswered or self._claims
                pause, delay = 0.0, self._backoff.next()
                log.warning("claim_failed", error=f"{type(error).__name__}: {error}", again_in_s=round(delay, 3))
                await asyncio.sleep(delay)
            else:
                self._backoff.reset()

    async def _one_did_not_start(self) -> bool:
        """Say, once that is sure, whether a burst that has claimed as many as it is to run may claim one more."""
        while self._undecided is not None and self._undecided():
            self._listen()
            await self._freed.wait()
            if self._most_left() != 0:
                return True
        return False

    def _most_left(self) -> int:
        if not self._burst or self._most_jobs < 0:
            return 1_000_000
        return max(0, self._most_jobs - self._started)

    async def _wait_for_room(self) -> None:
        if self._room() <= 0:
            self._listen()
            await self._freed.wait()

    def _listen(self) -> None:
        """Have the next slot that is freed told, from this step on; of most jobs nobody asks."""
        self._freed.clear()
        self.wants_room = True

    async def _hold_on(self, asking: Coroutine[Any, Any, Claim]) -> Claim:
        claiming = asyncio.create_task(asking)
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The server may have given jobs already. Left where they are they would wait out their lease, and the
            # attempt would count; taken, they are run or released like any other.
            await asyncio.wait({claiming, asyncio.create_task(self._end_wait())}, timeout=_LAST_REPLY)
            if not claiming.cancel() and not claiming.cancelled() and claiming.exception() is None:
                self._take(claiming.result())
            raise

    async def _end_wait(self) -> None:
        if self._waiting:
            with contextlib.suppress(*TROUBLE):  # the server is away, and with it what it could give
                async with asyncio.timeout(_LAST_REPLY):
                    await self._store.nudge(self._worker)

    async def _ask(self, asked: int) -> Claim:
        if self._burst:
            self._listen()  # the last job may end while the claim is on its way, which does not know it yet
        self._claims += 1
        self._asked_at = time.perf_counter()
        async with asyncio.timeout(self._patience):
            claim = await self._store.claim(
                self._queues,
                most=asked,
                lease_ms=self._lease_ms,
                worker=self._worker,
                number=self._claims,
                unanswered=self._unanswered,
                order=self._order,
            )
        self._unanswered = 0
        if self._metrics is not None:
            self._metrics.round_trips["claim"].add(time.perf_counter() - self._asked_at)
        return claim

    async def _ask_when_woken(self, asked: int, seconds: float) -> Claim:
        self._waiting = True
        await asyncio.sleep(0)  # the jobs that were just claimed begin first
        # A server without other traffic ends blocking commands at its cron alone, ten times a second; any
        # command makes it look at once.
        to_the_millisecond = seconds < self._poll_delay
        nudge = asyncio.get_running_loop().call_later(seconds + 0.001, self._nudge) if to_the_millisecond else None
        self._claims += 1
        self._asked_at = time.perf_counter()
        before = self._taken
        try:
            async with asyncio.timeout(seconds + self._patience):
                # Taken as it comes: the jobs begin some steps of the loop earlier.
                return self._take(
                    await self._store.claim_when_woken(
                        self._queues,
                        seconds,
                        most=asked,
                        lease_ms=self._lease_ms,
                        worker=self._worker,
                        number=self._claims,
                        order=self._order,
                        taken=self._take,
                    )
                )
        except TROUBLE:
            if self._taken is None or self._taken is before:
                raise
            return self._taken  # its jobs have begun, though it came with the end of our patience
        finally:
            self._waiting = False
            if nudge is not None:
                nudge.cancel()

    def _take(self, claim: Claim) -> Claim:
        if claim is self._taken:
            return claim
        too_late = self._has_run_out(claim)
        self._taken = claim
        self.server_answers, self.trouble = True, ""
        self._clock.set(claim.now_ms)
        if claim.jobs and too_late:
            log.warning("claim_came_too_late", jobs=len(claim.jobs), lease_s=self._lease_ms / 1000)
        elif claim.jobs:
            self._started += len(claim.jobs)
            if self._metrics is not None:
                self._metrics.claimed(len(claim.jobs))
            self._start(claim)
        return claim

    def _has_run_out(self, claim: Claim) -> bool:
        """Tell whether the leases ended before we heard of them: this process, or its host, stood still meanwhile.

        Those jobs are due again by themselves, and others may have run them.
        """
        waited_ms = (time.perf_counter() - self._asked_at) * 1000
        if (
            waited_ms < self._lease_ms or self._taken is None
        ):  # without an earlier claim the server's clock is not known
            return False
        return self._clock.now_ms() - claim.now_ms >= self._lease_ms

    def _until_next(self, claim: Claim) -> float:
        """Return the seconds until something may be due without an enqueue: the next due time, or the poll."""
        if claim.next_due_ms is None:
            return self._poll_delay
        return min(self._poll_delay, max(0.0, (claim.next_due_ms - self._clock.now_ms()) / 1000))

    async def _wait_in_burst(self, seconds: float) -> None:
        # A burst ends when the last job does: its outcome frees a slot, another worker's shows at a look.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._freed.wait(), min(seconds, 0.01))  # listened for since the claim was sent

    def _nudge(self) -> None:
        self._nudging = asyncio.create_task(self._ping())

    async def _ping(self) -> None:
        with contextlib.suppress(*TROUBLE):  # the wait itself finds that out
            async with asyncio.timeout(self._patience):
                await self._store.client.ping()
