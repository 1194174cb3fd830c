"""The body of the task that all Python peers run: it notes that it began, and hangs the first time.

DEATHS_LOG names the file it appends to: one line a start, the time on the monotonic clock in seconds, which all
processes of a machine share. The second start returns at once, so that a peer which runs the job again ends it.
"""

import asyncio
import os
import time
from pathlib import Path

REDIS_URL = os.environ["DEATHS_REDIS_URL"]

_LOG = Path(os.environ["DEATHS_LOG"])
_LONG = 7200


def _is_first() -> bool:
    with _LOG.open("a") as log:
        log.write(f"{time.monotonic()}\n")
    return len(_LOG.read_text().splitlines()) == 1


async def hang() -> None:
    if _is_first():
        await asyncio.sleep(_LONG)


def blocking_hang() -> None:
    if _is_first():
        time.sleep(_LONG)
