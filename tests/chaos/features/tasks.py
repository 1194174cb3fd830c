"""Tasks that combine features, and say in Redis when they ran. A worker imports them by `BARQUE_TASKS`.

Each attempt's start and end is noted over a connection of its own, past whatever the test does to the worker's: a
script that looks, in the same step, whether anybody is inside who must not be. An attempt counts as inside while its
lease is its own, so that one whose worker was killed is out when the server says so and no earlier.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from contextlib import asynccontextmanager

import redis.asyncio

from common import (
    BatchContext,
    CircuitBreaker,
    ConcurrencyLimit,
    Context,
    Discard,
    RateLimit,
    Retry,
    RetryPolicy,
    Snooze,
    Unique,
    fixed,
    task,
)

__all__ = ["AT_ONCE", "DIRECT", "FAULTS", "INSIDE", "RATE", "STARTS", "TASKS"]

DIRECT = "FEATURES_DIRECT_URL"
"""Environment variable: the server, past any proxy."""

INSIDE, STARTS, FAULTS, SNOOZED = "test:inside:", "test:starts", "test:faults", "test:snoozed"
AT_ONCE = 2
RATE = 25

_BEGIN = """
local id, attempt, holder, group, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local at = string.format('%.0f', time[1] * 1000 + time[2] / 1000)
local function holds(id, holder)
  local lease = redis.call('GET', 'arq:in-progress:' .. id)
  return lease and string.sub(lease, 1, #holder) == holder
end
if not holds(id, holder) then return 'ghost' end
redis.call('RPUSH', KEYS[2], at .. ' ' .. ARGV[6] .. ' ' .. attempt .. ' ' .. id)
if redis.call('EXISTS', 'arq:result:' .. id) == 1 then
  redis.call('RPUSH', KEYS[3], at .. ' began after its end: ' .. ARGV[6] .. ' ' .. id .. ' attempt ' .. attempt)
end
local inside, others = 0, {}
for other, its in pairs((function()
  local all, found = redis.call('HGETALL', KEYS[1]), {}
  for i = 1, #all, 2 do found[all[i]] = all[i + 1] end
  return found
end)()) do
  if other == id then
    if its ~= holder and holds(id, its) then redis.call('RPUSH', KEYS[3], at .. ' runs twice at once: ' .. id) end
  elseif holds(other, its) then
    inside = inside + 1
    others[#others + 1] = other
  else
    redis.call('HDEL', KEYS[1], other)
  end
end
if limit > 0 and inside >= limit then
  redis.call('RPUSH', KEYS[3], at .. ' ' .. group .. ' has ' .. inside + 1 .. ' inside: ' .. id .. ' beside '
    .. table.concat(others, ', '))
end
redis.call('HSET', KEYS[1], id, holder)
return 'inside'
"""

_direct: redis.asyncio.Redis | None = None


def direct() -> redis.asyncio.Redis:
    global _direct  # noqa: PLW0603 - one for the process, in the loop of its worker
    if _direct is None:
        _direct = redis.asyncio.Redis.from_url(os.environ[DIRECT])
    return _direct


async def _whatever_cancels(saying: Awaitable[object]) -> None:
    """Say it to the end, and only then be cancelled: nobody is in, or out, whose word is still on its way."""
    said = asyncio.ensure_future(saying)
    cancelled = None
    while not said.done():
        try:
            await asyncio.shield(said)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


@asynccontextmanager
async def inside(ctx: Context, name: str, group: str, limit: int = 0):
    """Note that an attempt is inside of a limit, from here to there."""
    holder = f"{ctx.worker}:{ctx.attempt}:"
    key = INSIDE + group
    try:
        await _whatever_cancels(
            direct().eval(_BEGIN, 3, key, STARTS, FAULTS, ctx.job_id, ctx.attempt, holder, group, limit, name)
        )
        yield
    finally:
        await _whatever_cancels(direct().hdel(key, ctx.job_id))


async def act(ctx: Context, what: str) -> str:
    """Do what a job was made for."""
    match what:
        case "slow":
            await asyncio.sleep(0.4)
        case "flaky" if ctx.attempt == 1:
            raise ConnectionError("the first attempt")
        case "fail":
            raise ValueError("for good")
        case "again" if ctx.attempt < 3:
            raise Retry(after=0.05)
        case "snooze" if await direct().sadd(SNOOZED, ctx.job_id):
            raise Snooze(after=0.2)
        case "discard":
            raise Discard("nothing to do")
        case _:
            await asyncio.sleep(0.01)
    return what


_POLICY = RetryPolicy(max_attempts=4, backoff=fixed(0.2))


@task(retry=_POLICY, timeout=20)
async def bare(ctx: Context, owner: str, what: str) -> str:
    async with inside(ctx, "bare", f"bare:{owner}"):
        ctx.progress(1, 2)
        await ctx.emit(what)
        return await act(ctx, what)


@task(retry=_POLICY, timeout=20, fair_key="owner", limits=[ConcurrencyLimit(AT_ONCE, key="owner")])
async def taking_turns(ctx: Context, owner: str, what: str) -> str:
    async with inside(ctx, "taking_turns", f"turns:{owner}", AT_ONCE):
        return await act(ctx, what)


@task(
    retry=_POLICY,
    timeout=20,
    fair_key="owner",
    limits=[RateLimit(RATE, per=1), ConcurrencyLimit(3), ConcurrencyLimit(AT_ONCE, key="owner", name="rated-each")],
)
async def rated(ctx: Context, owner: str, what: str) -> str:
    async with inside(ctx, "rated", "rated", 3):
        return await act(ctx, what)


@task(
    retry=_POLICY,
    timeout=20,
    fair_key="owner",
    unique=Unique(key="owner", on_conflict="replace"),
    limits=[ConcurrencyLimit(1, name="alone")],
)
async def alone(ctx: Context, owner: str, what: str) -> str:
    async with inside(ctx, "alone", "alone", 1):
        return await act(ctx, what)


@task(
    retry=_POLICY,
    timeout=20,
    priority=2,
    limits=[
        CircuitBreaker(threshold=0.6, minimum=6, window=4, open_for=0.2, open_at_most=0.4),
        ConcurrencyLimit(AT_ONCE),
    ],
)
async def guarded(ctx: Context, owner: str, what: str) -> str:
    async with inside(ctx, "guarded", "guarded", AT_ONCE):
        return await act(ctx, what)


@task(batch=4, within=0.05, retry=_POLICY, timeout=20, limits=[ConcurrencyLimit(6, name="batched")])
async def batched(ctx: BatchContext, items: list[tuple[str, str]]) -> list[str | BaseException]:
    outcomes: list[str | BaseException] = []
    for job, (owner, what) in zip(ctx.jobs, items, strict=True):
        try:
            async with inside(job, "batched", f"batched:{owner}"):
                outcomes.append(await act(job, what))
        except Exception as error:
            outcomes.append(error)
    return outcomes


@task(retry=_POLICY, timeout=20, fair_key="owner", limits=[ConcurrencyLimit(3, name="threads")])
def in_a_thread(ctx: Context, owner: str, what: str) -> str:
    if what == "flaky" and ctx.attempt == 1:
        raise ConnectionError("the first attempt")
    return what


TASKS = (bare, taking_turns, rated, alone, guarded, batched, in_a_thread)
