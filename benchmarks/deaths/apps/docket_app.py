"""docket with its defaults."""

import asyncio

import hanging
from docket import Docket, Worker


async def hang() -> None:
    await hanging.hang()


def make_docket() -> Docket:
    docket = Docket(name="deaths", url=hanging.REDIS_URL)
    docket.register(hang)
    return docket


async def send():
    async with make_docket() as docket:
        await docket.add(hang)()


async def main() -> None:
    async with make_docket() as docket, Worker(docket) as worker:
        await worker.run_forever()


if __name__ == "__main__":
    asyncio.run(main())
