"""streaq with its defaults."""

import hanging
from streaq import Worker

worker = Worker(redis_url=hanging.REDIS_URL)


@worker.task
async def hang() -> None:
    await hanging.hang()


async def send():
    async with worker:
        await hang.enqueue()
