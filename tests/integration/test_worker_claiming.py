"""A worker's claiming: never more than its concurrency, awake when it should be, done when a burst is."""

import asyncio

import pytest

from common import Call, Context, task
from common.redis.store import Enqueue
from tests.support.running import producer, run_worker

__all__ = ["producer", "run_worker"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:result:*")

running = {"now": 0, "most": 0}
ran_on: list[str] = []
signals: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
async def nothing_ran_yet():
    running.update(now=0, most=0)
    ran_on.clear()
    signals["gate"] = asyncio.Event()


@task
async def count(ctx: Context) -> None:
    running["now"] += 1
    running["most"] = max(running.values())
    ran_on.append(ctx.worker)
    for _ in range(3):
        await asyncio.sleep(0)
    running["now"] -= 1


@task
async def hold(ctx: Context) -> None:
    ran_on.append(ctx.worker)
    await signals["gate"].wait()


@task
async def where(ctx: Context) -> str:
    return ctx.worker


@task
async def count_until_full(ctx: Context, slots: int) -> None:
    running["now"] += 1
    running["most"] = max(running.values())
    ran_on.append(ctx.worker)
    if running["now"] == slots:
        signals["gate"].set()
    await signals["gate"].wait()
    running["now"] -= 1


async def test_as_many_jobs_run_at_once_as_the_worker_was_told_and_no_more(producer, run_worker):
    jobs = await producer.enqueue_many(count_until_full(7) for _ in range(300))
    await run_worker(count_until_full, max_jobs=7, keep_result=0)
    await asyncio.gather(*(job.wait(timeout=30) for job in jobs))
    assert running["most"] == 7
    assert len(ran_on) == 300


async def test_an_enqueue_wakes_an_idle_worker_long_before_its_poll(producer, run_worker, redis):
    await run_worker(where, poll_delay=3600)
    async with asyncio.timeout(20):
        while not any(client["cmd"] == "bzpopmin" for client in await redis.client_list()):
            await asyncio.sleep(0)
        for _ in range(3):
            await (await producer.enqueue(where())).result()
    assert await redis.exists("barque:wake:arq:queue") == 0, "the marker was taken"


async def test_a_worker_that_took_all_it_can_passes_the_wake_up_on(producer, run_worker, redis):
    await run_worker(hold, max_jobs=1, poll_delay=3600)
    await run_worker(hold, max_jobs=1, poll_delay=3600)
    async with asyncio.timeout(20):
        while [client["cmd"] for client in await redis.client_list()].count("bzpopmin") < 2:
            await asyncio.sleep(0)
        jobs = await producer.enqueue_many([hold(), hold()])  # one marker, two jobs
        while len(ran_on) < 2:
            await asyncio.sleep(0)
    assert len(set(ran_on)) == 2
    signals["gate"].set()
    for job in jobs:
        await job.wait(timeout=10)


async def test_a_job_due_later_is_begun_when_it_is_due_without_a_poll(producer, run_worker):
    await run_worker(where, poll_delay=3600)
    job = await producer.enqueue(where(), delay=0.3)
    await job.result(timeout=20)
    info = await job.info()
    late = (info.started_at - info.enqueued_at).total_seconds() - 0.3
    assert late > -0.05


async def test_a_retry_that_is_due_before_the_poll_is_begun_when_it_is_due(producer, run_worker):
    from common import RetryPolicy, fixed

    @task(name="second_time", retry=RetryPolicy(max_attempts=2, backoff=fixed(0.2), jitter="none"))
    async def second_time(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise ConnectionError
        return ctx.attempt

    await run_worker(second_time, poll_delay=3600)
    assert await (await producer.enqueue(second_time())).result(timeout=20) == 2


async def test_jobs_of_a_stock_arq_producer_which_sets_no_marker_are_found_by_the_poll(
    producer, run_worker, redis, store
):
    await run_worker(where, poll_delay=0.05)
    await store.enqueue([Enqueue("other", "x", b"x")])
    payload = await redis.get("arq:job:x")
    assert payload == b"x"
    await redis.delete("arq:job:x", "other", "barque:wake:other")
    job = await producer.enqueue(where(), delay=3600, job_id="a")
    await redis.delete("barque:wake:arq:queue")
    await redis.zadd("arq:queue", {"a": 1})
    assert await job.result(timeout=20)


@pytest.mark.parametrize("jobs", [0, 1, 250])
async def test_a_burst_ends_when_all_is_done(jobs, producer, run_worker):
    await producer.enqueue_many(count() for _ in range(jobs))
    worker = await run_worker(count, burst=True, max_jobs=50)
    async with asyncio.timeout(30):
        while worker.main_task is None:
            await asyncio.sleep(0)
        await asyncio.wait({worker.main_task})
    assert (worker.jobs_complete, len(ran_on)) == (jobs, jobs)


async def test_a_burst_of_at_most_so_many(producer, run_worker, redis):
    await producer.enqueue_many(count() for _ in range(10))
    worker = await run_worker(count, burst=True, max_burst_jobs=4)
    async with asyncio.timeout(30):
        while worker.main_task is None:
            await asyncio.sleep(0)
        await asyncio.wait({worker.main_task})
    assert worker.jobs_complete == 4
    assert await redis.zcard("arq:queue") == 6
    await redis.flushdb()


async def test_a_task_nobody_knows_fails_and_says_which(producer, run_worker, monkeypatch):
    monkeypatch.setenv("BARQUE_UNKNOWN_TASK_WAIT", "0")  # else it would wait for a worker that knows it
    await run_worker(where)
    job = await producer.enqueue(Call("no_such_task"))
    from common.errors import TaskFailed

    with pytest.raises(TaskFailed, match="function 'no_such_task' not found"):
        await job.result(timeout=10)


async def test_garbage_in_the_queue_fails_by_itself_and_stops_nothing(producer, run_worker, redis):
    await redis.set("arq:job:bad", b"\x85garbage")
    await redis.zadd("arq:queue", {"bad": 1})
    await run_worker(where)
    job = await producer.enqueue(where())
    assert await job.result(timeout=10)
    bad = producer.job("bad")
    await bad.wait(timeout=10)
    assert (await bad.info()).error.type == "common.errors.Undecodable"


async def test_ids_of_any_bytes_are_run_and_ended(producer, run_worker, redis):
    from common.codec import encode_job

    await redis.set(b"arq:job:\xff\xfe", encode_job("where", (), {}, enqueued_ms=1))
    await redis.zadd("arq:queue", {b"\xff\xfe": 1})
    await run_worker(where, keep_result=60)
    async with asyncio.timeout(20):
        while not await redis.exists(b"arq:result:\xff\xfe"):
            await asyncio.sleep(0)
    assert await redis.zcard("arq:queue") == 0
    await redis.delete(b"arq:result:\xff\xfe")


async def test_an_error_whose_text_is_no_utf8_is_an_outcome_like_any_other(producer, run_worker):
    from common import NEVER
    from common.errors import TaskFailed

    @task(name="odd_text", retry=NEVER)
    async def odd_text(ctx: Context) -> None:
        raise FileNotFoundError("caf\udce9.txt")

    await run_worker(odd_text)
    with pytest.raises(TaskFailed, match=r"caf\\udce9\.txt"):
        await (await producer.enqueue(odd_text())).result(timeout=10)


async def test_a_backoff_that_raises_does_not_leave_the_job_running_for_ever(producer, run_worker):
    from common import RetryPolicy
    from common.errors import TaskFailed

    def broken(attempt: int) -> float:
        raise ZeroDivisionError("a backoff of the user's own")

    @task(name="broken_backoff", retry=RetryPolicy(max_attempts=3, backoff=broken))
    async def broken_backoff(ctx: Context) -> None:
        raise ConnectionError("the task's own error")

    await run_worker(broken_backoff)
    with pytest.raises(TaskFailed, match="ZeroDivisionError: a backoff of the user's own") as raised:
        await (await producer.enqueue(broken_backoff())).result(timeout=10)
    assert "the task's own error" in raised.value.remote_traceback
