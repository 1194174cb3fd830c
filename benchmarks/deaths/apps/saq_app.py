"""SAQ with its defaults: one attempt, 10 s."""

import hanging
from saq import Queue

queue = Queue.from_url(hanging.REDIS_URL)


async def hang(_ctx) -> None:
    await hanging.hang()


settings = {"queue": queue, "functions": [hang]}


async def send():
    await queue.enqueue("hang")
    await queue.disconnect()
