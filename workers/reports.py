"""What a worker says of itself to who looks on: its report, refreshed every few seconds and gone with it.

Owns the schedule and the contents of the reports. What a report looks like is common/worker_reports.py's, what is in it
only while somebody looks on observation.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import heapq
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from common.jobs import OutcomeKind
from common.redis.connection import TROUBLE, blocking_twin
from common.redis.looks import publish_attempts
from common.redis.store import BlockingStore, Store
from common.worker_reports import LONGEST_ERROR, LONGEST_NAME, EndedAttempt, WorkerReport, bounded
from workers.attempt import Attempt, Outcome
from workers.own_memory import memory
from workers.telling import running, told_of
from workers.wellbeing import blocked

if TYPE_CHECKING:
    from workers.engine import Engine
    from workers.observation import Observation

__all__ = ["Counts", "Reports", "version_of"]

log = structlog.get_logger("barque.worker")

_REPORT_EVERY = 5.0
"""Seconds between a worker's reports; a report is believed for three of them."""

_KEEP_MS = round(3 * _REPORT_EVERY * 1000)

_OVERDUE = 1.5 * _REPORT_EVERY
"""Seconds without a report after which the renewing thread says what there is to say."""

_REPORT_SOON = 0.5
"""The same, while the last report says that it is starting: that is over in a moment."""

_LAST_REPORT = 0.2
"""Seconds for which a report that is on its way at the end is waited for."""

_MOST_LISTED = 20
"""Attempts that a report lists as running, and as failed."""

_MOST_NAMED = 20
"""Queues and tasks that a report names as paused, and queues for which it says how much runs."""

_UNCOUNTED = {OutcomeKind.PASSED_ON, OutcomeKind.LOST}
"""That never began here, or was another worker's by its end."""

_FAILED = {OutcomeKind.RETRIED, OutcomeKind.FAILED, OutcomeKind.TIMED_OUT, OutcomeKind.LOST}


class Counts(NamedTuple):
    """Attempts a worker has recorded, by how they ended."""

    succeeded: int = 0
    retried: int = 0
    failed: int = 0


