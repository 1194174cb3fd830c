"""Keep the leases of running attempts, from a thread of its own.

Owns the renewing thread and its connection. A task that blocks the event loop must not cost its neighbours their
leases, so nothing here waits for the loop: the thread reads what is held, renews it, and hands what was lost or
aborted back through `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import structlog

from common.redis.connection import TROUBLE
from common.redis.store import BlockingStore, HeldLease, Renewal

__all__ = ["LeaseKeeper"]

log = structlog.get_logger("barque.leases")

_RENEWALS_PER_LEASE = 3.3  # a lease of 10 s is renewed every 3: two renewals may fail before it is lost


class LeaseKeeper:
    """Renews every lease this worker holds, until stopped.

    Args:
        connect: makes the store, in the thread that uses it.
        held: returns the leases held now; called from the thread.
        changed: called on the event loop with leases that were lost or whose attempts are to be aborted.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], BlockingStore],
        queues: Sequence[str],
        lease_ms: int,
        held: Callable[[], list[HeldLease]],
        changed: Callable[[Renewal], None],
    ) -> None:
        self._connect = connect
        self._queues = queues
        self._lease_ms = lease_ms
        self._held = held
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="barque-leases", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def stop(self) -> None:
        """Stop the thread and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        store: BlockingStore | None = None
        interval = self._lease_ms / 1000 / _RENEWALS_PER_LEASE
        wait = interval
        while not self._stop.wait(wait):
            wait = interval
            held = self._held()
            if not held:
                continue
            try:
                store = store or self._connect()
                renewal = store.renew(self._queues, held, lease_ms=self._lease_ms)
            except TROUBLE as error:
                # Try sooner than usual: the lease runs on while the server is away.
                wait = min(interval, 0.5)
                log.warning("leases_not_renewed", error=f"{type(error).__name__}: {error}", held=len(held))
                continue
            if renewal.lost or renewal.aborted:
                self._report(renewal)
        if store is not None:
            store.close()

    def _report(self, renewal: Renewal) -> None:
        try:
            self._loop.call_soon_threadsafe(self._changed, renewal)
        except RuntimeError:  # the loop closed while this thread was in Redis
            self._stop.set()
