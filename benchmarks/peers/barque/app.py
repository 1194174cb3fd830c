"""Barque's tasks, with annotated arguments and results as users write them; a default worker checks both."""

import asyncio
import time

import bodies
from counting import begin, end, report

from common import Context, task


@task
async def noop(_ctx: Context, number: int) -> int:
    return await bodies.noop(number)


@task
async def nap(_ctx: Context, number: int) -> int:
    return await bodies.nap(number)


@task
async def stamp(_ctx: Context, sent_ns: int) -> None:
    await bodies.stamp(sent_ns)


@task
async def hold(_ctx: Context, number: int) -> int:
    """Sleep for a minute: what fills a worker with jobs in flight."""
    begin()
    await asyncio.sleep(60)
    end()
    return number


@task
async def tick(_ctx: Context, number: int) -> int:
    """Report by how much each 5 ms sleep of five seconds overran: how fast the worker's event loop answers.

    Long enough that leases are renewed meanwhile.
    """
    late = []
    for _ in range(1000):
        began = time.monotonic_ns()
        await asyncio.sleep(0.005)
        late.append(time.monotonic_ns() - began - 5_000_000)
    report("ticks", {"late_ns": late})
    return number
