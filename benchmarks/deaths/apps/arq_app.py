"""arq, as its documentation starts it."""

import hanging
from arq import create_pool
from arq.connections import RedisSettings

redis_settings = RedisSettings.from_dsn(hanging.REDIS_URL)


async def hang(_ctx) -> None:
    await hanging.hang()


class WorkerSettings:
    functions = (hang,)
    redis_settings = redis_settings


async def send():
    pool = await create_pool(redis_settings)
    await pool.enqueue_job("hang")
    await pool.aclose()
