"""Jobs whose task a worker does not know: they wait for one that does, and nobody waits for them."""

import asyncio

import pytest
from arq import func
from structlog.testing import capture_logs

from common import Call, Context, task
from common.errors import TaskFailed
from common.redis.scores import put_off
from tests.support.running import producer, run_worker
from workers.unknown_tasks import UnknownTasks

__all__ = ["producer", "run_worker"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:result:*", "barque:dead*", "barque:wake:*")

QUEUE = "arq:queue"


@task
async def old(ctx: Context) -> str:
    return "old"


@task
async def newcomer(ctx: Context, number: int = 0) -> tuple[int, int]:
    return number, ctx.attempt


@pytest.fixture
def lines():
    with capture_logs() as captured:
        yield captured


async def put_back(redis, job_id: str) -> float:
    """Wait until a job has been put back, and return its score then."""
    async with asyncio.timeout(20):
        while True:
            score = await redis.zscore(QUEUE, job_id)
            if score is not None and score % 1 not in {0, 0.5}:
                return score
            await asyncio.sleep(0)


async def test_a_job_waits_for_a_worker_that_knows_its_task_and_no_attempt_is_counted(
    producer, run_worker, redis, lines
):
    first = await run_worker(old)
    job = await producer.enqueue(newcomer(7))
    await put_back(redis, job.job_id)
    assert await (await producer.enqueue(old())).result(timeout=20) == "old", "others do not wait for it"
    assert (await job.status()).value in {"scheduled", "queued", "running"}
    await run_worker(old, newcomer)
    assert await job.result(timeout=30) == (7, 1)
    assert [line["task"] for line in lines if line["event"] == "task_unknown"] == ["newcomer"]
    assert (first.jobs_failed, first.jobs_retried) == (0, 0)


async def test_its_score_keeps_the_time_since_when_it_waits(producer, run_worker, redis):
    async def scored(ctx) -> int:
        return ctx["score"]

    began = int((await redis.time())[0]) * 1000
    await run_worker(old, poll_delay=0.02)
    job = await producer.enqueue(Call("scored"))
    first = await put_back(redis, job.job_id)
    async with asyncio.timeout(20):
        while await put_back(redis, job.job_id) <= first + 1000:
            await asyncio.sleep(0.01)
    await run_worker(func(scored, name="scored"))
    assert began <= await job.result(timeout=30) <= first, "however often it was put back"


@pytest.mark.leaves_keys
async def test_known_jobs_come_before_any_that_is_met_again(producer, run_worker, monkeypatch):
    """However many there are that this worker does not know: each is looked at once, and then the others run."""
    met, met_before = 0, []
    due_again = UnknownTasks.due_again

    def count(*arguments):
        nonlocal met
        met += 1
        return due_again(*arguments)

    @task(name="known_beside_unknown")
    async def known(ctx: Context) -> None:
        met_before.append(met)

    monkeypatch.setattr(UnknownTasks, "due_again", count)
    await producer.enqueue_many(Call("nobody_knows", n) for n in range(3000))
    jobs = await producer.enqueue_many(known() for _ in range(20))
    await run_worker(known, max_jobs=10)
    async with asyncio.timeout(60):
        await asyncio.gather(*(job.result() for job in jobs))
    assert len(met_before) == 20
    assert max(met_before) <= 3000


async def test_past_its_time_it_fails_and_says_so(producer, run_worker, redis, monkeypatch):
    monkeypatch.setenv("BARQUE_UNKNOWN_TASK_WAIT", "60")
    job = await producer.enqueue(Call("newcomr"), delay=3600)
    seconds, _ = await redis.time()
    score = put_off(job.job_id.encode(), since_ms=seconds * 1000 - 61_000, after_ms=seconds * 1000 - 61_000)
    await redis.zadd(QUEUE, {job.job_id: score})
    await run_worker(old, newcomer)
    with pytest.raises(TaskFailed, match=r"function 'newcomr' not found .* within 60 s .*mean 'newcomer'") as raised:
        await job.result(timeout=20)
    assert raised.value.remote_type == "common.errors.TaskNotFound"


@pytest.mark.parametrize("how", ["burst", "no wait"])
async def test_in_a_burst_or_without_a_wait_it_fails_at_once_as_in_arq(producer, run_worker, monkeypatch, how):
    if how == "no wait":
        monkeypatch.setenv("BARQUE_UNKNOWN_TASK_WAIT", "0")
    job = await producer.enqueue(Call("newcomr"))
    await run_worker(old, newcomer, burst=how == "burst")
    with pytest.raises(TaskFailed, match="function 'newcomr' not found among the 2 of this worker; did you mean"):
        await job.result(timeout=20)


async def test_one_that_waits_can_be_aborted(producer, run_worker, redis):
    await run_worker(old)
    job = await producer.enqueue(newcomer())
    await put_back(redis, job.job_id)
    assert await job.abort() is True
    assert (await job.status()).value == "cancelled"


async def test_one_that_expires_meanwhile_is_no_longer_there(producer, run_worker, redis):
    await run_worker(old)
    job = await producer.enqueue(newcomer(), expires=0.3)
    with pytest.raises(TaskFailed, match="job expired"):
        await job.result(timeout=20)
