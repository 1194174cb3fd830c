"""Stock arq's worker as a process: `python -m tests.chaos.driver.stock <url> <slots> <timeout>`; no Barque in it.

It reads and writes msgpack, by arq's own recipe, as Barque does.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec
from arq import Retry, func
from arq.connections import RedisSettings
from arq.worker import Worker

from tests.chaos.driver import bodies
from tests.chaos.driver.ledger import ledger_of_process

__all__: list[str] = []


async def work(ctx: dict[str, Any], seconds: float) -> int:
    return await bodies.work(ctx["job_id"], ctx["job_try"], seconds)


async def fail_once(ctx: dict[str, Any]) -> int:
    return await bodies.fail_once(ctx["job_id"], ctx["job_try"], Retry(defer=0.02))


async def hold(ctx: dict[str, Any]) -> int:
    return await bodies.hold(ctx["job_id"], ctx["job_try"])


async def ready(_: dict[str, Any]) -> None:
    ledger_of_process().write("r")


def main() -> None:
    url, slots, timeout = sys.argv[1:]
    asyncio.set_event_loop(asyncio.new_event_loop())
    Worker(
        [func(function, name=function.__name__, max_tries=1000) for function in (work, fail_once, hold)],
        redis_settings=RedisSettings.from_dsn(url),
        max_jobs=int(slots),
        job_timeout=int(timeout),
        poll_delay=0.02,
        on_startup=ready,  # type: ignore[arg-type]  # arq types its contexts as Any
        job_serializer=msgspec.msgpack.encode,
        job_deserializer=msgspec.msgpack.decode,
        log_results=False,
    ).run()


if __name__ == "__main__":
    main()
