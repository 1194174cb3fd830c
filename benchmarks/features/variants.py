"""One task for each feature that is measured, and how its jobs are enqueued.

Each uses its feature and nothing else, never so that a job has to wait: what is measured is what the feature costs,
not what it is for.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from common import (
    AttemptCall,
    BatchContext,
    CircuitBreaker,
    ConcurrencyLimit,
    Context,
    Proceed,
    RateLimit,
    RetryPolicy,
    Throttle,
    Unique,
    lifespan,
    task,
)
from common.tasks import Task

__all__ = ["PLAIN", "VARIANTS", "Variant"]

PLAIN = "plain"


@dataclass(frozen=True)
class Variant:
    """A task, and what its jobs are enqueued with.

    Attributes:
        title: as the table shows it.
        jobs: how many are run, as a share of those of a plain task.
        worker: options of the worker that runs them.
    """

    title: str
    task: Task[[int], Any]
    enqueue: Mapping[str, Any] = field(default_factory=dict)
    worker: Mapping[str, Any] = field(default_factory=dict)
    jobs: float = 1.0


POLICY = RetryPolicy(max_attempts=5, max_time=3600, rules={ValueError: "fail", KeyError: "ignore"})


async def give_back(_ctx: Context, number: int) -> int:
    return number


def like_plain(name: str, **options: Any) -> Task[[int], int]:
    """Return a task that does what the plain one does, under a name of its own."""

    @functools.wraps(give_back)
    async def function(ctx: Context, number: int) -> int:
        return await give_back(ctx, number)

    return task(name=f"features:{name}", **options)(function)


plain = task(name="features:plain")(give_back)


@task(name="features:threads")
def in_a_thread(_ctx: Context, number: int) -> int:
    return number


@task(name="features:processes", cpu=True)
def in_a_process(_ctx: Context, number: int) -> int:
    return number


@task(name="features:batch", batch=50, within=0.005)
async def together(_ctx: BatchContext, numbers: list[int]) -> list[int]:
    return numbers


@task(name="features:progress")
async def tells_its_progress(ctx: Context, number: int) -> int:
    ctx.progress(1, 2)
    return number


@task(name="features:emit")
async def emits(ctx: Context, number: int) -> int:
    await ctx.emit(number)
    return number


@lifespan
async def shared() -> AsyncIterator[int]:
    yield 1


@task(name="features:resource")
async def uses_a_resource(ctx: Context, number: int) -> int:
    return number * ctx[shared]


async def around(_attempt: AttemptCall, proceed: Proceed) -> Any:
    return await proceed()


VARIANTS: dict[str, Variant] = {
    PLAIN: Variant("none", plain),
    "metadata": Variant("`enqueue(metadata=…)`", plain, {"metadata": {"customer": "17"}}),
    "policy": Variant("`RetryPolicy(rules=…, max_time=…)`", like_plain("policy", retry=POLICY)),
    "attempts": Variant("`enqueue(max_attempts=…)`", plain, {"max_attempts": 3}),
    "deadline": Variant("`deadline=`, `soft_timeout=`", like_plain("deadline", deadline=3600, soft_timeout=200)),
    "priority": Variant("`priority=`", like_plain("priority", priority=3)),
    "fair": Variant("`fair_key=`, one customer", plain, {"fair_key": "customer"}),
    "customers": Variant("`fair_key=`, each job another's", like_plain("customers", fair_key="number")),
    "weights": Variant("three queues by weight", plain, {}, {"queues": {"arq:queue": 6, "b": 3, "c": 1}}),
    "rate": Variant("`RateLimit`", like_plain("rate", limits=[RateLimit(1_000_000, burst=1_000_000)])),
    "concurrency": Variant("`ConcurrencyLimit`", like_plain("concurrency", limits=[ConcurrencyLimit(10_000)])),
    "breaker": Variant("`CircuitBreaker`", like_plain("breaker", limits=[CircuitBreaker()])),
    "unique": Variant("`Unique`", like_plain("unique", unique=Unique())),
    "throttle": Variant("`Throttle`", like_plain("throttle", unique=Throttle(60))),
    "middleware": Variant("one middleware", like_plain("middleware", middleware=[around])),
    "resource": Variant("`ctx[resource]`", uses_a_resource, {}, {"lifespans": [shared]}),
    "progress": Variant("`ctx.progress()` once", tells_its_progress),
    "emit": Variant("`ctx.emit()` once", emits, jobs=0.5),
    "threads": Variant("a plain `def`", in_a_thread, jobs=0.5),
    "processes": Variant("`cpu=True`", in_a_process, jobs=0.1),
    "batch": Variant("`batch=50`", together),
}
