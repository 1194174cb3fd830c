"""What a worker says of itself to `barque status`: its report, refreshed every few seconds and gone with it.

Owns the schedule and the contents of the reports. What a report looks like in Redis is inspect.py's and store.py's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib import metadata
from typing import NamedTuple

import msgspec
import structlog

from common.redis.connection import TROUBLE
from common.redis.inspect import WorkerReport
from common.redis.store import Store

__all__ = ["Counts", "Reports"]

log = structlog.get_logger("barque.worker")

_REPORT_EVERY = 5.0
"""Seconds between a worker's reports; a report is believed for three of them."""


class Counts(NamedTuple):
    """Attempts a worker has recorded, by how they ended."""

    succeeded: int
    retried: int
    failed: int


class Reports:
    """Reports of one worker."""

    def __init__(self, worker: str, queues: Sequence[str], concurrency: int) -> None:
        self._worker = worker
        self._queues = tuple(queues)
        self._concurrency = concurrency
        self._started_ms = 0
        self._last: float | None = None

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        return self._last is None or time.monotonic() - self._last >= _REPORT_EVERY

    async def send(self, store: Store, counts: Counts, *, running: int, given_up: int, now_ms: int) -> bytes | None:
        """Publish a report; `now_ms` is the server's clock, Unix ms. Return the revision of the fleet's schedules."""
        self._started_ms = self._started_ms or now_ms
        report = WorkerReport(
            worker=self._worker,
            host=os.uname().nodename,
            pid=os.getpid(),
            version=_version(),
            queues=self._queues,
            concurrency=self._concurrency,
            started_ms=self._started_ms,
            reported_ms=now_ms,
            running=running,
            given_up=given_up,
            succeeded=counts.succeeded,
            retried=counts.retried,
            failed=counts.failed,
        )
        keep_ms = round(3 * _REPORT_EVERY * 1000)
        revision = await store.report_worker(self._worker, msgspec.json.encode(report), now_ms=now_ms, keep_ms=keep_ms)
        self._last = time.monotonic()
        return revision

    async def withdraw(self, store: Store) -> None:
        """Take the report back at a stop; a server that cannot be asked forgets it by itself."""
        self._last = None
        try:
            await store.forget_worker(self._worker)
        except TROUBLE as error:
            log.warning("worker_not_deregistered", error=f"{type(error).__name__}: {error}")


def _version() -> str:
    try:
        return metadata.version("barque")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
