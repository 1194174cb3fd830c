"""taskiq on the broker that acknowledges, with its defaults."""

import hanging
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(hanging.REDIS_URL)

hang = broker.register_task(hanging.hang, task_name="hang")


async def send():
    await broker.startup()
    await hang.kiq()
    await broker.shutdown()
