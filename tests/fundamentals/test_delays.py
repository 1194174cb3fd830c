"""A job may be due later, and may be of no use after a while."""

from datetime import UTC, datetime, timedelta

import pytest

from common import Context, task
from common.errors import ConfigurationError, TaskFailed
from common.jobs import JobState


@task
async def noop(ctx: Context) -> str:
    return "done"


async def test_a_delayed_job_runs_when_its_time_has_come_and_not_before(producer, run_worker):
    await run_worker(noop)
    job = await producer.enqueue(noop(), delay=0.3)
    assert await job.status() is JobState.SCHEDULED
    assert await job.result(timeout=10) == "done"
    info = await job.info()
    assert info.started_at - info.enqueued_at >= timedelta(milliseconds=250)


async def test_a_job_may_be_due_at_a_moment(producer, run_worker):
    await run_worker(noop)
    moment = datetime.now(UTC) + timedelta(seconds=0.2)
    job = await producer.enqueue(noop(), at=moment)
    await job.wait(timeout=10)
    assert (await job.info()).started_at >= moment - timedelta(milliseconds=2)


async def test_a_moment_of_the_past_is_now(producer, run_worker):
    await run_worker(noop)
    job = await producer.enqueue(noop(), at=datetime(2000, 1, 1, tzinfo=UTC))
    assert await job.result(timeout=10) == "done"


async def test_a_moment_needs_a_time_zone(producer):
    with pytest.raises(ConfigurationError, match="needs a time zone"):
        await producer.enqueue(noop(), at=datetime(2030, 1, 1))  # noqa: DTZ001 - the point


async def test_a_job_that_expired_before_it_could_start_fails_instead_of_running(producer, run_worker, redis):
    job = await producer.enqueue(noop(), expires=0.02)
    while await redis.exists(f"arq:job:{job.job_id}"):
        pass
    await run_worker(noop)
    while not (await job.status()).ended:
        pass
    with pytest.raises(TaskFailed, match="job expired"):
        await job.result(timeout=10)
