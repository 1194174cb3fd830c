"""arq's enqueuing side. It has no bulk call: many single ones are awaited at once, a thousand in flight."""

import asyncio

from arq.connections import RedisSettings, create_pool
from surroundings import REDIS_URL

_AT_ONCE = 1000


class Client:
    async def open(self) -> None:
        self.pool = await create_pool(RedisSettings.from_dsn(REDIS_URL))

    async def close(self) -> None:
        await self.pool.aclose()

    async def enqueue(self, task: str, number: int):
        return await self.pool.enqueue_job(task, number)

    async def enqueue_many(self, task: str, numbers: list[int]) -> None:
        for start in range(0, len(numbers), _AT_ONCE):
            part = numbers[start : start + _AT_ONCE]
            await asyncio.gather(*(self.pool.enqueue_job(task, number) for number in part))

    async def result(self, job):
        return await job.result(timeout=10, poll_delay=0.001)
