"""A task can be held to a rate across the fleet: who is over it is given a time, and waits in the queue."""

import asyncio
from datetime import timedelta

import pytest

from common import NEVER, Call, Context, RateLimit, Retry, RetryPolicy, fixed, task
from common.errors import ConfigurationError, TaskFailed
from common.jobs import JobState
from tests.support.fleet import fullest_window, ran, start_workers
from workers.runnables import Defaults, TaskRunnable, by_name

__all__ = ["start_workers"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "test:*")

started: list[object] = []


@pytest.fixture(autouse=True)
def nothing_ran_yet():
    started.clear()


@task(limits=[RateLimit(1, per=3600)])
async def hourly(ctx: Context, number: int) -> int:
    started.append(number)
    return ctx.attempt


@task(limits=[RateLimit(1, per=timedelta(hours=1), key="host")])
async def polite(ctx: Context, host: str, path: str = "/") -> str:
    started.append((host, path))
    return host


@task(limits=[RateLimit(1, per=3600, burst=3)])
async def bursting(ctx: Context, number: int) -> None:
    started.append(number)


@task(limits=[RateLimit(10, per=3600, burst=10, cost=lambda pages: pages)])
async def weighed(ctx: Context, pages: int) -> None:
    started.append(pages)


async def waiting(job) -> bool:
    """Return once the job has started, or waits for a limit."""
    async with asyncio.timeout(10):
        while True:
            info = await job.info()
            if info.waits_for is not None:
                return True
            if info.state.ended:
                return False
            await asyncio.sleep(0.01)


async def end(*jobs) -> None:
    for job in jobs:
        await job.abort()


async def test_a_job_over_the_limit_waits_for_a_time_of_its_own(producer, run_worker):
    await run_worker(hourly)
    first, second, third = [await producer.enqueue(hourly(number)) for number in range(3)]
    assert await first.result(timeout=10) == 1
    assert await waiting(second)
    assert await waiting(third)
    one, other = await second.info(), await third.info()
    assert one.state is JobState.SCHEDULED
    assert one.waits_for == "rate:hourly"
    assert one.attempt == 0, "waiting is no attempt"
    assert other.due_at - one.due_at == pytest.approx(timedelta(hours=1), rel=0.03), "in order, an hour apart"
    await end(second, third)


async def test_each_key_has_a_rate_of_its_own(producer, run_worker):
    await run_worker(polite)
    jobs = [await producer.enqueue(polite(host, path="/x")) for host in ("a", "b", "a")]
    assert [await waiting(job) for job in jobs] == [False, False, True]
    assert started == [("a", "/x"), ("b", "/x")]
    limits = await producer.limits.list("polite")
    assert [(limit.kind, limit.key, limit.next_free is not None) for limit in limits] == [
        ("rate", "a", True), ("rate", "b", True),
    ]  # fmt: skip
    await end(jobs[2])


async def test_an_enqueue_may_name_another_key_or_cost(producer, run_worker):
    await run_worker(polite)
    await (await producer.enqueue(polite("a"))).result(timeout=10)
    await (await producer.enqueue(polite("a"), limit_key="mirror of a")).result(timeout=10)
    await (await producer.enqueue(polite("a"), limit_cost=0)).result(timeout=10)
    held = await producer.enqueue(polite("a"))
    assert await waiting(held)
    await end(held)


async def test_a_burst_may_start_at_once_after_a_pause(producer, run_worker):
    await run_worker(bursting)
    jobs = [await producer.enqueue(bursting(number)) for number in range(4)]
    assert [await waiting(job) for job in jobs] == [False, False, False, True]
    await end(jobs[3])


async def test_a_job_may_cost_more_than_another(producer, run_worker):
    await run_worker(weighed)
    jobs = [await producer.enqueue(weighed(pages)) for pages in (7, 3, 1)]
    assert [await waiting(job) for job in jobs] == [False, False, True]
    await end(jobs[2])


def shared(name: str, limits) -> object:
    async def function(ctx: Context) -> str:
        return name

    return task(name=name, limits=limits)(function)


async def test_tasks_may_share_a_limit_by_its_name(producer, run_worker):
    together = RateLimit(1, per=3600, name="the-api")
    read, write = shared("read", [together]), shared("write", [together])
    await run_worker(read, write)
    assert await (await producer.enqueue(read())).result(timeout=10) == "read"
    other = await producer.enqueue(write())
    assert await waiting(other)
    assert (await other.info()).waits_for == "rate:the-api"
    await end(other)


async def test_limits_of_one_name_are_declared_alike():
    one = shared("one", [RateLimit(1, name="n")])
    other = shared("other", [RateLimit(2, name="n")])
    with pytest.raises(ConfigurationError, match="limit 'n' is declared by the tasks 'one' and 'other'"):
        by_name(
            [TaskRunnable(task, Defaults(None, 1, 0), "w") for task in (one, other)]
        )  # as a worker does at its start


