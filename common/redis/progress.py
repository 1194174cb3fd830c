"""What running jobs say of themselves, in Redis, as typed methods: progress, and the items of streams.

Owns the commands and the layout of these scripts' arguments. What the bytes mean is common/progress.py's; the frames
in which both are pushed are push.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import redis.asyncio

from common.redis import keys
from common.redis.layout import id_bytes
from common.redis.scripts import Script
from common.redis.wire import Argument

__all__ = ["SCRIPTS", "WATCH_MS", "ProgressStore", "Report", "StoredItem"]

REPORT = Script("report")
WATCH = Script("watch")

SCRIPTS = (REPORT, WATCH)

WATCH_MS = 30_000
"""For so long who watches a job is told; it asks again in time."""


class Report(NamedTuple):
    """What one running attempt has to say.

    Attributes:
        token: of its lease.
        keep_ms: for how long from now on all it said is kept; -1 for ever.
        progress: None leaves it as it was.
        first: the number of the first of the items, which have no gaps.
    """

    job_id: str
    token: str
    keep_ms: int
    progress: bytes | None
    first: int
    items: Sequence[bytes]


class StoredItem(NamedTuple):
    """One item: its id in the stream, its number in its run, its bytes."""

    entry: bytes
    number: int
    raw: bytes


class ProgressStore:
    """Progress and streams of the jobs on one server."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def report(self, reports: Sequence[Report]) -> list[bool]:
        """Write what running jobs say; return for each whether its lease still was its own, so that it was written.

        To be sent again where no reply came: nothing is there twice.
        """
        arguments: list[Argument] = []
        for report in reports:
            head = (id_bytes(report.job_id), report.token, report.keep_ms, report.progress or b"", len(report.items))
            arguments += head
            for number, item in enumerate(report.items, report.first):
                arguments += (number, item)
        reply = await REPORT(self.client, (), arguments)
        return [bool(taken) for taken in reply]

    async def watch(self, channel: str, job_ids: Sequence[str]) -> list[bytes | None]:
        """Have what these jobs say pushed to a channel for `WATCH_MS`; return how far each is."""
        reply: list[bytes | None] = await WATCH(self.client, (), (channel, WATCH_MS, *map(id_bytes, job_ids)))
        return reply

    async def progress(self, job_id: str) -> bytes | None:
        """Return how far a job is; None where it has told of nothing, or that is no longer kept."""
        stored: bytes | None = await self.client.get(id_bytes(keys.progress(job_id)))
        return stored

    async def items(self, job_id: str, *, after: bytes | None, most: int) -> list[StoredItem]:
        """Return items of a job's stream, in order.

        Args:
            after: the entry of the last one there was; None starts at the beginning.
            most: there may be more if there are as many.
        """
        start = b"-" if after is None else b"(" + after
        client: Any = self.client
        # One more: a run begins with an entry that is no item.
        found = await client.xrange(id_bytes(keys.stream(job_id)), min=start, max="+", count=most + 1)
        return [
            StoredItem(entry, int(entry.rpartition(b"-")[2]), fields[b"item"])
            for entry, fields in found or ()
            if b"item" in fields
        ][:most]
