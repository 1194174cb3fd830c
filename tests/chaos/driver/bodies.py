"""What the jobs of the chaos suite do, whichever worker runs them: each attempt in the ledger, start and end.

Stock arq's workers run these as they are; tasks.py makes Barque's tasks of them.
"""

from __future__ import annotations

import asyncio
import time

from tests.chaos.driver.ledger import ledger_of_process

__all__ = ["block", "fail_once", "hold", "linger", "work"]


async def work(job_id: str, attempt: int, seconds: float) -> int:
    """Wait as I/O does."""
    with ledger_of_process().attempt(job_id, attempt):
        await asyncio.sleep(seconds)
    return attempt


async def fail_once(job_id: str, attempt: int, again: Exception) -> int:
    """Ask for a second attempt, in the first."""
    with ledger_of_process().attempt(job_id, attempt):
        await asyncio.sleep(0)
        if attempt == 1:
            raise again
    return attempt


async def hold(job_id: str, attempt: int) -> int:
    """Never end, the first time: it is in hand, whenever its worker is struck."""
    ledger = ledger_of_process()
    with ledger.attempt(job_id, attempt):
        if ledger.first(job_id):
            await asyncio.Event().wait()
    return attempt


async def linger(job_id: str, attempt: int) -> int:
    """End the first attempt once a second has begun, and the second once the first has ended.

    So what the first says comes too late for certain, and while another has the lease.
    """
    ledger = ledger_of_process()
    over = f"{job_id}-over"
    if ledger.first(job_id):
        try:
            with ledger.attempt(job_id, attempt):
                await ledger.told(f"{job_id}-again")
        finally:
            ledger.first(over)
        return attempt
    with ledger.attempt(job_id, attempt):
        ledger.first(f"{job_id}-again")
        await ledger.told(over)
    return attempt


async def block(job_id: str, attempt: int, seconds: float) -> int:
    """Hold the event loop up, the first time; whoever takes the job over runs through."""
    ledger = ledger_of_process()
    with ledger.attempt(job_id, attempt):
        if ledger.first(job_id):
            began = time.monotonic()
            ledger.note("b", f"{began:.6f}", f"{began + seconds:.6f}")
            time.sleep(seconds)
        await asyncio.sleep(0)
    return attempt
