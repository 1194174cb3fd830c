"""A worker whose jobs leave garbage behind that only the collector finds: how much of it there is at once."""

import sys

import pytest

from common import Call
from tests.support.fleet import start_workers
from tests.support.running import producer

__all__ = ["producer", "start_workers"]

pytestmark = [
    pytest.mark.leaves_keys("arq:result:*", "barque:*"),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process is not told its size at once"),
]

TASKS = """
import re
from pathlib import Path

from common import Context, task

@task
async def plain(ctx: Context) -> None:
    pass

@task
async def fail_within(ctx: Context) -> None:
    body = b"x" * (1_000_000 + ctx.attempt)  # made now, so that it takes memory
    try:
        raise ValueError
    except ValueError as error:
        kept = error  # its traceback leads to this frame, and this frame to it

@task
async def most_memory(ctx: Context) -> int:
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1000
"""


async def test_large_bodies_in_cycles_are_freed_though_few_objects_were_made(producer, start_workers):
    # The interval grows while jobs leave nothing behind; then each leaves a megabyte, in a handful of objects.
    await start_workers(1, TASKS)
    for job in await producer.enqueue_many(Call("plain") for _ in range(5000)):
        await job.wait(timeout=30)
    before = await (await producer.enqueue(Call("most_memory"))).result(timeout=30)
    for job in await producer.enqueue_many(Call("fail_within") for _ in range(1500)):
        await job.wait(timeout=30)
    after = await (await producer.enqueue(Call("most_memory"))).result(timeout=30)
    assert after - before < 350, f"{before} MB before, {after} MB after"
