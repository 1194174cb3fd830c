"""docket's enqueuing side, with its bulk call and that call's own batches of a thousand."""

import bodies
from app import make_docket

_TASKS = {"noop": bodies.noop, "nap": bodies.nap, "stamp": bodies.stamp}


class Client:
    async def open(self) -> None:
        self.docket = make_docket()
        await self.docket.__aenter__()

    async def close(self) -> None:
        await self.docket.__aexit__(None, None, None)

    async def enqueue(self, task: str, number: int):
        return await self.docket.add(_TASKS[task])(number)

    async def enqueue_many(self, task: str, numbers: list[int]) -> None:
        function = _TASKS[task]
        await self.docket.add_many(self.docket.call(function)(number) for number in numbers)

    async def result(self, execution):
        return await execution.get_result()
