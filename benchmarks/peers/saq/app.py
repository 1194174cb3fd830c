"""SAQ's queue and worker settings, run by its own command line."""

import asyncio

import bodies
import uvloop
from saq import Queue
from surroundings import CONCURRENCY, REDIS_URL

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

queue = Queue.from_url(REDIS_URL)


async def noop(_ctx, *, number: int) -> int:
    return await bodies.noop(number)


async def nap(_ctx, *, number: int) -> int:
    return await bodies.nap(number)


async def stamp(_ctx, *, number: int) -> None:
    await bodies.stamp(number)


settings = {"queue": queue, "functions": [noop, nap, stamp], "concurrency": CONCURRENCY}
