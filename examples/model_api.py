"""Ask a rate-limited API for many customers at once, and let none of them wait for another's backlog.

    cd examples
    MODEL_API=https://api.example/v1/complete BARQUE_TASKS=model_api barque worker
    python model_api.py acme "first prompt" "second prompt"

The API takes so many requests a minute. Each customer has a share of them, on the whole fleet, so that one who asks ten
thousand things delays nobody; a rate they all shared would give that one the next ten thousand moments. When the API
says 429, nobody asks for that customer until it wants to be asked again. For places in workers customers take turns.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import aiohttp

from common import Context, RateLimit, RetryPolicy, exponential, lifespan, task
from producer import Producer

PER_MINUTE, CUSTOMERS = 600, 10


@lifespan
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


@task(
    timeout=90,
    retry=RetryPolicy(max_attempts=6, backoff=exponential(1, maximum=120)),
    limits=[RateLimit(PER_MINUTE / CUSTOMERS, per=60, burst=10, key="customer", hold_on_retry_after=True)],
    fair_key="customer",
)
async def complete(ctx: Context, customer: str, prompt: str) -> str:
    """Return what the model answers."""
    question = {"prompt": prompt, "customer": customer}
    async with ctx[http].post(os.environ["MODEL_API"], json=question) as answer:
        answer.raise_for_status()  # a 429 or 503 carries when to come back, and Barque heeds it
        return str((await answer.json())["text"])


async def main(customer: str, prompts: list[str]) -> None:
    async with Producer() as producer:
        answers = await producer.gather(*(complete(customer, prompt) for prompt in prompts), timeout=600)
    for prompt, answer in zip(prompts, answers, strict=True):
        print(f"{prompt}: {answer}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
