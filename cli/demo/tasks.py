"""The demo's own task, as a user would write one: on top of a task that ships.

The workers import this module by `BARQUE_TASKS`. What it fetches and how stands in `workers.tasks.http`.
"""

from __future__ import annotations

import msgspec

from common import Context, RetryPolicy, exponential, task
from workers.tasks.http import Page, fetch_url
from workers.tasks.http_errors import NOT_RETRIED

__all__ = ["ATTEMPTS", "Checksum", "fetch_checksum"]

ATTEMPTS = 8
"""Attempts a fetch has: with one failure in four, eight in a row are one case in 65,000."""


class Checksum(msgspec.Struct, frozen=True, kw_only=True):
    """What is worth keeping of a page; its body stays on the worker.

    Attributes:
        size: bytes of the body.
        sha256: of the body, hexadecimal.
        attempts: attempts it took, this one included.
        worker: the id of the worker that got it.
        elapsed_ms: of the request that got through.
    """

    status: int
    size: int
    sha256: str
    attempts: int
    worker: str
    elapsed_ms: float


@task(retry=RetryPolicy(max_attempts=ATTEMPTS, backoff=exponential(0.25, maximum=5), fail_on=NOT_RETRIED))
async def fetch_checksum(ctx: Context, url: str) -> Checksum:
    """Fetch a URL as `fetch_url` does and return the checksum of its body, not the body.

    Raises:
        HttpError: as `fetch_url`.
    """
    page: Page = await fetch_url.function(ctx, url)
    return Checksum(
        status=page.status,
        size=len(page.body),
        sha256=page.sha256,
        attempts=ctx.attempt,
        worker=ctx.worker,
        elapsed_ms=page.elapsed_ms,
    )
