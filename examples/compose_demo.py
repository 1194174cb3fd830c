"""Put jobs on the queue of `docker compose`, wait for every result, and show which worker ran how many.

    docker compose up -d --build --scale worker=3
    docker compose --profile demo run --rm demo

Each document is written by one worker and read back by whichever claims the second job; the digest that
comes back is held against one computed here. DEMO_JOBS is how many jobs (two a document), DEMO_WORKERS how
many workers must have had a part. Exits with 0 only if all of that came true.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from common.errors import BarqueError, ResultTimeout
from producer import Job, Producer
from workers.tasks.files import checksum_file, write_file

PATIENCE = 120.0
"""Seconds all jobs of one kind get; far more than they need, so that running out means nobody works."""


def document(number: int) -> str:
    """Return the text of one document; no two are alike."""
    return f"Document {number}\n" * (number % 50 + 1)


async def show(jobs: Sequence[Job[Any]], seconds: float) -> int:
    """Print a table of workers and their jobs; return how many workers there were."""
    infos = await asyncio.gather(*(job.info() for job in jobs))
    counts = Counter((info.worker or "unknown", info.task or "unknown") for info in infos)
    tasks = sorted({task for _, task in counts})
    workers = sorted({worker for worker, _ in counts})
    width = max(map(len, workers), default=6)
    print(f"{'worker':<{width}}", *(f"{task:>14}" for task in tasks), f"{'total':>7}")
    for worker in workers:
        each = [counts[worker, task] for task in tasks]
        print(f"{worker:<{width}}", *(f"{count:>14}" for count in each), f"{sum(each):>7}")
    print(f"{len(jobs)} jobs on {len(workers)} workers in {seconds:.2f} s: {len(jobs) / seconds:.0f} jobs/s")
    return len(workers)


async def main() -> int:
    """Run the demo; return the exit status."""
    documents = max(1, int(os.environ.get("DEMO_JOBS", "500")) // 2)
    workers_wanted = int(os.environ.get("DEMO_WORKERS", "1"))
    paths = [f"demo/{number:05}.txt" for number in range(documents)]
    started = time.perf_counter()
    async with Producer() as producer:
        print(f"Writing {documents} documents, then reading each back …", flush=True)
        writes = await producer.enqueue_many(write_file(path, document(number)) for number, path in enumerate(paths))
        await asyncio.gather(*(job.result(timeout=PATIENCE) for job in writes))
        reads = await producer.enqueue_many(checksum_file(path) for path in paths)
        sums = await asyncio.gather(*(job.result(timeout=PATIENCE) for job in reads))
        workers = await show([*writes, *reads], time.perf_counter() - started)
    wrong = [
        path
        for number, (path, found) in enumerate(zip(paths, sums, strict=True))
        if found.hexdigest != hashlib.sha256(document(number).encode()).hexdigest()
    ]
    if wrong:
        print(f"{len(wrong)} documents came back changed, the first of them {wrong[0]}", file=sys.stderr)
        return 1
    if workers < workers_wanted:
        print(f"{workers_wanted} workers should have had a part; {workers} had one", file=sys.stderr)
        return 1
    print("Every document came back as it was written.")
    return 0


if __name__ == "__main__":
    try:
        status = asyncio.run(main())
    except ResultTimeout as error:
        print(f"{error}\nIs a worker up? docker compose up -d --scale worker=3", file=sys.stderr)
        status = 1
    except BarqueError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        status = 1
    sys.exit(status)
