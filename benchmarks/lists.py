"""What lists of jobs cost where there are many: `python -m benchmarks.lists`.

Seeds a server of its own, pages through each list, and tells for each how long a page takes, the CPU time it costs this
process and the server, and for how long the server's one thread was kept by the longest command.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.server import Server
from common import Call
from common.codec import Extras, encode_job
from common.dead_letters import About, encode_about
from common.fairness import lane_of
from common.jobs import RemoteError
from common.redis import keys
from common.result_codec import Result, encode_result
from producer import Producer

QUEUE = "arq:queue"
PART = 5000
HOUR = 3600_000
PARKED = 2045 / 2048

LISTS: dict[str, dict[str, Any]] = {
    "all": {},
    "running": {"state": "running"},
    "queued": {"state": "queued"},
    "waiting for a limit": {"state": "waiting"},
    "scheduled": {"state": "scheduled"},
    "dead": {"state": "dead"},
    "succeeded": {"state": "succeeded"},
    "of a tenant": {"state": "queued", "key": "ada"},
    "500 queued": {"state": "queued", "limit": 500},
    "500 scheduled": {"state": "scheduled", "limit": 500},
    "a task that has none": {"task": "none", "state": "queued"},
    "a key that has none": {"key": "none", "state": "queued"},
    "an error that is none's": {"error": "none"},
    "an id": {"id": "scheduled-7"},
}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lists", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000, metavar="N", help="queued; other lists have a share")
    parser.add_argument("--pages", type=int, default=30, metavar="N", help="of each list")
    arguments = parser.parse_args()
    with Server() as server:
        asyncio.run(_measure(server, arguments.jobs, arguments.pages))


async def _measure(server: Server, jobs: int, pages: int) -> None:
    async with Producer(server.url) as producer:
        await _seed(producer, jobs)
        client = producer.store.client
        await client.config_set("slowlog-max-len", 100_000)
        await client.config_set("slowlog-log-slower-than", 0)
        print(f"{server.title}, {jobs:,} jobs queued, {await client.dbsize():,} keys\n")
        print("| List | Page, ms | at the most | CPU, ms | the server's | Longest command, ms | Jobs | Looked at |")
        print("|---|---|---|---|---|---|---|---|")
        for name, filters in LISTS.items():
            await client.slowlog_reset()
            print(await _page_through(server, producer, name, filters, pages), flush=True)


async def _page_through(server: Server, producer: Producer, name: str, filters: dict[str, Any], pages: int) -> str:
    took, cursor, found, looked_at = [], None, 0, 0
    cpu, servers = time.process_time(), server.cpu_seconds()
    while len(took) < pages:
        began = time.perf_counter()
        page = await producer.jobs(cursor=cursor, **filters)
        took.append((time.perf_counter() - began) * 1000)
        found, looked_at, cursor = found + len(page.jobs), looked_at + page.looked_at, page.next
    cpu_each = (time.process_time() - cpu) * 1000 / pages
    servers_each = (server.cpu_seconds() - servers) * 1000 / pages
    log = await producer.store.client.slowlog_get(100_000)
    longest = max(entry["duration"] for entry in log) / 1000
    each = f"{statistics.median(took):.1f} | {max(took):.1f} | {cpu_each:.1f} | {servers_each:.1f} | {longest:.2f}"
    return f"| {name} | {each} | {found / pages:,.0f} | {looked_at / pages:,.0f} |"


async def _seed(producer: Producer, jobs: int) -> None:
    """Store so many jobs, and a share of that on each other list."""
    client: Any = producer.store.client
    now, lane = time.time_ns() // 1_000_000, lane_of("ada")
    for start, end in _parts(jobs):
        await producer.enqueue_many([Call("fetch_url", f"https://example.com/{i}", i) for i in range(start, end)])
    payload = encode_job("fetch_url", ("https://example.com",), {}, enqueued_ms=now)
    of_a_tenant = encode_job("fetch_url", ("https://example.com",), {}, enqueued_ms=now, extras=Extras(lane=lane))
    for prefix, share, score in (("scheduled", 4, now + 2 * HOUR), ("waiting", 20, now + HOUR // 6 + PARKED)):
        for start, end in _parts(jobs // share):
            ids = [f"{prefix}-{i}" for i in range(start, end)]
            await client.zadd(QUEUE, dict.fromkeys(ids, score))
            await client.mset({keys.job(job_id): payload for job_id in ids})
    for start, end in _parts(jobs // 10):
        await client.mset({keys.result(f"ended-{i}"): _result(f"ended-{i}", now + i) for i in range(start, end)})
        ids = [f"laned-{i}" for i in range(start, end)]
        await client.hset(keys.laned(QUEUE), mapping=dict.fromkeys(ids, lane))
        await client.zadd(keys.lane(QUEUE, lane), {job_id: now - i for i, job_id in enumerate(ids)})
        await client.mset(dict.fromkeys(map(keys.job, ids), of_a_tenant))
    about = encode_about(About("fetch_url", QUEUE, error="httpx.ConnectError", message="refused"))
    for start, end in _parts(10_000):
        await client.zadd(keys.DEAD, {f"dead-{i}": now + i for i in range(start, end)})
        await client.hset(keys.DEAD_ABOUT, mapping={f"dead-{i}": about for i in range(start, end)})
    ids = [f"running-{i}" for i in range(1000)]
    await client.zadd(QUEUE, dict.fromkeys(ids, now + HOUR / 10 + 0.5))
    await client.mset({keys.lease(job_id): b"worker:1:1" for job_id in ids})


def _parts(total: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + PART, total)) for start in range(0, total, PART))


def _result(job_id: str, finished_ms: int) -> bytes:
    failed = finished_ms % 2 == 0
    return encode_result(
        Result(
            job_id=job_id,
            task="fetch_url",
            queue=QUEUE,
            success=not failed,
            value=None if failed else 200,
            attempt=1,
            enqueued_ms=finished_ms,
            started_ms=finished_ms,
            finished_ms=finished_ms,
            outcome="failed" if failed else "succeeded",
            worker="worker",
            error=RemoteError("httpx.ConnectError", "refused") if failed else None,
        )
    )


if __name__ == "__main__":
    main()
