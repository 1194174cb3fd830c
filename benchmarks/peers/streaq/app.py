"""streaq's worker, run by its own command line."""

import bodies
from streaq import Worker
from surroundings import CONCURRENCY, REDIS_URL

worker = Worker(redis_url=REDIS_URL, concurrency=CONCURRENCY, anyio_kwargs={"use_uvloop": True})


@worker.task(ttl=3600)
async def noop(number: int) -> int:
    return await bodies.noop(number)


@worker.task(ttl=3600)
async def nap(number: int) -> int:
    return await bodies.nap(number)


@worker.task(ttl=3600)
async def stamp(sent_ns: int) -> None:
    await bodies.stamp(sent_ns)
