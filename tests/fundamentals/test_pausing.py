"""A queue, or a task, can be paused and resumed while the fleet runs: what runs goes on, nothing else is started."""

import asyncio

import pytest
from arq.connections import RedisSettings

from common import BatchContext, Call, ConcurrencyLimit, Context, RetryPolicy, fixed, task
from common.errors import ConfigurationError
from common.jobs import JobState
from producer import BlockingProducer, Producer
from tests.support.fleet import ran, start_workers
from workers.worker import Worker

__all__ = ["start_workers"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "test:*", "barque:worker*", "*:health-check")

began: list[object] = []
signals: dict[str, asyncio.Event] = {}


@task
async def greet(ctx: Context, name: str) -> str:
    began.append(name)
    return f"Hello, {name}"


@task
async def other(ctx: Context, n: int) -> int:
    return n


@task
async def wait_for_the_gate(ctx: Context) -> str:
    signals["running"].set()
    await signals["gate"].wait()
    return "went on"


@task(retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def attempts(ctx: Context) -> int:
    return ctx.attempt


@pytest.fixture(autouse=True)
async def nothing_happened_yet():
    began.clear()
    signals.update(running=asyncio.Event(), gate=asyncio.Event())


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.01)


# A queue


async def test_nothing_of_a_paused_queue_is_started_until_it_is_resumed(producer, run_worker):
    await run_worker(greet, other, queues=("low", "high"))
    paused = await producer.pause(queue="low", reason="the database is moved", by="ada")
    assert (paused.kind, paused.name, paused.by, paused.reason) == ("queue", "low", "ada", "the database is moved")
    jobs = await producer.enqueue_many([greet(str(n)) for n in range(20)], queue="low")
    # Workers are there, and at work: twenty claims of theirs find nothing in the paused queue.
    for n in range(20):
        assert await (await producer.enqueue(other(n), queue="high")).result(timeout=10) == n
    assert began == []
    assert {await job.status() for job in jobs} == {JobState.QUEUED}
    assert await producer.resume(queue="low")
    assert await jobs[-1].result(timeout=10) == "Hello, 19"
    assert sorted(began) == sorted(str(n) for n in range(20))


async def test_what_runs_goes_on(producer, run_worker):
    await run_worker(wait_for_the_gate)
    job = await producer.enqueue(wait_for_the_gate())
    async with asyncio.timeout(10):
        await signals["running"].wait()
    await producer.pause(queue="arq:queue")
    signals["gate"].set()
    assert await job.result(timeout=10) == "went on"
    await producer.resume(queue="arq:queue")


async def test_it_survives_restarts_of_workers_and_clients(producer, run_worker, redis_url):
    await producer.pause(queue="low")
    job = await producer.enqueue(greet("Ada"), queue="low")
    await run_worker(greet, other, queues=("low", "high"))
    await (await producer.enqueue(other(1), queue="high")).result(timeout=10)
    assert began == []
    async with Producer(redis_url) as another:
        assert [pause.name for pause in await another.pauses()] == ["low"]
        assert await another.resume(queue="low")
    assert await job.result(timeout=10) == "Hello, Ada"


async def test_a_delayed_job_of_a_paused_queue_waits_past_its_time(producer, run_worker):
    await producer.pause(queue="low")
    job = await producer.enqueue(greet("Ada"), queue="low", delay=0.01)
    await run_worker(greet, other, queues=("low", "high"))
    await until(lambda: is_queued(job))
    for n in range(3):
        await (await producer.enqueue(other(n), queue="high")).result(timeout=10)
    assert began == []
    await producer.resume(queue="low")
    assert await job.result(timeout=10) == "Hello, Ada"


async def is_queued(job) -> bool:
    return await job.status() is JobState.QUEUED


async def test_a_burst_leaves_a_paused_queue_as_it_is_and_ends(producer, redis_url):
    await producer.pause(queue="low")
    waiting = await producer.enqueue(greet("Ada"), queue="low")
    job = await producer.enqueue(other(1), queue="high")
    options = {"redis_settings": RedisSettings.from_dsn(redis_url), "handle_signals": False, "burst": True}
    worker = Worker([greet, other], queues=("low", "high"), **options)
    async with asyncio.timeout(20):
        await worker.async_run()
    await worker.close()
    assert await job.result(timeout=10) == 1
    assert await waiting.status() is JobState.QUEUED
    await producer.resume(queue="low")
    await waiting.abort()


# A task


