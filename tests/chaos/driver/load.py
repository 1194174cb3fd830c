"""A producer process: `python -m tests.chaos.driver.load <JSON of a Load>`.

Enqueues at a pace, each job under an id of its own, and writes to its ledger what was acknowledged. An enqueue that
raises is made again under the same id, as a careful program does. Goes on until its standard input ends.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, Protocol

import arq
import msgspec
import redis.exceptions
from arq.connections import ArqRedis, RedisSettings

from common import Call
from common.errors import RedisUnavailable
from producer import Producer
from tests.chaos.driver.ledger import ledger_of_process

__all__ = ["Load"]

_AT_ONCE = 500
"""Enqueues under way at once, the ones that wait for the server included."""

_ASK_AGAIN = 0.05


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What one producer does.

    Attributes:
        engine: whose producer it is.
        prefix: what its job ids begin with.
        per_second: enqueues; a server that is away makes it slower, not wilder.
        longest: seconds of the longest job.
        fail_once: share of jobs that ask for a second attempt.
        delayed: share of jobs with a delay.
        task: the task of all other jobs.
    """

    url: str
    prefix: str
    per_second: float
    seed: int
    longest: float = 0.1
    engine: Literal["barque", "arq"] = "barque"
    fail_once: float = 0.05
    delayed: float = 0.05
    task: str = "work"


class Item(msgspec.Struct, frozen=True):
    """One job to be."""

    job_id: str
    task: str
    args: tuple[float, ...]
    delay: float


class Client(Protocol):
    """What enqueues: returns once the server has the job, raises OSError or RedisUnavailable else."""

    async def enqueue(self, item: Item) -> None: ...


class BarqueClient:
    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def enqueue(self, item: Item) -> None:
        call: Call[object] = Call(item.task, *item.args)
        await self._producer.enqueue(call, job_id=item.job_id, delay=item.delay or None)


class ArqClient:
    def __init__(self, pool: ArqRedis) -> None:
        self._pool = pool

    async def enqueue(self, item: Item) -> None:
        await self._pool.enqueue_job(item.task, *item.args, _job_id=item.job_id, _defer_by=item.delay or None)


@asynccontextmanager
async def connected(load: Load) -> AsyncIterator[Client]:
    if load.engine == "barque":
        async with Producer(load.url, answer_within=5) as producer:
            yield BarqueClient(producer)
        return
    pool = await arq.create_pool(
        RedisSettings.from_dsn(load.url),
        job_serializer=msgspec.msgpack.encode,
        job_deserializer=msgspec.msgpack.decode,
    )
    try:
        yield ArqClient(pool)
    finally:
        await pool.aclose(close_connection_pool=True)


def make_item(load: Load, number: int, chance: random.Random) -> Item:
    job_id = f"{load.prefix}-{number}"
    kind = chance.random()
    seconds = chance.uniform(0.001, load.longest)
    if kind < load.fail_once:
        return Item(job_id, "fail_once", (), 0)
    delay = chance.uniform(0.05, 0.5) if kind < load.fail_once + load.delayed else 0
    return Item(job_id, load.task, (seconds,), round(delay, 3))


async def deliver(client: Client, item: Item) -> None:
    """Enqueue until it is acknowledged."""
    ledger = ledger_of_process()
    # An enqueue that raised may have been taken all the same: the delay runs from the first one.
    sent = time.monotonic()
    while True:
        try:
            await client.enqueue(item)
        except (RedisUnavailable, redis.exceptions.RedisError, OSError):
            ledger.write("u", item.job_id)
            await asyncio.sleep(_ASK_AGAIN)
        else:
            ledger.write("a", item.job_id, f"{sent:.6f}", round(item.delay * 1000))
            return


async def run(load: Load) -> None:
    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), told_to_stop.set)
    chance = random.Random(load.seed)
    began, number = time.monotonic(), 0
    slots = asyncio.Semaphore(_AT_ONCE)
    async with connected(load) as client, asyncio.TaskGroup() as under_way:
        ledger_of_process().write("r")

        async def one(item: Item) -> None:
            try:
                await deliver(client, item)
            finally:
                slots.release()

        while not told_to_stop.is_set():
            while number < (time.monotonic() - began) * load.per_second and not told_to_stop.is_set():
                await slots.acquire()
                under_way.create_task(one(make_item(load, number, chance)))
                number += 1
            await asyncio.sleep(0.005)
    loop.remove_reader(sys.stdin.fileno())


if __name__ == "__main__":
    asyncio.run(run(msgspec.json.decode(sys.argv[1], type=Load)))
