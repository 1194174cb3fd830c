"""Send webhooks to customers: signed, tried for a day, gentle with a customer whose endpoint is down.

    cd examples
    BARQUE_TASKS=webhook_sender barque worker
    python webhook_sender.py https://example.org/hook 42

A delivery that fails is tried again, later each time, for a day at the most, and then is a dead letter:
`barque dead list`, and `barque dead replay --task deliver` once the customer has mended it. While most deliveries to
one host fail, the others to it wait instead of failing too. An endpoint that says 410 Gone is not asked again.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from common import CircuitBreaker, ConcurrencyLimit, Context, Discard, RetryPolicy, exponential, lifespan, task
from producer import Producer


@dataclass
class Delivery:
    """One event for one customer."""

    url: str
    event: str
    order: int


@lifespan
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        yield session


def customer_of(delivery: Delivery, **_: Any) -> str:
    return urlsplit(delivery.url).netloc


@task(
    timeout=20,
    deadline=24 * 3600,
    retry=RetryPolicy(max_attempts=20, backoff=exponential(5, maximum=2 * 3600)),
    limits=[ConcurrencyLimit(4, key=customer_of), CircuitBreaker(key=customer_of, open_for=60)],
    keep_result=3600,
)
async def deliver(ctx: Context, delivery: Delivery) -> int:
    """Post the event; return the status the customer answered with."""
    body = json.dumps({"event": delivery.event, "order": delivery.order}).encode()
    secret = os.environ.get("WEBHOOK_SIGNING_SECRET", "change me").encode()
    headers = {
        "Content-Type": "application/json",
        "X-Signature": hmac.new(secret, body, hashlib.sha256).hexdigest(),
        # The same in every attempt: the customer can tell a repetition from a second event.
        "X-Delivery": ctx.job_id,
    }
    async with ctx[http].post(delivery.url, data=body, headers=headers) as answer:
        if answer.status == 410:
            raise Discard(f"{delivery.url} is gone")
        answer.raise_for_status()
        return answer.status


async def main(url: str, order: int) -> None:
    async with Producer() as producer:
        # The id says what it is: however often this order is paid, its webhook goes out once.
        job = await producer.enqueue(deliver(Delivery(url, "order.paid", order)), job_id=f"order.paid:{order}")
        print(job.job_id, "answered with", await job.result(timeout=60))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