class Reports:
    """Reports of one worker."""

    def __init__(self, worker: str, queues: Sequence[str], concurrency: int) -> None:
        self._worker = worker
        self._queues = tuple(queues)
        self._concurrency = concurrency
        self._started_ms = 0
        self._last: float | None = None
        self._started = False  # as the last report said
        self._failures: deque[EndedAttempt] = deque(maxlen=_MOST_LISTED)
        self._of: _Reported | None = None
        self._observation: Observation | None = None
        self._sending: asyncio.Task[None] | None = None

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        every = _REPORT_EVERY if self._started else _REPORT_SOON
        return self._last is None or time.monotonic() - self._last >= every

    def start(
        self,
        engine: Engine,
        store: Store,
        counts: Callable[[], Counts],
        revised: Callable[[bytes | None], None],
        page: str = "",
    ) -> None:
        """Report of a worker whose engine this is.

        Args:
            page: where its metrics are, as host:port.
            revised: called with each report's answer, the revision of the fleet's schedules.
        """
        self._of = _Reported(engine, store, counts, revised, page)
        engine.loop_watch.still = self._say_that_it_stands_still

    def looked_on(self, message: bytes) -> None:
        """Take what somebody says who looks on."""
        of = self._of
        if of is None:
            return
        if self._observation is None:
            from workers.observation import Observation  # noqa: PLC0415 - for those who are looked at

            self._observation = Observation(
                self._worker,
                functools.partial(publish_attempts, of.store.client),
                of.engine.clock,
                kept=of.engine.metrics,
                look=functools.partial(setattr, of.engine, "metrics"),
                report=self._send_at_once,
            )
        self._observation.asked(message)

    def note(self, outcome: Outcome) -> Counts:
        """Keep what is told of an attempt that did not succeed, if that is a failure; return what it counts as."""
        kind = outcome.kind
        if kind in _FAILED and self._of is not None:
            self._failures.append(told_of(outcome, self._of.engine.clock.now_ms()))
        if kind in _UNCOUNTED:
            return Counts()
        if outcome.retry_in_ms is not None or kind is OutcomeKind.RELEASED:
            return Counts(retried=1)
        return Counts(failed=1)

    async def send(self) -> None:
        """Publish a report."""
        of = self._of
        if of is None:
            return
        now_ms = of.engine.clock.now_ms()
        self._started_ms = self._started_ms or now_ms
        report = self._report(of, now_ms)
        encoded = msgspec.json.encode(report)
        revision = await of.store.report_worker(self._worker, encoded, now_ms=now_ms, keep_ms=_KEEP_MS)
        self._last, self._started = time.monotonic(), report.state != "starting"
        of.revised(revision)

    async def withdraw(self, store: Store) -> None:
        """Take the report back at a stop; a server that cannot be asked forgets it by itself."""
        if self._observation is not None:
            self._observation.close()
        if (sending := self._sending) is not None:
            # Cut off at once, it would be executed some time later, and nobody takes that report back.
            await asyncio.wait({sending}, timeout=_LAST_REPORT)
            sending.cancel()
            await asyncio.wait({sending})
        self._last = self._of = self._observation = None
        try:
            await store.forget_worker(self._worker)
        except TROUBLE as error:
            log.warning("worker_not_deregistered", error=f"{type(error).__name__}: {error}")

    def _send_at_once(self) -> None:
        """Send a report, unless one is on its way: whoever looks on does not wait for the next heartbeat."""
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_one(), name="barque-report")

    async def _send_one(self) -> None:
        try:
            with contextlib.suppress(*TROUBLE):  # the heartbeat, which sends them too, says so
                await self.send()
        finally:
            self._sending = None

    def _say_that_it_stands_still(self, seconds: float) -> None:
        """Report from the renewing thread: else a worker whose event loop is blocked would be taken for a dead one."""
        of, last = self._of, self._last
        if of is None or last is None or time.monotonic() - last < _OVERDUE:
            return
        self._last = time.monotonic()  # also where it cannot be said: not again at once
        now_ms = of.engine.clock.now_ms()
        with contextlib.suppress(Exception):  # the leases are what this thread is there for
            report = self._report(of, now_ms, still=seconds)
            store = BlockingStore(blocking_twin(of.store.client))
            try:
                encoded = msgspec.json.encode(report)
                store.report_worker(self._worker, encoded, now_ms=now_ms, keep_ms=_KEEP_MS)
            finally:
                store.close()

    def _report(self, of: _Reported, now_ms: int, *, still: float = 0.0) -> WorkerReport:
        engine = of.engine
        held = [attempt for attempt in list(engine.held.values()) if attempt.started_ms and not attempt.finished]
        lag, worst_lag = engine.loop_watch.take_lag()
        counts, reasons = of.counts(), engine.condition.reasons()
        if still:
            reasons["loop_blocked"] = blocked(still, engine.options.limits.block_limit)
        return WorkerReport(
            worker=self._worker,
            host=os.uname().nodename,
            pid=os.getpid(),
            parent=os.getppid(),
            version=version_of("barque"),
            queues=self._queues,
            concurrency=self._concurrency,
            started_ms=self._started_ms,
            reported_ms=now_ms,
            running=engine.executor.running,
            given_up=engine.executor.given_up,
            succeeded=counts.succeeded,
            retried=counts.retried,
            failed=counts.failed,
            state=next(iter(reasons), "running"),
            reasons={name: bounded(words, LONGEST_ERROR) for name, words in reasons.items()},
            paused=tuple(bounded(name, LONGEST_NAME) for name in engine.pauses.of_ours[:_MOST_NAMED]),
            python=sys.version.partition(" ")[0],
            arq=version_of("arq"),
            rss=memory(),
            cpu_s=round(time.process_time(), 3),
            loop_lag_ms=None if lag is None else round(lag * 1000, 3),
            worst_loop_lag_ms=None if worst_lag is None else round(worst_lag * 1000, 3),
            running_in=_by_queue(held) if len(self._queues) > 1 else {},
            longest=tuple(map(running, heapq.nsmallest(_MOST_LISTED, held, key=lambda one: one.started))),
            failures=tuple(self._failures),
            page=of.page,
            figures=None if self._observation is None else self._observation.figures,
        )


class _Reported(NamedTuple):
    """The worker that is reported of, while it runs."""

    engine: Engine
    store: Store
    counts: Callable[[], Counts]
    revised: Callable[[bytes | None], None]
    page: str


def _by_queue(held: Sequence[Attempt]) -> dict[str, int]:
    counted = Counter(attempt.queue for attempt in held)
    return {bounded(queue, LONGEST_NAME): count for queue, count in counted.most_common(_MOST_NAMED)}


@functools.cache
def version_of(package: str) -> str:
    """Return the version that is installed; "unknown" in a source tree that is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
