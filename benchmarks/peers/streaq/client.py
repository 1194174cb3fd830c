"""streaq's enqueuing side, with its bulk call, ten thousand jobs at a time."""

import app

_AT_ONCE = 10_000


class Client:
    async def open(self) -> None:
        self.tasks = {"noop": app.noop, "nap": app.nap, "stamp": app.stamp}
        await app.worker.__aenter__()

    async def close(self) -> None:
        await app.worker.__aexit__(None, None, None)

    async def enqueue(self, task: str, number: int):
        return await self.tasks[task].enqueue(number)

    async def enqueue_many(self, task: str, numbers: list[int]) -> None:
        make = self.tasks[task].enqueue
        for start in range(0, len(numbers), _AT_ONCE):
            await app.worker.enqueue_many([make(number) for number in numbers[start : start + _AT_ONCE]])

    async def result(self, task):
        return (await task.result(10)).result
