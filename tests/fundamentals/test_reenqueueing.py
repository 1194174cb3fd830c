"""A job can be enqueued again with some things changed, whatever has become of it. See docs/control.md."""

import asyncio
from datetime import timedelta

import pytest

from common import Call, Context, RetryPolicy, Unique, task
from common.errors import ArgumentMismatch, ConfigurationError, JobNotFound, JobNotWaiting, RedisUnavailable
from common.jobs import JobState
from producer import BlockingProducer

signals: dict[str, asyncio.Event] = {}


async def _divide(ctx: Context, a: int, b: int, *, digits: int = 2) -> float:
    return round(a / b, digits)


async def _linger(ctx: Context) -> None:
    signals["running"].set()
    await signals["gate"].wait()


async def _bill(ctx: Context, customer: str) -> None: ...


@pytest.fixture
def divide():
    return task(name="divide", retry=RetryPolicy(max_attempts=1))(_divide)


@pytest.fixture
def linger():
    return task(name="linger")(_linger)


@pytest.fixture(autouse=True)
async def nothing_happened_yet():
    signals.update(running=asyncio.Event(), gate=asyncio.Event())


async def test_a_dead_job_with_another_argument(divide, producer, run_worker):
    await run_worker(divide)
    job = await producer.enqueue(divide(10, 0, digits=1))
    await job.wait()
    done = await producer.reenqueue(job.job_id, arguments={"b": 3})
    assert (done.earlier, done.replaced, done.job.is_new) == (JobState.FAILED, False, True)
    assert await done.job.result(timeout=30) == 3.3
    assert await producer.dead.count() == 1
    done = await producer.reenqueue(job.job_id, call=divide(10, 4), replace=True)
    assert (await done.job.result(timeout=30), done.replaced) == (2.5, True)
    assert await producer.dead.count() == 0
    assert await job.status() is JobState.FAILED


async def test_a_job_that_has_succeeded(divide, producer, run_worker):
    await run_worker(divide)
    job = await producer.enqueue(divide(10, 4), metadata={"who": "ada"})
    assert await job.result(timeout=30) == 2.5
    done = await producer.reenqueue(job.job_id, arguments={0: 20, "digits": 0}, replace=True)
    assert (done.earlier, done.replaced) == (JobState.SUCCEEDED, False)
    assert await done.job.result(timeout=30) == 5.0
    assert (await done.job.info()).metadata == {"who": "ada"}


async def test_a_waiting_job_is_as_it_was_but_for_what_is_given(divide, producer, redis):
    job = await producer.enqueue(
        divide(10, 4), delay=3600, expires=7200, queue="low", metadata={"who": "ada"}, priority=3, max_attempts=5,
        timeout=9, soft_timeout=8, limit_key="acme", limit_cost=2, fair_key="tu/e", deadline=9000,
    )  # fmt: skip
    done = await producer.reenqueue(job.job_id, arguments={"a": 20}, in_queue="low")
    before, after = await job.info(), await done.job.info()
    assert (after.arguments, after.queue, after.state) == ((20, 4), "low", JobState.SCHEDULED)
    assert (after.metadata, after.priority) == (before.metadata, before.priority)
    assert abs(after.due_at - before.due_at) < timedelta(seconds=1)
    assert 0 < await redis.pttl(f"arq:job:{done.job.job_id}") <= 7200_000
    for key in ("acme", "tu/e"):
        found = {info.job_id for info in (await producer.jobs(queue="low", key=key)).jobs}
        assert found == {job.job_id, done.job.job_id}
    sooner = await producer.reenqueue(job.job_id, in_queue="low", delay=60, queue="high", priority="normal")
    moved = await sooner.job.info()
    assert (moved.arguments, moved.queue, moved.priority) == ((10, 4), "high", 0)
    assert moved.due_at < after.due_at
    for queue in ("low", "high"):
        await producer.purge(queue)


async def test_a_waiting_job_is_replaced_once_the_new_one_is_there(divide, producer):
    job = await producer.enqueue(divide(10, 4), unique=Unique())
    done = await producer.reenqueue(job.job_id, arguments={1: 5}, replace=True)
    assert (done.earlier, done.replaced) == (JobState.QUEUED, True)
    assert await job.status() is JobState.CANCELLED
    assert (await done.job.info()).arguments == (10, 5)
    await done.job.abort()


