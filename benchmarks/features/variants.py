"""One task for each feature that is measured, and how its jobs are enqueued.

Each uses its feature and nothing else, never so that a job has to wait: what is measured is what the feature costs,
not what it is for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from common import AttemptCall, BatchContext, Context, Proceed, RetryPolicy, Unique, lifespan, task
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
    task: Task[[int], int]
    enqueue: Mapping[str, Any] = field(default_factory=dict)
    worker: Callable[[], Mapping[str, Any]] = dict
    jobs: float = 1.0


@task(name="features:plain")
async def plain(_ctx: Context, number: int) -> int:
    return number


@task(name="features:progress")
async def progress(ctx: Context, number: int) -> int:
    ctx.progress(number, number)
    return number


@task(name="features:emit")
async def emit(ctx: Context, number: int) -> int:
    await ctx.emit(number)
    return number


@task(name="features:policy", retry=RetryPolicy(rules={OSError: "fail"}, max_time=3600))
async def with_policy(_ctx: Context, number: int) -> int:
    return number


@task(name="features:soft", soft_timeout=100)
async def with_soft_timeout(_ctx: Context, number: int) -> int:
    return number


@task(name="features:deadline", deadline=3600)
async def with_deadline(_ctx: Context, number: int) -> int:
    return number


@lifespan(lazy=True)
async def numbers() -> AsyncIterator[list[int]]:
    yield []


@task(name="features:resource")
async def with_resource(ctx: Context, number: int) -> int:
    return number + len(await ctx.open(numbers))


async def around(_attempt: AttemptCall, proceed: Proceed) -> Any:
    return await proceed()


@task(name="features:middleware", middleware=[around])
async def with_middleware(_ctx: Context, number: int) -> int:
    return number


@task(name="features:unique", unique=Unique(key="number"))
async def unique(_ctx: Context, number: int) -> int:
    return number


@task(name="features:batch", batch=50, within=0.01)
async def in_batches(_ctx: BatchContext, given: list[int]) -> list[int]:
    return given


@task(name="features:thread")
def in_a_thread(_ctx: Context, number: int) -> int:
    return number


@task(name="features:process", cpu=True)
def in_a_process(_ctx: Context, number: int) -> int:
    return number


VARIANTS: dict[str, Variant] = {
    PLAIN: Variant("none", plain),
    "policy": Variant("`RetryPolicy(rules=…, max_time=…)`", with_policy),
    "attempts": Variant("`enqueue(max_attempts=…)`", plain, {"max_attempts": 3}),
    "soft": Variant("`@task(soft_timeout=…)`", with_soft_timeout),
    "deadline": Variant("`@task(deadline=…)`", with_deadline),
    "own_deadline": Variant("`enqueue(deadline=…)`", plain, {"deadline": 3600}),
    "resource": Variant("`await ctx.open(resource)`", with_resource),
    "middleware": Variant("`@task(middleware=[one])`", with_middleware),
    "batch": Variant("`@task(batch=50)`", in_batches),
    "thread": Variant("`@task` on a plain `def`", in_a_thread, jobs=0.5),
    "process": Variant("`@task(cpu=True)`", in_a_process, jobs=0.1),
    "unique": Variant("`@task(unique=Unique(key=…))`", unique),
    "metadata": Variant("`enqueue(metadata=…)`", plain, {"metadata": {"customer": "17"}}),
    "progress": Variant("`ctx.progress(…)` once", progress, jobs=0.5),
    "emit": Variant("`ctx.emit(…)` once", emit, jobs=0.5),
}
