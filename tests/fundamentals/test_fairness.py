"""Tenants of a queue take turns: one customer's million jobs do not delay another's ten."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from common import Call, Context, RetryPolicy, Unique, fixed, task
from common.errors import ConfigurationError
from common.jobs import JobState

ran: list[str] = []
gate: dict[str, asyncio.Event] = {}


@task(fair_key="customer")
async def serve(ctx: Context, customer: str, number: int = 0) -> None:
    ran.append(customer)


@task
async def work(ctx: Context, what: str) -> None:
    ran.append(what)


@task(fair_key="customer", retry=RetryPolicy(max_attempts=3, backoff=fixed(0.001)))
async def fails_at_first(ctx: Context, customer: str) -> None:
    ran.append(customer)
    if ctx.attempt < 3:
        raise ConnectionError


@task(fair_key="customer")
async def wait_at_gate(ctx: Context, *, customer: str) -> None:
    await gate["open"].wait()


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.clear()
    gate["open"] = asyncio.Event()


async def ended(jobs) -> list[str]:
    for job in jobs:
        await job.wait(timeout=30)
    return ran


async def test_one_customers_many_jobs_do_not_delay_anothers_few(producer, run_worker):
    many = await producer.enqueue_many(serve("big", number) for number in range(2000))
    few = await producer.enqueue_many(serve("small", number) for number in range(10))
    await run_worker(serve, max_jobs=1)
    order = await ended([*many, *few])
    assert len(order) == 2010
    last = max(place for place, customer in enumerate(order) if customer == "small")
    assert last < 100, "each waits for about one of the other's, be they a thousand times as many"


async def test_one_customer_alone_has_the_whole_worker(producer, run_worker):
    jobs = await producer.enqueue_many(wait_at_gate(customer="alone") for _ in range(50))
    worker = await run_worker(wait_at_gate, max_jobs=40)
    while len(worker.tasks) < 40:
        await asyncio.sleep(0)
    gate["open"].set()
    for job in jobs:
        await job.wait(timeout=10)


async def test_a_job_may_say_itself_whose_it_is(producer, run_worker):
    many = await producer.enqueue_many((work("a") for _ in range(200)), fair_key="customer-17")
    few = [await producer.enqueue(Call("work", "b"), fair_key=UUID(int=3)) for _ in range(3)]
    await run_worker(work, max_jobs=1)
    order = await ended([*many, *few])
    assert max(place for place, what in enumerate(order) if what == "b") < 50


async def test_jobs_of_one_customer_keep_their_order(producer, run_worker):
    jobs = await producer.enqueue_many((work(f"{number}") for number in range(300)), fair_key=17)
    await run_worker(work, max_jobs=1)
    assert await ended(jobs) == [f"{number}" for number in range(300)]


async def test_retries_take_turns_as_well(producer, run_worker):
    many = await producer.enqueue_many(fails_at_first("big") for _ in range(500))
    few = await producer.enqueue_many(fails_at_first("small") for _ in range(5))
    await run_worker(fails_at_first, max_jobs=1)
    order = await ended([*many, *few])
    assert len(order) == 3 * 505
    assert max(place for place, customer in enumerate(order) if customer == "small") < 300


async def test_more_urgent_jobs_go_first_and_of_those_the_customers_take_turns(producer, run_worker):
    plain = await producer.enqueue_many(serve("a", number) for number in range(50))
    urgent = await producer.enqueue_many((serve("b!") for _ in range(50)), priority=5)
    too = await producer.enqueue_many((serve("c!") for _ in range(3)), priority=5)
    await run_worker(serve, max_jobs=1)
    order = await ended([*plain, *urgent, *too])
    assert set(order[:53]) == {"b!", "c!"}
    assert max(place for place, customer in enumerate(order) if customer == "c!") < 25


async def test_a_job_that_waits_for_its_customers_turn_is_known_and_can_be_ended(producer, run_worker):
    jobs = [await producer.enqueue(serve("a", number)) for number in range(5)]
    first, waits = jobs[0], jobs[3]
    assert {await job.status() for job in jobs} == {JobState.QUEUED}
    info = await waits.info()
    assert (info.state, info.task, info.attempt) == (JobState.QUEUED, "serve", 0)
    assert abs(info.due_at - datetime.now(tz=UTC)) < timedelta(minutes=5)
    assert not (await producer.enqueue(serve("a", 9), job_id=waits.job_id)).is_new
    report = await producer.inspector.queue(first.queue)
    assert (report.queued, report.scheduled) == (5, 0)
    assert await waits.abort()
    assert await waits.status() is JobState.CANCELLED
    assert await first.abort(), "the next one has its place"
    await run_worker(serve, max_jobs=1)
    assert await ended([job for job in jobs if job not in {first, waits}]) == ["a"] * 3


async def test_a_delayed_job_waits_for_its_time_and_then_for_its_turn(producer, run_worker):
    soon = await producer.enqueue(serve("a"), delay=0.01)
    later = await producer.enqueue(serve("a"), delay=3600)
    assert await later.status() is JobState.SCHEDULED
    await run_worker(serve)
    await soon.result(timeout=10)
    assert await later.abort()


async def test_a_burst_ends_when_all_customers_are_served(producer, run_worker):
    jobs = await producer.enqueue_many(serve(f"{number % 7}", number) for number in range(100))
    worker = await run_worker(serve, burst=True, max_jobs=3)
    await ended(jobs)
    assert worker.jobs_complete == 100


async def test_a_unique_job_waits_for_its_turn_and_is_still_the_only_one(producer, run_worker):
    many = await producer.enqueue_many(serve("big", number) for number in range(300))
    unique = await producer.enqueue(serve("big", 1000), unique=Unique())
    later = await producer.enqueue_many(serve("small", number) for number in range(3))
    waiting = asyncio.create_task(unique.wait(timeout=30))
    await run_worker(serve, max_jobs=1)
    while not ran:
        await asyncio.sleep(0)
    again = await producer.enqueue(serve("big", 1000), unique=Unique())
    assert (again.job_id == unique.job_id) or waiting.done()
    order = await ended([*many, unique, *later])
    assert max(place for place, customer in enumerate(order) if customer == "small") < 100


async def test_who_has_no_customer_stands_in_the_queue_like_any_other(producer, run_worker):
    jobs = [await producer.enqueue(serve(None)) for _ in range(3)]  # type: ignore[arg-type]
    await run_worker(serve, work, max_jobs=1)
    for job in jobs:
        await job.wait(timeout=10)


async def test_what_is_no_fair_key_is_refused(producer):
    for wrong in (1.5, ["a"], True):
        with pytest.raises(ConfigurationError, match="a fair key is text, a whole number, bytes or a UUID, not a"):
            await producer.enqueue(work("x"), fair_key=wrong)
    with pytest.raises(ConfigurationError, match=r"fair_key='tenant'.*no argument of that name; it takes: customer"):

        @task(fair_key="tenant")
        async def wrongly(ctx: Context, customer: str) -> None: ...


async def test_jobs_that_wait_for_their_turn_can_be_found_moved_and_ended_together(producer, run_worker):
    jobs = await producer.enqueue_many(serve("a", number) for number in range(300))
    assert await jobs[7].reschedule(delay=3600)
    assert await jobs[7].status() is JobState.SCHEDULED
    assert await jobs[0].reschedule(delay=3600), "the next one has its place"
    aborted = await producer.abort_where(task="serve", state=JobState.QUEUED)
    assert aborted.cancelled == 298
    assert await jobs[7].reschedule(delay=0)
    await run_worker(serve, max_jobs=1)
    await jobs[7].result(timeout=10)
    assert await jobs[0].abort()