async def test_the_earlier_job_is_as_it_was_where_the_new_one_cannot_be_added(divide, producer, redis):
    job = await producer.enqueue(divide(10, 4))
    with pytest.raises(ArgumentMismatch, match="argument b"):
        await producer.reenqueue(job.job_id, arguments={"b": "four"}, replace=True)
    taken = await producer.reenqueue(job.job_id, new_id="taken")
    again = await producer.reenqueue(job.job_id, new_id="taken", replace=True)
    assert (again.job.is_new, again.replaced) == (False, False)
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisUnavailable):
            await producer.reenqueue(job.job_id, replace=True)
    finally:
        await redis.config_set("maxmemory", 0)
    assert await job.status() is JobState.QUEUED
    await job.abort()
    await taken.job.abort()


async def test_a_running_job_can_be_had_twice_but_not_be_replaced(linger, producer, run_worker):
    await run_worker(linger, max_jobs=1)
    job = await producer.enqueue(linger())
    async with asyncio.timeout(30):
        await signals["running"].wait()
    with pytest.raises(JobNotWaiting, match="a worker has it"):
        await producer.reenqueue(job.job_id, replace=True)
    done = await producer.reenqueue(job.job_id)
    signals["gate"].set()
    await asyncio.gather(job.result(timeout=30), done.job.result(timeout=30))


async def test_a_tenant_is_who_the_task_names_or_who_the_enqueue_named(producer):
    bill = task(name="bill", fair_key="customer")(_bill)
    await producer.enqueue(bill("ada"), job_id="a")
    await producer.enqueue(bill("ada"), job_id="b", fair_key="somebody")
    grace = await producer.reenqueue("a", arguments={"customer": "grace"})
    other = await producer.reenqueue("b", arguments={"customer": "grace"})
    assert [info.job_id for info in (await producer.jobs(key="grace")).jobs] == [grace.job.job_id]
    assert {info.job_id for info in (await producer.jobs(key="somebody")).jobs} == {"b", other.job.job_id}
    await producer.purge("arq:queue")


WRONG = [
    ({"arguments": {"c": 1}}, "no argument of that name"),
    ({"arguments": {2: 1}}, "2 arguments by place"),
    ({"arguments": {-1: 1}}, "2 arguments by place"),
    ({"arguments": {True: 1}}, "2 arguments by place"),
    ({"call": Call("another", 1)}, "is of the task 'divide'"),
    ({"call": Call("divide", 1), "arguments": {}}, "call="),
    ({"new_id": "mine"}, "an id of its own"),
    ({"delay": 5, "deadline": -1}, "deadline="),
]


@pytest.mark.parametrize(("given", "words"), WRONG)
async def test_what_makes_no_sense_is_said_and_nothing_is_enqueued(given, words, divide, producer):
    job = await producer.enqueue(divide(10, 4), job_id="mine")
    with pytest.raises(ConfigurationError, match=words):
        await producer.reenqueue("mine", **given)
    assert len((await producer.jobs()).jobs) == 1
    await job.abort()


async def test_by_name_where_the_code_is_not_here_and_where_nothing_is_kept(linger, producer):
    job = await producer.enqueue(Call("theirs", 1, depth=2))
    done = await producer.reenqueue(job.job_id, arguments={0: 5, "depth": 3})
    info = await done.job.info()
    assert (info.arguments, info.keyword_arguments) == ((5,), {"depth": 3})
    with pytest.raises(ConfigurationError, match="is not here to tell its place"):
        await producer.reenqueue(job.job_id, arguments={"width": 3})
    with pytest.raises(ConfigurationError, match="not 'linger'"):
        await producer.reenqueue(job.job_id, task=linger)
    with pytest.raises(JobNotFound, match="nothing left of job nowhere"):
        await producer.reenqueue("nowhere")
    await producer.purge("arq:queue")


def test_from_synchronous_code(divide, redis_url):
    with BlockingProducer(redis_url) as producer:
        job = producer.enqueue(divide(10, 4), delay=60)
        done = producer.reenqueue(job.job_id, arguments={"a": 1}, replace=True)
        assert (done.job.info().arguments, job.status()) == ((1, 4), JobState.CANCELLED)
        done.job.abort()