async def test_jobs_of_a_paused_task_wait_in_every_queue_and_others_do_not(producer, run_worker):
    await producer.pause(task=greet, reason="its provider is down")
    await run_worker(greet, other, queues=("low", "high"))
    jobs = [await producer.enqueue(greet(str(n)), queue=("low", "high")[n % 2]) for n in range(10)]
    for n in range(10):
        assert await (await producer.enqueue(other(n), queue="low")).result(timeout=10) == n
    await until(lambda: waiting(producer, 10))
    assert began == []
    assert {await job.status() for job in jobs} == {JobState.QUEUED}
    assert await producer.resume(task="greet")
    assert [await job.result(timeout=10) for job in jobs] == [f"Hello, {n}" for n in range(10)]
    assert await producer.pauses() == []


async def test_workers_that_run_hear_of_it_and_of_its_end(producer, run_worker):
    await run_worker(greet)
    await (await producer.enqueue(greet("before"))).result(timeout=10)
    await producer.pause(task=greet)

    async def one_more_waits() -> bool:
        await producer.enqueue(greet("meanwhile"))
        return (await producer.pauses())[0].waiting > 0

    await until(one_more_waits)  # what is claimed within the milliseconds that it takes them may still run
    job = await producer.enqueue(greet("after"))
    await producer.resume(task=greet)
    assert await job.result(timeout=10) == "Hello, after"


async def waiting(producer, count) -> bool:
    return [pause.waiting for pause in await producer.pauses()] == [count]


async def test_a_job_that_was_put_aside_has_no_attempt_counted(producer, run_worker):
    await producer.pause(task=attempts)
    await run_worker(attempts)
    job = await producer.enqueue(attempts())
    await until(lambda: waiting(producer, 1))
    assert (await job.info()).attempt == 0
    await producer.resume(task=attempts)
    assert await job.result(timeout=10) == 1


async def test_jobs_go_on_in_their_order(producer, run_worker):
    await producer.pause(task=greet)
    await producer.enqueue_many(greet(f"{n:03}") for n in range(200))
    urgent = await producer.enqueue(greet("urgent"), priority="high")
    worker = await run_worker(greet, max_jobs=50)
    await until(lambda: waiting(producer, 201))
    await worker.close()
    await producer.resume(task=greet)
    await run_worker(greet, max_jobs=1)
    await urgent.result(timeout=10)
    await until(lambda: are_done(201))
    assert began == ["urgent", *(f"{n:03}" for n in range(200))]


async def are_done(count) -> bool:
    return len(began) == count


async def test_a_job_that_was_put_aside_can_be_aborted(producer, run_worker):
    await producer.pause(task=greet)
    await run_worker(greet)
    jobs = await producer.enqueue_many(greet(str(n)) for n in range(3))
    await until(lambda: waiting(producer, 3))
    assert await jobs[0].abort()
    assert (await producer.abort_where(task=greet, state="queued")).cancelled == 2
    await producer.resume(task=greet)
    assert began == []


