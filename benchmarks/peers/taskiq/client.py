"""taskiq's enqueuing side. It has no bulk call: many single ones are awaited at once, a thousand in flight."""

import asyncio

import app

_AT_ONCE = 1000


class Client:
    async def open(self) -> None:
        self.tasks = {"noop": app.noop, "nap": app.nap, "stamp": app.stamp}
        await app.broker.startup()

    async def close(self) -> None:
        await app.broker.shutdown()

    async def enqueue(self, task: str, number: int):
        return await self.tasks[task].kiq(number)

    async def enqueue_many(self, task: str, numbers: list[int]) -> None:
        send = self.tasks[task].kiq
        for start in range(0, len(numbers), _AT_ONCE):
            await asyncio.gather(*(send(number) for number in numbers[start : start + _AT_ONCE]))

    async def result(self, handle):
        return (await handle.wait_result(check_interval=0.001, timeout=10)).return_value
