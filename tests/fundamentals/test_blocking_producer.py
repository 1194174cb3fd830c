"""The same producer for synchronous code: Django views, scripts, notebooks."""

import asyncio

import pytest

from common import NEVER, Context, task
from common.errors import TaskFailed
from common.jobs import JobState
from producer import BlockingProducer


@task(retry=NEVER)
async def shout(ctx: Context, text: str) -> str:
    if not text:
        raise ValueError("nothing to shout")
    return text.upper()


def script(redis_url: str) -> None:
    """A program without an event loop."""
    with BlockingProducer(redis_url) as producer:
        job = producer.enqueue(shout("hello"), metadata={"from": "a script"})
        assert job.result(timeout=10) == "HELLO"
        assert job.status() is JobState.SUCCEEDED
        assert job.info().metadata == {"from": "a script"}

        assert producer.gather(shout("a"), shout("b")) == ["A", "B"]
        assert list(producer.map(shout, "xyz")) == ["X", "Y", "Z"]
        assert sorted(job.result() for job in producer.as_completed([shout("p"), shout("q")])) == ["P", "Q"]

        with pytest.raises(TaskFailed, match="nothing to shout"):
            producer.enqueue(shout("")).result(timeout=10)

        waiting = producer.enqueue(shout("later"), delay=3600)
        assert waiting.abort()


async def test_a_script_without_an_event_loop(redis_url, run_worker):
    await run_worker(shout)
    await asyncio.to_thread(script, redis_url)