async def test_a_retry_of_a_paused_task_waits_too(producer, run_worker):
    @task(name="twice", retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
    async def twice(ctx: Context) -> int:
        if ctx.attempt == 1:
            signals["running"].set()
            await signals["gate"].wait()
            raise ConnectionError("not yet")
        return ctx.attempt

    await run_worker(twice)
    job = await producer.enqueue(twice())
    async with asyncio.timeout(10):
        await signals["running"].wait()
    await producer.pause(task=twice)
    signals["gate"].set()
    await until(lambda: waiting(producer, 1))
    await producer.resume(task=twice)
    assert await job.result(timeout=10) == 2


@task
def in_a_thread(ctx: Context, n: int) -> int:
    return n


@task(batch=10, within=0.01)
async def together(ctx: BatchContext, numbers: list[int]) -> list[int]:
    return numbers


async def plain_function(ctx, n):
    return n


@pytest.mark.parametrize("kind", [in_a_thread, together, plain_function])
async def test_whatever_kind_of_work_a_task_is(kind, producer, run_worker):
    name = getattr(kind, "name", "plain_function")
    await producer.pause(task=name)
    await run_worker(kind)
    job = await producer.enqueue(Call(name, 7))
    await until(lambda: waiting(producer, 1))
    await producer.resume(task=name)
    assert await job.result(timeout=10) == 7


@task(limits=[ConcurrencyLimit(1)])
async def one_at_a_time(ctx: Context, n: int) -> int:
    signals["running"].set()
    await signals["gate"].wait()
    began.append(n)
    return n


async def test_a_task_with_limits_keeps_them(producer, run_worker, caplog):
    await run_worker(one_at_a_time)
    jobs = await producer.enqueue_many(one_at_a_time(n) for n in range(3))
    async with asyncio.timeout(10):
        await signals["running"].wait()
        while (await jobs[2].info()).waits_for is None:
            await asyncio.sleep(0.01)
    await producer.pause(task=one_at_a_time)
    await until(lambda: is_said("task_paused", caplog))
    signals["gate"].set()
    assert await jobs[0].result(timeout=10) == 0
    await until(lambda: waiting(producer, 2))
    assert began == [0]
    await producer.resume(task=one_at_a_time)
    assert [await job.result(timeout=10) for job in jobs] == [0, 1, 2]
    assert began == [0, 1, 2]


async def is_said(event, caplog) -> bool:
    return event in caplog.text


# Both


async def test_pauses_are_listed_with_since_when_by_whom_and_why(producer):
    first = await producer.pause(queue="low", reason="why not", by="ada")
    second = await producer.pause(task="greet")
    assert first.is_new
    listed = await producer.pauses()
    assert [(p.kind, p.name, p.by, p.reason) for p in listed] == [
        ("queue", "low", "ada", "why not"),
        ("task", "greet", second.by, None),
    ]
    assert "@" in second.by  # user and host
    assert listed[0].since == first.since
    for pause in listed:
        await producer.resume(**{pause.kind: pause.name})


async def test_what_is_paused_already_stays_as_it_was(producer):
    first = await producer.pause(queue="low", by="ada")
    again = await producer.pause(queue="low", by="grace", reason="me too")
    assert (again.is_new, again.by, again.since) == (False, "ada", first.since)
    assert await producer.resume(queue="low")
    assert not await producer.resume(queue="low")


@pytest.mark.parametrize("what", [{}, {"queue": "q", "task": "t"}, {"queue": ""}, {"queue": "q", "reason": "x" * 501}])
async def test_it_has_to_be_clear_what_is_meant(what, producer):
    with pytest.raises(ConfigurationError):
        await producer.pause(**what)


def test_synchronous_code_does_it_too(redis_url):
    with BlockingProducer(redis_url) as producer:
        assert producer.pause(task=greet).is_new
        assert [pause.name for pause in producer.pauses()] == ["greet"]
        assert producer.resume(task=greet)
        assert producer.pauses() == []


# A fleet

FLEET = """
@task
async def step(ctx: Context, number: int) -> int:
    await note(ctx, "start", number)
    await asyncio.sleep(0.02)
    return number
"""


async def test_under_load_two_worker_processes_start_nothing_once_the_queue_is_paused(producer, start_workers, redis):
    first, _ = await start_workers(2, FLEET, queues="low,high", concurrency=20, lease=2)
    jobs = await producer.enqueue_many([Call("step", n) for n in range(2000)], queue="low")
    await until(lambda: at_least(redis, 100))
    await producer.pause(queue="low")
    # All that a worker has, or will ever be told of, has the end of a lease as its score by now.
    waiting = await redis.zrange("low", 0, -1, withscores=True)
    untouched = {job_id.decode() for job_id, score in waiting if score.is_integer()}
    assert untouched
    # A worker that dies, and one that comes, change nothing.
    first.kill()
    await start_workers(1, FLEET, queues="low,high", concurrency=20, lease=2)
    for n in range(100):
        await (await producer.enqueue(Call("step", 10_000 + n), queue="high")).result(timeout=30)
    numbers = {job.job_id: n for n, job in enumerate(jobs)}
    started = {line.number for line in await ran(redis)}
    assert started.isdisjoint(numbers[job_id] for job_id in untouched)
    await producer.resume(queue="low")
    for job in jobs:
        await job.wait(timeout=60)
    assert {line.number for line in await ran(redis)} >= set(range(2000))


async def at_least(redis, count) -> bool:
    return len(await ran(redis)) >= count


async def test_processes_that_run_hear_of_a_paused_task(producer, start_workers, redis):
    await start_workers(2, FLEET, concurrency=20)
    await producer.pause(task="step")
    number = 0

    async def some_wait() -> bool:
        nonlocal number
        await producer.enqueue_many([Call("step", number + n) for n in range(20)])
        number += 20
        return (await producer.pauses())[0].waiting >= 20

    await until(some_wait)
    await producer.resume(task="step")
    last = await producer.enqueue(Call("step", number))
    await last.result(timeout=30)
    await until(lambda: at_least(redis, number + 1))
    assert sorted(line.number for line in await ran(redis)) == list(range(number + 1)), "each once"
