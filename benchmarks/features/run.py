"""One run: enqueue the jobs of one variant, then drain them with one worker, both in this process.

    python -m benchmarks.features.run VARIANT JOBS

Prints one JSON object: microseconds of CPU time a job, of the producer, of the worker and of the server for each of
the two, and the worker's rate.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import redis.asyncio
import uvloop

from benchmarks.features.variants import VARIANTS
from common.settings import load_settings
from producer import Producer
from workers.worker import Worker


async def measure(name: str, jobs: int, folder: Path) -> dict[str, float]:
    """Return the figures of one run."""
    variant = VARIANTS[name]
    settings = load_settings(log_file=folder / "worker.log", log_format="json", log_level="INFO")
    async with redis.asyncio.Redis.from_url(settings.redis_url) as server, Producer(settings=settings) as producer:
        await producer.enqueue(variant.task(-1), **variant.enqueue)  # opens connections, loads scripts
        await drain(name, settings)
        marks = [await mark(server)]
        await producer.enqueue_many((variant.task(number) for number in range(jobs)), **variant.enqueue)
        marks.append(await mark(server))
        worker = await drain(name, settings)
        marks.append(await mark(server))
    if worker.jobs_complete != jobs:
        raise SystemExit(f"{name}: {worker.jobs_complete} of {jobs} jobs were done")
    before, between, after = marks
    return {
        "producer_us": per_job(before[1], between[1], jobs),
        "producer_server_us": per_job(before[2], between[2], jobs),
        "worker_us": per_job(between[1], after[1], jobs),
        "worker_server_us": per_job(between[2], after[2], jobs),
        "rate": jobs / (after[0] - between[0]),
    }


async def drain(name: str, settings) -> Worker:
    """Run a worker until the queue is empty, and return it."""
    variant = VARIANTS[name]
    worker = Worker([variant.task], settings=settings, burst=True, handle_signals=False, **variant.worker)
    await worker.async_run()
    await worker.close()
    return worker


async def mark(server: redis.asyncio.Redis) -> tuple[float, float, float]:
    """Return the time, and the CPU seconds of this process and of the server."""
    about = await server.info("cpu")
    return time.perf_counter(), time.process_time(), about["used_cpu_sys"] + about["used_cpu_user"]


def per_job(before: float, after: float, jobs: int) -> float:
    """Return microseconds a job."""
    return (after - before) / jobs * 1e6


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(uvloop.run(measure(sys.argv[1], int(sys.argv[2]), Path(folder)))))
