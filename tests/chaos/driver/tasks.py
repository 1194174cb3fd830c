"""The task set that Barque's workers begin with; a worker imports it by `BARQUE_TASKS`."""

from __future__ import annotations

from common import Context, RetryPolicy, fixed, task
from tests.chaos.driver import bodies

__all__ = ["block", "fail_once", "hold", "linger", "work"]

PATIENT = RetryPolicy(max_attempts=1000, backoff=fixed(0.02))
"""However often its worker is taken away, a job of this suite does not run out of attempts."""


class AgainError(Exception):
    """The first attempt of a job that is to be retried."""


@task(retry=PATIENT, timeout=120)
async def work(ctx: Context, seconds: float) -> int:
    return await bodies.work(ctx.job_id, ctx.attempt, seconds)


@task(retry=PATIENT, timeout=120)
async def fail_once(ctx: Context) -> int:
    return await bodies.fail_once(ctx.job_id, ctx.attempt, AgainError())


@task(retry=PATIENT, timeout=600)
async def hold(ctx: Context) -> int:
    return await bodies.hold(ctx.job_id, ctx.attempt)


@task(retry=PATIENT, timeout=600)
async def linger(ctx: Context) -> int:
    return await bodies.linger(ctx.job_id, ctx.attempt)


@task(retry=PATIENT, timeout=120)
async def block(ctx: Context, seconds: float) -> int:
    return await bodies.block(ctx.job_id, ctx.attempt, seconds)
