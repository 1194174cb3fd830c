"""Send what running jobs say of themselves: progress, some times a second, and the items of their streams.

Owns the reports of the attempts that have something to say, and the batches in which they travel: all of a worker's
jobs in one, while one is on the wire the next gathers. An attempt that says nothing has no report, and costs nothing.
What was said goes out before the attempt's outcome is recorded, so that nobody who sees a job end misses its last word.

Survives an absent server as the completer does: of progress the latest value waits, of items as many as `emit` lets
in. What the server refuses for good is logged, and keeps no outcome back.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import structlog

from common.codec import Reading
from common.context import Context
from common.errors import BarqueError, RedisUnavailable
from common.progress import Outlet, StreamLimits, encode_item, encode_progress, encode_value
from common.redis.connection import TROUBLE, is_transient
from common.redis.progress import ProgressStore, Report
from common.redis.reasons import reason
from common.redis.store import Finish
from workers.attempt import Attempt, Outcome
from workers.backoff import Backoff
from workers.clock import ServerClock

__all__ = ["Reporter"]

log = structlog.get_logger("barque.reporter")

_LEAST_BETWEEN = 0.25
"""Seconds between two progress reports of one attempt."""

_MOST_JOBS = 200
"""Jobs in one call of the script."""

_MOST_BYTES = 1024 * 1024
"""Bytes of items in one call, unless a single one is larger: the server does nothing else while it takes them."""

_MOST_WAITING, _MOST_WAITING_BYTES = 1000, 4 * 1024 * 1024
"""Items of one attempt, and bytes, that wait to be sent before `emit` waits, too."""

_KEEP_RUNNING_MS = 3_600_000
"""For so long what was said is kept while the job has not ended, renewed by what is said next and by the refresh."""

_REFRESH_EVERY = 600.0

_KEEP_LEAST_MS = 60_000
"""For so long it is kept after the end where no result is: who follows the job may still be about to fetch it."""


class _AttemptReport:
    """What one attempt has to say; `Outlet` to its context.

    Attributes:
        waiting: the latest progress that is not on the wire, and when it was said (`time.perf_counter()`).
        items: those the server is not known to have, sealed.
        first: the number of the first of them.
        then: what is to be done when all is sent: the attempt has ended.
    """

    __slots__ = (
        "_reporter",
        "attempt",
        "emitted",
        "emitted_bytes",
        "first",
        "items",
        "items_bytes",
        "keep_ms",
        "misspoke",
        "noted",
        "over",
        "refusal",
        "room",
        "sent_at",
        "then",
        "waiting",
    )

    def __init__(self, reporter: Reporter, attempt: Attempt) -> None:
        self._reporter = reporter
        self.attempt = attempt
        self.waiting: tuple[float, float | None, str, float] | None = None
        self.noted = False
        self.misspoke = False
        self.sent_at = -_LEAST_BETWEEN
        self.items: list[bytes] = []
        self.items_bytes = 0
        self.first = 1
        self.emitted = self.emitted_bytes = 0
        self.room: asyncio.Event | None = None
        self.keep_ms = _KEEP_RUNNING_MS
        self.over = False
        self.refusal: str | None = None
        self.then: Callable[[], None] | None = None

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Take note of how far it is; from any thread."""
        self.waiting = (done, total, message, time.perf_counter())
        if not self.noted:
            self.noted = True
            self._reporter.note(self)

    async def emit(self, value: Any) -> None:
        """Add an item, when there is room.

        Raises:
            NotSerializable, PayloadTooLarge, StreamFull: see `Context.emit`.
            RedisUnavailable: the server refuses this job's items.
            BarqueError: the attempt has ended.
        """
        raw = encode_value(value)
        while (
            len(self.items) >= _MOST_WAITING or (self.items and self.items_bytes + len(raw) > _MOST_WAITING_BYTES)
        ) and not (self.over or self.refusal):
            if self.room is None:
                self.room = asyncio.Event()
            self.room.clear()
            await self.room.wait()
        attempt = self.attempt
        if self.refusal is not None:
            raise RedisUnavailable(f"the items of job {attempt.job_id} cannot be sent: {self.refusal}")
        if self.over:
            raise BarqueError(f"attempt {attempt.number} of job {attempt.job_id} has ended, or lost its lease: no emit")
        reporter = self._reporter
        reporter.limits.check(f"job {attempt.job_id}", len(raw), items=self.emitted, total=self.emitted_bytes)
        self.emitted += 1
        self.emitted_bytes += len(raw)
        sealed = encode_item(
            raw, attempt=attempt.number, number=self.emitted, job_id=attempt.job_id, reading=reporter.reading
        )
        self.items.append(sealed)
        self.items_bytes += len(sealed)
        reporter.add(self)

    def end(self) -> None:
        """Take nothing more."""
        self.over = True
        self.make_room()

    def sent(self, items: int) -> None:
        """Forget the first items: the server has them."""
        self.items_bytes -= sum(map(len, self.items[:items]))
        del self.items[:items]
        self.first += items
        self.make_room()

    def make_room(self) -> None:
        """Let those go on who wait to emit."""
        if self.room is not None:
            self.room.set()


