"""What `barque metrics` reads of the fleet, in commands whose number does not grow with the jobs; and whom to scrape.

Owns the reading. The names of the series are fleet_metrics.py's.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from cli.asking import asking
from cli.fleet_metrics import Fleet
from common.redis.control import ControlStore
from common.redis.inspect import queues_in_use
from common.redis.limits import LimitStore
from common.redis.schedules import ScheduleStore
from common.worker_reports import LONGEST_NAME, bounded
from producer import Producer

if TYPE_CHECKING:
    from common.redis.inspect import WorkerReport
    from common.settings import Settings

__all__ = ["read_fleet", "read_targets"]

_MOST_QUEUES = 500
_MOST_GATES = 1000
"""Looked at in one reading: each takes a round trip, or a part of one."""

_OVERDUE_MS = 30_000
"""A tick that is late by less is none to speak of: a worker may be starting."""


def read_fleet(settings: Settings, *, only: bool) -> Fleet:
    """Return what the server knows of the fleet.

    Args:
        only: look at the settings' queues alone, not at those besides that workers serve.

    Raises:
        RedisUnavailable: the server cannot be asked.
    """
    return asyncio.run(_fleet(settings, only=only))


def read_targets(settings: Settings) -> bytes:
    """Return where the workers' pages are, as Prometheus reads it: for http_sd_configs, or a file.

    Raises:
        RedisUnavailable: the server cannot be asked.
    """
    # Processes that one supervisor looks after have one page: scraped twice, it would count twice.
    pages = {(worker.host, worker.page): worker for worker in asyncio.run(_workers(settings)) if worker.page}
    groups = [
        {
            "targets": [page],
            "labels": {
                "__meta_barque_worker": bounded(worker.worker, LONGEST_NAME),
                "__meta_barque_host": bounded(worker.host, LONGEST_NAME),
                "__meta_barque_version": bounded(worker.version, LONGEST_NAME),
            },
        }
        for (_, page), worker in pages.items()
    ]
    return json.dumps(groups).encode() + b"\n"


async def _workers(settings: Settings) -> list[WorkerReport]:
    with asking(settings):
        async with Producer(settings=settings) as producer:
            return await producer.inspector.workers()


async def _fleet(settings: Settings, *, only: bool) -> Fleet:
    with asking(settings):
        async with Producer(settings=settings) as producer:
            inspector, client = producer.inspector, producer.store.client
            workers = await inspector.workers()
            queues = settings.queues if only else queues_in_use(settings.queues, workers)
            limits = LimitStore(client)
            return Fleet(
                [await inspector.queue(queue) for queue in queues[:_MOST_QUEUES]],
                workers,
                await inspector.dead_letters(),
                pauses=(await ControlStore(client).standing()).pauses,
                limits=await limits.standing(most=_MOST_GATES),
                gates=await limits.count(),
                schedules=await ScheduleStore(client).overdue(_OVERDUE_MS),
            )
