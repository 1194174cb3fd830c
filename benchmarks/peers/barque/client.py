"""Barque's enqueuing side."""

import app

from producer import Producer


class Client:
    async def open(self) -> None:
        self.tasks = {"noop": app.noop, "nap": app.nap, "stamp": app.stamp, "hold": app.hold, "tick": app.tick}
        self.producer = await Producer().__aenter__()

    async def close(self) -> None:
        await self.producer.aclose()

    async def enqueue(self, task: str, number: int):
        return await self.producer.enqueue(self.tasks[task](number))

    async def enqueue_many(self, task: str, numbers: list[int]) -> None:
        make = self.tasks[task]
        await self.producer.enqueue_many(make(number) for number in numbers)

    async def schedule_many(self, task: str, numbers: list[int], delay: float) -> None:
        make = self.tasks[task]
        await self.producer.enqueue_many((make(number) for number in numbers), delay=delay)

    async def result(self, job):
        return await job.result(timeout=10)
