"""docket's worker: a program of its own, because its command line starts no uvloop."""

import logging

import bodies
import uvloop
from docket import Docket, Worker
from surroundings import CONCURRENCY, REDIS_URL

tasks = [bodies.noop, bodies.nap, bodies.stamp]


# redis-py opens 100 connections at most unless told otherwise, and docket holds one for each running task.
_CONNECTIONS = 100 + 2 * CONCURRENCY


def make_docket() -> Docket:
    docket = Docket(name="bench", url=f"{REDIS_URL}?max_connections={_CONNECTIONS}")
    for task in tasks:
        docket.register(task)
    return docket


async def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    async with make_docket() as docket, Worker(docket, concurrency=CONCURRENCY) as worker:
        await worker.run_forever()


if __name__ == "__main__":
    uvloop.run(main())
