"""Wait for many jobs: gather, as_completed, map.

Owns the order in which results are handed out and the window of `map`. Works on handles; knows no Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from common.errors import BarqueError, ConfigurationError, ResultTimeout
from common.tasks import Call
from producer.job import Job

__all__ = ["as_completed", "map_calls", "results", "results_and_errors"]

R = TypeVar("R")
T = TypeVar("T")

_TAKEN_AT_ONCE = 500
"""Items taken and enqueued together: a round trip for hundreds, and the first ones start before the last are read."""


async def results(jobs: Sequence[Job[R]], seconds: float | None) -> list[R]:
    """Return the results in order; raise the first failure there is."""
    async with _deadline(jobs, seconds):
        tasks = [asyncio.ensure_future(job.result()) for job in jobs]
        try:
            return await asyncio.gather(*tasks)
        finally:
            await _end(tasks)


async def results_and_errors(jobs: Sequence[Job[R]], seconds: float | None) -> list[R | BarqueError]:
    """Return the results in order, a failure in the place of its result."""

    async def settle(job: Job[R]) -> R | BarqueError:
        try:
            return await job.result()
        except BarqueError as error:
            return error

    async with _deadline(jobs, seconds):
        tasks = [asyncio.ensure_future(settle(job)) for job in jobs]
        try:
            return await asyncio.gather(*tasks)
        finally:
            await _end(tasks)


async def as_completed(jobs: Sequence[Job[R]], seconds: float | None) -> AsyncIterator[Job[R]]:
    """Yield the jobs as they end, each with its result at hand."""
    ended: asyncio.Queue[tuple[Job[R], BaseException | None]] = asyncio.Queue()

    async def watch(job: Job[R]) -> None:
        try:
            await job.wait()
        except BarqueError as error:
            ended.put_nowait((job, error))
        else:
            ended.put_nowait((job, None))

    tasks = [asyncio.ensure_future(watch(job)) for job in jobs]
    until = None if seconds is None else asyncio.get_running_loop().time() + seconds
    try:
        for left in range(len(jobs), 0, -1):
            try:
                async with asyncio.timeout_at(until):
                    job, error = await ended.get()
            except TimeoutError:
                raise ResultTimeout(
                    f"{left} of {len(jobs)} jobs have no result after {seconds:g} s", job_id=""
                ) from None
            if error is not None:
                raise error
            yield job
    finally:
        await _end(tasks)


async def map_calls(
    enqueue_many: Callable[[Iterable[Call[R]]], Awaitable[list[Job[R]]]],
    task: Callable[[T], Call[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    window: int,
    ordered: bool,
) -> AsyncIterator[R]:
    """Yield the result of each item's job, with at most `window` jobs on their way."""
    if window < 1:
        raise ConfigurationError(f"map(window={window!r}): at least one job must be on its way")
    take = _taker(items)
    waiting: deque[asyncio.Task[R]] = deque()
    pending: set[asyncio.Task[R]] = set()
    more = True
    try:
        while more or waiting or pending:
            # Refill by the quarter: a round trip for many items, not one for each that was handed out.
            while more and (room := window - len(waiting) - len(pending)) >= max(1, window // 4):
                chunk = await take(min(room, _TAKEN_AT_ONCE))
                more = bool(chunk)
                for job in await enqueue_many([task(item) for item in chunk]):
                    one = asyncio.ensure_future(job.result())
                    waiting.append(one) if ordered else pending.add(one)
            if ordered and waiting:
                yield await waiting.popleft()
            elif pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    yield one.result()
    finally:
        await _end([*waiting, *pending])


def _taker(items: Iterable[T] | AsyncIterable[T]) -> Callable[[int], Awaitable[list[T]]]:
    """Return a function that takes up to n items; an empty list says there are no more."""
    if isinstance(items, AsyncIterable):
        source = aiter(items)

        async def take_one(_: int) -> list[T]:
            # One by one: an async source may be slow, and what it gave must not wait for its next item.
            try:
                return [await anext(source)]
            except StopAsyncIteration:
                return []

        return take_one
    iterator = iter(items)

    async def take(most: int) -> list[T]:
        return list(itertools.islice(iterator, most))

    return take


async def _end(tasks: Iterable[asyncio.Task[R]]) -> None:
    """Cancel what still waits. The jobs themselves go on."""
    left = list(tasks)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@contextlib.asynccontextmanager
async def _deadline(jobs: Sequence[Job[R]], seconds: float | None) -> AsyncIterator[None]:
    """Turn "too late for all of them" into one ResultTimeout."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise ResultTimeout(f"{len(jobs)} jobs were not all done after {seconds:g} s", job_id="") from None
