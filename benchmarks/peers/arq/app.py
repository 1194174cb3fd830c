"""arq's worker: its own command line, as its documentation starts it."""

import asyncio

import bodies
import uvloop
from arq.connections import RedisSettings
from surroundings import CONCURRENCY, REDIS_URL

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


async def noop(_ctx, number: int) -> int:
    return await bodies.noop(number)


async def nap(_ctx, number: int) -> int:
    return await bodies.nap(number)


async def stamp(_ctx, sent_ns: int) -> None:
    await bodies.stamp(sent_ns)


class WorkerSettings:
    functions = (noop, nap, stamp)
    redis_settings = RedisSettings.from_dsn(REDIS_URL)
    max_jobs = CONCURRENCY
