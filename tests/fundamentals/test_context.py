"""What a task learns of itself: the context, the producer's metadata, a logger, and the worker's hooks."""

import asyncio
import time

import pytest
import structlog

from common import Context, task


@task
async def who_am_i(ctx: Context) -> dict[str, object]:
    return {"job_id": ctx.job_id, "task": ctx.task, "queue": ctx.queue, "attempt": ctx.attempt, "worker": ctx.worker}


@task
async def metadata(ctx: Context) -> dict[str, object]:
    return dict(ctx.metadata)


@task
async def logs(ctx: Context) -> None:
    ctx.log.info("counted", things=3)


@task
async def uses_the_pool(ctx: Context) -> str:
    return f"{ctx.state['pool']} and {ctx['pool']}"


async def test_a_task_knows_its_job(producer, run_worker):
    worker = await run_worker(who_am_i)
    job = await producer.enqueue(who_am_i())
    assert await job.result(timeout=10) == {
        "job_id": job.job_id, "task": "who_am_i", "queue": "arq:queue", "attempt": 1, "worker": worker.worker_id,
    }  # fmt: skip


async def test_metadata_travels_with_the_job(producer, run_worker):
    await run_worker(metadata)
    job = await producer.enqueue(metadata(), metadata={"trace": "t-1", "tags": ["a"]})
    assert await job.result(timeout=10) == {"trace": "t-1", "tags": ["a"]}
    assert (await job.info()).metadata == {"trace": "t-1", "tags": ["a"]}


@pytest.fixture
def lines():
    with structlog.testing.capture_logs() as captured:
        yield captured


async def test_its_log_lines_carry_the_job(producer, run_worker, lines):
    await run_worker(logs)
    job = await producer.enqueue(logs())
    await job.wait(timeout=10)
    (line,) = [line for line in lines if line["event"] == "counted"]
    assert (line["things"], line["job_id"], line["task"], line["attempt"]) == (3, job.job_id, "logs", 1)


async def test_hooks_open_and_close_what_tasks_share(producer, run_worker):
    seen: list[str] = []

    async def on_startup(ctx):
        ctx["pool"] = "a pool"
        seen.append("startup")

    async def on_job_start(ctx):
        seen.append(f"start of attempt {ctx['job_try']}")

    async def on_job_end(ctx):
        seen.append("end")

    async def on_shutdown(ctx):
        seen.append(f"closed {ctx['pool']}")

    worker = await run_worker(
        uses_the_pool, on_startup=on_startup, on_job_start=on_job_start, on_job_end=on_job_end, on_shutdown=on_shutdown
    )
    job = await producer.enqueue(uses_the_pool())
    assert await job.result(timeout=10) == "a pool and a pool"
    await worker.close()
    assert seen == ["startup", "start of attempt 1", "end", "closed a pool"]


@task
async def reads_and_thinks(ctx: Context) -> None:
    await asyncio.sleep(0.02)  # I/O, which costs its neighbours nothing
    until = time.perf_counter() + 0.005
    while time.perf_counter() < until:  # thought, which holds the event loop
        pass


async def test_how_long_it_worked_and_how_long_it_waited_is_known(producer, run_worker):
    await run_worker(reads_and_thinks)
    job = await producer.enqueue(reads_and_thinks())
    await job.result(timeout=10)
    timing = (await job.info()).timing
    assert timing.busy_us >= timing.longest_us >= 5000
    assert timing.steps == 2
