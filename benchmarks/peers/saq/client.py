"""SAQ's enqueuing side. It has no bulk call: many single ones are awaited at once, a thousand in flight.

ttl is what the others keep results for; SAQ's default is ten minutes.
"""

import asyncio

from saq import Queue
from surroundings import REDIS_URL

_AT_ONCE = 1000
_KEEP = 3600


class Client:
    async def open(self) -> None:
        self.queue = Queue.from_url(REDIS_URL)
        await self.queue.connect()

    async def close(self) -> None:
        await self.queue.disconnect()

    async def enqueue(self, task: str, number: int):
        return await self.queue.enqueue(task, number=number, ttl=_KEEP)

    async def enqueue_many(self, task: str, numbers: list[int]) -> None:
        for start in range(0, len(numbers), _AT_ONCE):
            await asyncio.gather(*(self.enqueue(task, number) for number in numbers[start : start + _AT_ONCE]))

    async def round_trip(self, task: str, number: int):
        # `job.refresh`, which listens, would miss the end of a job that ended before it did.
        return await self.queue.apply(task, number=number, timeout=10, ttl=_KEEP, poll_interval=0.001)
