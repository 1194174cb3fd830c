"""Keep the leases of running attempts, from a thread of its own.

Owns the renewing thread and its connection. A task that blocks the event loop must not cost its neighbours their
leases, so nothing here waits for the loop: the thread reads what is held, renews it, and hands what was lost or
aborted back through `call_soon_threadsafe`. A loop that stands still past a limit will not come back by itself:
then the leases are left to run out, and other workers take the jobs over.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence

import structlog

from common.redis.connection import TROUBLE
from common.redis.store import BlockingStore, Held, Renewal
from workers.loop_watch import LoopWatch

__all__ = ["LeaseKeeper"]

log = structlog.get_logger("barque.leases")

_RENEWALS_PER_LEASE = 3.3  # a lease of 10 s is renewed every 3: two renewals may fail before it is lost

_LOOK_EVERY = 0.5
"""Seconds between looks at the event loop; also between renewals that fail."""

_LAST_RENEWAL = 0.5
"""Seconds to wait, at a stop, for the renewal that is on its way; the thread keeps no process from ending."""


class LeaseKeeper:
    """Renews every lease this worker holds, until stopped.

    Args:
        connect: makes the store, in the thread that uses it.
        held: returns the leases held now; called from the thread.
        changed: called on the event loop with leases that were lost or whose attempts are to be aborted.
        watch: tells how long the event loop has stood still.
        block_limit: seconds of standing still after which nothing is renewed.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], BlockingStore],
        queues: Sequence[str],
        lease_ms: int,
        held: Callable[[], list[Held]],
        changed: Callable[[Renewal], None],
        watch: LoopWatch,
        block_limit: float,
    ) -> None:
        self._connect = connect
        self._queues = queues
        self._lease_ms = lease_ms
        self._held = held
        self._changed = changed
        self._watch = watch
        self._block_limit = block_limit
        self._interval = lease_ms / 1000 / _RENEWALS_PER_LEASE
        self._given_up = False
        self._failing_since: float | None = None
        self._store: BlockingStore | None = None
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="barque-leases", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def stop(self) -> None:
        """Stop the thread; wait for it, but not longer than a server that answers would take."""
        self._stop.set()
        if self._thread.is_alive():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _LAST_RENEWAL)

    @property
    def fenced(self) -> str:
        """Why other workers may have this one's jobs, in words; "" while they may not."""
        if self._given_up:
            return (
                f"its event loop stood still past BARQUE_BLOCK_LIMIT ({self._block_limit:g} s): its leases have been "
                "left to run out, and other workers take its jobs"
            )
        since = self._failing_since
        failing = 0.0 if since is None else time.monotonic() - since
        if failing < self._lease_ms / 1000:
            return ""
        return (
            f"its leases could not be renewed for {failing:.0f} s, and last {self._lease_ms / 1000:g} s "
            "(BARQUE_LEASE): other workers may have its jobs"
        )

    def _run(self) -> None:
        now = time.monotonic()
        renew_at = now + self._interval
        while not self._loop.is_closed():
            wait = min(_LOOK_EVERY, max(0.0, renew_at - now))
            if self._stop.wait(wait):
                break
            late = time.monotonic() - now - wait
            try:
                self._look(late)
                if time.monotonic() >= renew_at:
                    renew_at = time.monotonic() + (self._interval if self._renew() else self._sooner())
            except Exception as error:  # without this thread every lease would run out, and nobody would know why
                renew_at = time.monotonic() + self._sooner()
                self._start_afresh(error)
            now = time.monotonic()
        with contextlib.suppress(Exception):
            if self._store is not None:
                self._store.close()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ended.set)

    def _sooner(self) -> float:
        # The lease runs on while the server is away.
        return min(self._interval, _LOOK_EVERY)

    def _look(self, late: float) -> None:
        blocked = self._watch.look(late)
        if blocked < self._block_limit:
            self._given_up = False
        elif not self._given_up:
            self._given_up = True
            log.error("leases_given_up", seconds=round(blocked, 1), limit=self._block_limit, held=len(self._held()))

    def _renew(self) -> bool:
        """Renew what is held, once; return False if the server could not be asked."""
        held = self._held()
        if not held or self._given_up:
            self._failing_since = None
            return True
        try:
            self._store = self._store or self._connect()
            renewal = self._store.renew(self._queues, held, lease_ms=self._lease_ms)
        except TROUBLE as error:
            log.warning("leases_not_renewed", error=f"{type(error).__name__}: {error}", held=len(held))
            self._failing()
            self._hang_up()  # a primary that has become a replica answers for ever; its name may lead elsewhere now
            return False
        self._failing_since = None
        if renewal.lost or renewal.aborted:
            self._loop.call_soon_threadsafe(self._changed, renewal)
        return True

    def _start_afresh(self, error: Exception) -> None:
        """Say what nobody foresaw, and renew over a new connection."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(Exception):
            log.error("leases_not_renewed", error=f"{type(error).__name__}: {error}", held=len(self._held()))
        self._failing()
        self._hang_up()

    def _failing(self) -> None:
        self._failing_since = self._failing_since or time.monotonic()

    def _hang_up(self) -> None:
        store, self._store = self._store, None
        with contextlib.suppress(Exception):
            if store is not None:
                store.close()