class _Silence:
    """The outlet of an attempt that is over: what it says reaches nobody."""

    def progress(self, done: float, total: float | None, message: str) -> None:
        pass

    async def emit(self, value: Any) -> None:  # noqa: ARG002
        raise BarqueError("this attempt has ended: no emit")


class _Sending(NamedTuple):
    """One report on the wire, and what of its attempt it holds."""

    of: _AttemptReport
    progress: tuple[float, float | None, str, float] | None
    record: Report


class Reporter:
    """Sends the reports of one worker's attempts.

    Args:
        held: the attempts of this worker by job id.
        patience: seconds to wait for a reply.

    Attributes:
        reports: of the attempts that have said something, until they end.
    """

    def __init__(
        self,
        store: ProgressStore,
        held: Mapping[str, Attempt],
        *,
        clock: ServerClock,
        reading: Reading,
        limits: StreamLimits,
        patience: float,
    ) -> None:
        self._store = store
        self._held = held
        self._clock = clock
        self.reading = reading
        self.limits = limits
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._due: dict[_AttemptReport, None] = {}
        self._sender: asyncio.Task[None] | None = None
        self._refreshing: asyncio.TimerHandle | None = None
        self._backoff = Backoff()
        self._closed = False
        self.reports: dict[Attempt, _AttemptReport] = {}

    def outlet(self, context: Context) -> Outlet:
        """Return where an attempt's progress and items go: called when it says something for the first time."""
        attempt = self._held.get(context.job_id)
        if attempt is None or attempt.finished or attempt.number != context.attempt:
            return _Silence()
        return self.reports.setdefault(attempt, _AttemptReport(self, attempt))

    def note(self, report: _AttemptReport) -> None:
        """Send a report's progress as soon as it may be; from any thread."""
        if threading.get_ident() == self._thread:
            self._schedule(report)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the worker is gone
                self._loop.call_soon_threadsafe(self._schedule, report)

    def add(self, report: _AttemptReport) -> None:
        """Send a report with the next batch."""
        if report.over and report.then is None:
            return
        self._due[report] = None
        if self._sender is None and not self._closed:
            self._sender = self._loop.create_task(self._send_all(), name="barque-reporter")
        if self._refreshing is None and not self._closed:
            self._refreshing = self._loop.call_later(_REFRESH_EVERY, self._refresh)

    def last_words(self, outcome: Outcome, then: Callable[[], None]) -> None:
        """Call `then` when all is sent that the attempt said; at once if it said nothing, or its lease is lost."""
        report = self.reports.pop(outcome.attempt, None)
        if report is None:
            then()
            return
        report.end()
        record = outcome.record
        if record is None:
            self._due.pop(report, None)
            then()
            return
        if isinstance(record, Finish):
            report.keep_ms = record.keep_ms if record.keep_ms < 0 else max(record.keep_ms, _KEEP_LEAST_MS)
        else:
            wait_ms = float(record.when) - (0 if record.how == "retry" else self._clock.now_ms())
            report.keep_ms = _KEEP_RUNNING_MS + max(0, round(wait_ms))
        report.then = then
        self.add(report)

    def close(self) -> None:
        """Send no more."""
        self._closed = True
        if self._sender is not None:
            self._sender.cancel()
        if self._refreshing is not None:
            self._refreshing.cancel()

    def _schedule(self, report: _AttemptReport) -> None:
        wait = report.sent_at + _LEAST_BETWEEN - self._loop.time()
        if wait <= 0:
            self.add(report)
        else:
            self._loop.call_later(wait, self.add, report)

    def _refresh(self) -> None:
        self._refreshing = None
        for report in self.reports.values():
            self.add(report)

    async def _send_all(self) -> None:
        try:
            while self._due:
                batch = self._take()
                try:
                    await self._send(batch)
                except BaseException:
                    self._take_back(batch)
                    raise
        finally:
            self._sender = None
            if self._due and not self._closed:  # cancelled with all tasks of the loop, while there are last words
                self._loop.call_soon(self.add, next(iter(self._due)))

    def _take(self) -> list[_Sending]:
        """Take what goes on the wire together."""
        batch: list[_Sending] = []
        size = 0
        while self._due and len(batch) < _MOST_JOBS and (size < _MOST_BYTES or not batch):
            report = next(iter(self._due))
            del self._due[report]
            progress, report.waiting, report.noted = report.waiting, None, False
            count = 0
            for item in report.items:
                if count and size + len(item) > _MOST_BYTES:
                    break
                size += len(item)
                count += 1
            attempt = report.attempt
            record = Report(
                attempt.job_id,
                attempt.lease.token,
                report.keep_ms,
                self._encoded(report, progress),
                report.first,
                report.items[:count],
            )
            report.sent_at = self._loop.time()
            batch.append(_Sending(report, progress, record))
        return batch

    def _encoded(self, report: _AttemptReport, progress: tuple[float, float | None, str, float] | None) -> bytes | None:
        if progress is None:
            return None
        attempt = report.attempt
        done, total, message, said_at = progress
        try:
            return encode_progress(
                done,
                total,
                message,
                attempt=attempt.number,
                at_ms=self._clock.at(said_at),
                job_id=attempt.job_id,
                reading=self.reading,
            )
        except Exception as error:  # numbers and texts of a user's own may raise anything
            if not report.misspoke:
                report.misspoke = True
                said = f"{type(error).__name__}: {error}"
                log.warning("progress_refused", job_id=attempt.job_id, task=attempt.task_name, error=said)
            return None

    def _take_back(self, batch: list[_Sending]) -> None:
        for sending in batch:
            if sending.of.waiting is None:
                sending.of.waiting = sending.progress
            self._due[sending.of] = None

    async def _send(self, batch: list[_Sending]) -> None:
        try:
            async with asyncio.timeout(self._patience):
                taken = await self._store.report([sending.record for sending in batch])
        except TROUBLE as error:
            if not is_transient(error):
                await self._send_apart(batch, error)
                return
            delay = self._backoff.next()
            said = f"{type(error).__name__}: {reason(error)[0]}"
            log.warning("progress_waits", error=said, jobs=len(batch), again_in_s=round(delay, 3))
            await asyncio.sleep(delay)
            self._take_back(batch)
            return
        self._backoff.reset()
        for sending, was_taken in zip(batch, taken, strict=True):
            if was_taken:
                sending.of.sent(len(sending.record.items))
            else:  # its lease is another's by now, who says what there is to say
                self._give_up(sending.of)
            self._go_on(sending.of)

    async def _send_apart(self, batch: list[_Sending], error: Exception) -> None:
        """Let all others through, where the server refuses one for good."""
        if len(batch) > 1:
            while batch:
                await self._send([batch[-1]])
                batch.pop()
            return
        report = batch[0].of
        report.refusal = reason(error)[0]  # not the server's own words, which may quote what was sent
        attempt = report.attempt
        log.error(
            "progress_not_sent",
            job_id=attempt.job_id,
            task=attempt.task_name,
            attempt=attempt.number,
            items=len(report.items),
            error=report.refusal,
        )
        self._give_up(report)
        self._go_on(report)

    def _give_up(self, report: _AttemptReport) -> None:
        report.sent(len(report.items))
        report.waiting = None
        if report.refusal is None:
            report.end()

    def _go_on(self, report: _AttemptReport) -> None:
        if report.items or (report.then is not None and report.waiting is not None):
            self._due[report] = None
        elif report.then is not None and report not in self._due:
            then, report.then = report.then, None
            then()
