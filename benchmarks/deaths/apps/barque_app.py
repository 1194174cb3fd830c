"""Barque, as its command line starts it."""

import hanging

from common import task
from producer import Producer


@task
async def hang(_ctx) -> None:
    await hanging.hang()


async def send():
    async with Producer(hanging.REDIS_URL) as producer:
        await producer.enqueue(hang())
