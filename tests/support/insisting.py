"""Ask a server that comes and goes again and again, as whoever was told "may be there or not" does.

job = await promised(producer, call, "id")    enqueued under one id, as often as it takes
value = await result_of(job)                  asked for while the server comes back
"""

import asyncio

from common import Call
from common.errors import RedisUnavailable
from producer import Job, Producer

__all__ = ["promised", "result_of"]

_WITHIN = 40.0
_PAUSE = 0.02


async def promised(producer: Producer, call: Call, job_id: str) -> Job:
    async with asyncio.timeout(_WITHIN):
        while True:
            try:
                return await producer.enqueue(call, job_id=job_id)
            except RedisUnavailable:
                await asyncio.sleep(_PAUSE)


async def result_of(job: Job):
    async with asyncio.timeout(_WITHIN):
        while True:
            try:
                return await job.result()
            except RedisUnavailable:
                await asyncio.sleep(_PAUSE)
