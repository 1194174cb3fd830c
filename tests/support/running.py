"""Fixtures that run Barque: a producer and workers on the test's own server.

    producer      a Producer, open
    run_worker    `worker = await run_worker(task, …, **options of workers.Worker)`: runs until the test ends

A worker that is started here keeps results for a short time only when the test asks: `keep_result` is arq's option.
"""

import asyncio

import pytest
from arq.connections import RedisSettings

from producer import Producer
from workers.worker import Worker

__all__ = ["producer", "run_worker"]


@pytest.fixture
async def producer(redis_url):
    async with Producer(redis_url) as opened:
        yield opened


@pytest.fixture
async def run_worker(redis_url):
    started: list[tuple[Worker, asyncio.Task[None]]] = []

    async def start(*functions, **options) -> Worker:
        options = {"handle_signals": False, "poll_delay": 0.1, "allow_abort_jobs": True} | options
        worker = Worker(functions, redis_settings=RedisSettings.from_dsn(redis_url), **options)
        started.append((worker, asyncio.create_task(worker.async_run())))
        return worker

    yield start
    for worker, running in reversed(started):
        running.cancel()
        await asyncio.wait({running})
        await worker.close()
