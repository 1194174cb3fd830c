"""The task of the tests' load: it takes a while, and writes down when it begins and how that ended.

The ledger is a folder on the volume that all workers share, one file a container: what a worker that is killed in the
middle of its jobs had begun is still there to read.
"""

import asyncio
import os
import socket
import time
from pathlib import Path

from common import Context, RetryPolicy, task

LEDGER = Path("/data/ledger")


def write(run: str, *words: object) -> None:
    """Append a line that begins with the time, in one write: lines of several processes do not mix."""
    folder = LEDGER / run
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / socket.gethostname(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (" ".join(map(str, (time.time_ns(), *words))) + "\n").encode())
    finally:
        os.close(descriptor)


@task(name="compose_load", timeout=120, retry=RetryPolicy(max_attempts=10))
async def compose_load(ctx: Context, run: str, number: int, seconds: float) -> int:
    """Take so many seconds, and return the number."""
    write(run, number, ctx.attempt, "begun")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        write(run, number, ctx.attempt, "cancelled")
        raise
    write(run, number, ctx.attempt, "ended")
    return number