async def test_a_job_that_is_told_to_come_back_holds_back_its_whole_key_if_the_limit_says_so(producer, run_worker):
    async def call_api(ctx: Context, host: str) -> str:
        if host == "busy" and ctx.attempt == 1:
            raise Retry(after=3600, reason="429")
        return host

    limited = task(name="call_api", limits=[RateLimit(1000, key="host", hold_on_retry_after=True)])(call_api)
    await run_worker(limited)
    told = await producer.enqueue(limited("busy"))
    async with asyncio.timeout(10):
        while not any(limit.next_free for limit in await producer.limits.list("call_api") if limit.key == "busy"):
            await asyncio.sleep(0.01)
    held = await producer.enqueue(limited("busy"))
    assert await waiting(held)
    assert (await held.info()).due_at - (await told.info()).due_at < timedelta(seconds=60)
    assert await (await producer.enqueue(limited("idle"))).result(timeout=10) == "idle"
    await end(told, held)


async def test_a_job_whose_key_cannot_be_computed_fails_in_words(producer, run_worker):
    def broken_key(host: str) -> str:
        raise KeyError(host)

    async def call(ctx: Context, host: str) -> None: ...

    limited = task(name="call", retry=NEVER, limits=[RateLimit(1, key=broken_key)])(call)
    await run_worker(limited)
    job = await producer.enqueue(limited("secret"))
    with pytest.raises(
        TaskFailed, match="call: limit 'call': no key can be taken from the arguments: KeyError"
    ) as failed:
        await job.result(timeout=10)
    assert "secret" not in str(failed.value).partition("In the worker")[0]


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (lambda: RateLimit(0), "RateLimit.limit=0.: give a number above zero"),
        (lambda: RateLimit(1, per=0), "RateLimit.per=0.: give seconds"),
        (lambda: RateLimit(1, burst=0), "RateLimit.burst=0.: give a number of at least 1"),
        (lambda: RateLimit(1, cost=-1), "RateLimit.cost=-1.: give a number"),
        (lambda: RateLimit(1, name="a b"), "RateLimit.name='a b'.: give text"),
        (lambda: RateLimit(1, key=""), "RateLimit.key=''.: give the name of an argument"),
    ],
)
def test_a_limit_that_makes_no_sense_says_so_at_once(limit, words):
    with pytest.raises(ConfigurationError, match=words):
        limit()


def test_a_key_names_an_argument_of_the_task():
    async def fetch(ctx: Context, url: str) -> None: ...

    with pytest.raises(ConfigurationError, match=r"RateLimit\(key='host'\): the task has no argument.*it takes: url"):
        task(name="fetch", limits=[RateLimit(1, key="host")])(fetch)


async def test_a_retry_waits_for_a_time_like_any_start(producer, run_worker):
    async def fails_once(ctx: Context) -> None:
        started.append(ctx.attempt)
        raise ValueError("no")

    limited = task(name="fails_once", retry=RetryPolicy(backoff=fixed(0)), limits=[RateLimit(1, per=3600)])(fails_once)
    await run_worker(limited)
    job = await producer.enqueue(limited())
    async with asyncio.timeout(10):
        while (await job.info()).waits_for is None:
            await asyncio.sleep(0.01)
    assert started == [1]
    assert (await job.info()).attempt == 1
    await end(job)


FLEET = """
@task(limits=[RateLimit(40, per=2)])
async def rated(ctx: Context, number: int) -> None:
    await note(ctx, "start", number)
"""


async def test_two_worker_processes_together_stay_below_the_rate(producer, start_workers, redis):
    await start_workers(2, FLEET)
    jobs = await producer.enqueue_many([Call("rated", number) for number in range(120)])
    for job in jobs:
        await job.result(timeout=60)
    lines = await ran(redis)
    starts = [line.seconds for line in lines]
    assert sorted(line.number for line in lines) == list(range(120)), "each once"
    # A window is told a little shorter than it is, for a note may take longer to the server than the next one.
    assert fullest_window(starts, 1.7) <= 40
    assert max(starts) - min(starts) >= 119 * 2 / 40 * 0.95


async def test_reservations_that_came_due_while_no_worker_ran_do_not_start_at_once(producer, start_workers, redis):
    (worker,) = await start_workers(1, FLEET)
    jobs = await producer.enqueue_many([Call("rated", number) for number in range(100)])
    async with asyncio.timeout(60):
        while len(await ran(redis)) < 5:
            await asyncio.sleep(0.02)
    worker.terminate()
    await asyncio.to_thread(worker.wait)
    assert len(await ran(redis)) < 100
    # While it is away, what has been reserved comes due: as if the clock had gone on, the scores go back.
    for job_id, score in await redis.zrange("arq:queue", 0, -1, withscores=True):
        await redis.zadd("arq:queue", {job_id: score - 3000})
    await start_workers(2, FLEET)
    for job in jobs:
        await job.result(timeout=60)
    lines = await ran(redis)
    assert fullest_window([line.seconds for line in lines], 1.7) <= 40
    assert sorted({line.number for line in lines}) == list(range(100))
