"""Purging a queue: all jobs that wait in it end as cancelled, once somebody has typed how many there are.

Owns the confirmation and for how long one request goes on with it. Jobs that run are left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from common.errors import ConfigurationError
from dashboard.pages.acting import Asked
from dashboard.pages.notices import Notice
from dashboard.pages.view import Page, View
from producer.aborting import Aborted

__all__ = ["PURGE", "purge_queue"]

_WITHIN = 20.0
"""Seconds one request goes on; a million jobs take longer, and somebody looks at a page that does not come."""


async def _read(view: View) -> Mapping[str, Any]:
    queue = view.path["queue"]
    look = await view.look()
    report = await view.ask(f"the queue {queue}", lambda producer: producer.inspector.queue(queue))
    running = look.fleet.running(queue)
    later = max(0, report.scheduled - running)
    return {"queue": queue, "due": report.queued, "later": later, "number": report.queued + later, "running": running}


PURGE = Page("purge.html", "queues", _read, is_live=False)


async def purge_queue(asked: Asked) -> Notice:
    """End all jobs that wait in a queue."""
    queue, typed = asked.view.path["queue"], asked.form.get("number", "").replace(",", "")
    if not typed or typed != asked.form.get("expected"):
        raise ConfigurationError(f"nothing was done: {typed or 'nothing'} was typed, not {asked.form.get('expected')}")
    done = Aborted()

    def note(so_far: Aborted) -> None:
        nonlocal done
        done = so_far

    finished = False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_WITHIN):
            keeps = "keep_results" in asked.form
            done = await asked.producer.purge(queue, keep_results=keeps, progress=note)
            finished = True
    ended = f"{done.cancelled:,} {'job' if done.cancelled == 1 else 'jobs'} of {queue} ended as cancelled"
    if not finished:
        return Notice(f"{ended} so far. There are more: purge it again to go on.", "plain")
    unreadable = f" {done.unreadable:,} cannot be read here, and were left alone." if done.unreadable else ""
    return Notice(f"Purged: {ended}.{unreadable}", then=asked.view.link("/queues"))
