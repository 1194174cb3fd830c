"""The next version of the task set: all of the last one, and one task more."""

from __future__ import annotations

from common import Context, task
from tests.chaos.driver import bodies
from tests.chaos.driver.tasks import PATIENT, block, fail_once, hold, linger, work

__all__ = ["block", "fail_once", "hold", "linger", "newcomer", "work"]


@task(retry=PATIENT, timeout=120)
async def newcomer(ctx: Context, seconds: float) -> int:
    return await bodies.work(ctx.job_id, ctx.attempt, seconds)
