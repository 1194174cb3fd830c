"""What tasks share is opened once a worker, typed in each task, and closed when the last job has ended."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog
from arq.connections import RedisSettings

from common import Context, Resource, Resources, RetryPolicy, fixed, lifespan, task
from common.errors import ConfigurationError, ResourceFailed, TaskFailed
from workers.worker import Worker

EVENTS: list[str] = []


@pytest.fixture(autouse=True)
def events():
    EVENTS.clear()


@pytest.fixture
def worker_here(redis_url):
    """A worker that the test itself runs."""
    return lambda *functions, **options: Worker(
        functions, redis_settings=RedisSettings.from_dsn(redis_url), handle_signals=False, poll_delay=0.1, **options
    )


class Pool:
    def __init__(self, name: str) -> None:
        self.name = name
        self.is_open = True


@lifespan
async def database() -> AsyncIterator[Pool]:
    EVENTS.append("database opened")
    pool = Pool("database")
    try:
        yield pool
    finally:
        pool.is_open = False
        EVENTS.append("database closed")


@lifespan
async def orders(resources: Resources) -> AsyncIterator[Pool]:
    pool = await resources.open(database)  # closed after this one
    EVENTS.append("orders opened")
    yield Pool(f"orders of the {pool.name}")
    assert pool.is_open
    EVENTS.append("orders closed")


@lifespan(lazy=True)
async def reports() -> AsyncIterator[Pool]:
    EVENTS.append("reports opened")
    yield Pool("reports")
    EVENTS.append("reports closed")


@task
async def uses_the_database(ctx: Context) -> str:
    pool = ctx[database]
    assert pool.is_open
    return pool.name


@task
async def uses_the_orders(ctx: Context) -> str:
    return ctx[orders].name


@task
async def uses_the_reports(ctx: Context) -> str:
    return (await ctx.open(reports)).name


async def test_a_resource_is_opened_at_the_start_and_closed_at_the_end(producer, run_worker):
    worker = await run_worker(uses_the_database, lifespans=[database])
    assert await producer.gather(*(uses_the_database() for _ in range(10)), timeout=10) == ["database"] * 10
    assert EVENTS == ["database opened"]
    await worker.close()
    assert EVENTS == ["database opened", "database closed"]


async def test_resources_use_others_and_are_closed_in_reverse_order(producer, run_worker):
    worker = await run_worker(uses_the_orders, lifespans=[orders, database])
    assert await (await producer.enqueue(uses_the_orders())).result(timeout=10) == "orders of the database"
    await worker.close()
    assert EVENTS == ["database opened", "orders opened", "orders closed", "database closed"]


async def test_a_lazy_resource_is_opened_by_its_first_use(producer, run_worker):
    worker = await run_worker(uses_the_reports, uses_the_database, lifespans=[database, reports])
    await (await producer.enqueue(uses_the_database())).result(timeout=10)
    assert EVENTS == ["database opened"]
    assert await producer.gather(*(uses_the_reports() for _ in range(10)), timeout=10) == ["reports"] * 10
    assert EVENTS == ["database opened", "reports opened"]
    await worker.close()
    assert EVENTS[2:] == ["reports closed", "database closed"]


async def test_it_is_there_in_hooks_and_in_plain_functions_too(producer, run_worker):
    async def on_startup(ctx):
        EVENTS.append(f"startup with {ctx[database].name}")

    async def on_shutdown(ctx):
        EVENTS.append(f"shutdown with {ctx[database].name}")

    async def plain(ctx) -> str:
        return ctx[database].name

    plain.__qualname__ = "plain"
    worker = await run_worker(plain, lifespans=[database], on_startup=on_startup, on_shutdown=on_shutdown)
    async with asyncio.timeout(10):
        while worker._engine is None:
            await asyncio.sleep(0)
    assert await (await worker.pool.enqueue_job("plain")).result(timeout=10) == "database"
    await worker.close()
    assert EVENTS == ["database opened", "startup with database", "shutdown with database", "database closed"]


async def test_running_jobs_have_it_until_they_have_ended(producer, run_worker):
    running, go_on = asyncio.Event(), asyncio.Event()

    @task(name="resource_takes_its_time")
    async def takes_its_time(ctx: Context) -> bool:
        running.set()
        await go_on.wait()
        return ctx[database].is_open

    worker = await run_worker(takes_its_time, lifespans=[database], handle_signals=True)
    job = await producer.enqueue(takes_its_time())
    await running.wait()
    closing = asyncio.create_task(worker.close())  # with handle_signals, as arq: waits for the jobs
    await asyncio.sleep(0)
    go_on.set()
    assert await job.result(timeout=10) is True
    await closing
    assert EVENTS == ["database opened", "database closed"]


async def test_one_that_cannot_be_opened_stops_the_start_and_says_which(worker_here):
    @lifespan
    async def broken() -> AsyncIterator[Pool]:
        raise ConnectionRefusedError("nobody listens")
        yield

    worker = worker_here(uses_the_database, lifespans=[database, broken])
    with pytest.raises(ResourceFailed, match=r"broken \(.*test_resources\.py:\d+\).*ConnectionRefusedError: nobody"):
        await worker.async_run()
    await worker.close()
    assert EVENTS == ["database opened", "database closed"]


async def test_a_lazy_one_that_cannot_be_opened_fails_the_attempt_and_the_next_one_tries_again(producer, run_worker):
    tries = []

    @lifespan(lazy=True)
    async def second_time_lucky() -> AsyncIterator[str]:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionRefusedError("not yet")
        yield "open"

    @task(name="resource_patient", retry=RetryPolicy(backoff=fixed(0)))
    async def patient(ctx: Context) -> str:
        return f"{await ctx.open(second_time_lucky)} in attempt {ctx.attempt}"

    await run_worker(patient)
    assert await (await producer.enqueue(patient())).result(timeout=10) == "open in attempt 2"


async def test_one_that_fails_to_close_is_logged_and_the_others_are_closed(producer, run_worker):
    @lifespan
    async def sticky() -> AsyncIterator[None]:
        yield
        raise OSError("s3cret")

    @lifespan(closes_within=0.01)
    async def endless() -> AsyncIterator[None]:
        yield
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if "gave up" in EVENTS:
                    raise
                EVENTS.append("gave up")

    worker = await run_worker(uses_the_database, lifespans=[database, sticky, endless])
    await (await producer.enqueue(uses_the_database())).result(timeout=10)
    with structlog.testing.capture_logs() as lines:
        await worker.close()
    told = [(line["resource"], line["error"]) for line in lines if line["event"] == "resource_not_closed"]
    assert told == [("endless", "TimeoutError"), ("sticky", "OSError")]
    assert EVENTS[-1] == "database closed"
    assert "s3cret" not in str(lines)
    for left in asyncio.all_tasks():
        if left.get_name() == "barque-resource-endless":
            left.cancel()
            await asyncio.wait({left})


async def test_a_worker_whose_resource_breaks_gives_its_jobs_back_and_ends(producer, worker_here, run_worker):
    broke = asyncio.Event()

    @lifespan
    async def connection() -> AsyncIterator[str]:
        async def heartbeat():
            await broke.wait()
            raise ConnectionResetError("gone")

        async with asyncio.TaskGroup() as group:
            group.create_task(heartbeat())
            yield "connected"

    started = asyncio.Event()

    @task(name="resource_goes_on")
    async def goes_on(ctx: Context) -> str:
        if not broke.is_set():
            started.set()
            await asyncio.Event().wait()
        return f"attempt {ctx.attempt}"

    worker = worker_here(goes_on, lifespans=[connection])
    running = asyncio.create_task(worker.async_run())
    job = await producer.enqueue(goes_on())
    await started.wait()
    broke.set()
    with pytest.raises(ResourceFailed, match=r"connection \(.*ended while it was in use"):
        await running
    await worker.close()
    await run_worker(goes_on)
    assert await job.result(timeout=10) == "attempt 1"


async def test_a_resource_nobody_opened_says_what_to_do(producer, run_worker):
    await run_worker(uses_the_database, max_tries=1)
    job = await producer.enqueue(uses_the_database())
    with pytest.raises(TaskFailed, match=r"lifespans=\[database\]"):
        await job.result(timeout=10)
    with pytest.raises(ConfigurationError, match=r"await ctx\.open\(reports\)"):
        Context()[reports]


async def test_a_test_hands_in_fakes():
    fake = Pool("fake")
    ctx = Context(resources={database: fake, reports: fake})
    assert await uses_the_database.function(ctx) == "fake"
    assert await uses_the_reports.function(ctx) == "fake"


async def test_a_worker_uses_what_its_dict_holds_already_and_does_not_close_it(producer, run_worker):
    fake = Pool("fake")
    worker = await run_worker(uses_the_database, lifespans=[database], ctx={database: fake})
    assert await (await producer.enqueue(uses_the_database())).result(timeout=10) == "fake"
    await worker.close()
    assert EVENTS == []
    assert worker.ctx[database] is fake


async def test_whatever_opens_and_closes_will_do(producer, run_worker):
    class Client:
        async def __aenter__(self) -> str:
            return "client"

        async def __aexit__(self, *_: object) -> None:
            EVENTS.append("client closed")

    @asynccontextmanager
    async def managed() -> AsyncIterator[str]:
        yield "managed"

    client: Resource[str] = lifespan(Client)
    other = lifespan(managed)

    @task(name="resource_both")
    async def both(ctx: Context) -> list[str]:
        return [ctx[client], ctx[other]]

    worker = await run_worker(both, lifespans=[client, other])
    assert await (await producer.enqueue(both())).result(timeout=10) == ["client", "managed"]
    await worker.close()
    assert EVENTS == ["client closed"]


async def test_it_is_one_for_all_jobs_where_hooks_give_each_job_a_dict_of_its_own(producer, run_worker):
    async def on_job_start(ctx):
        assert ctx["job_id"]

    worker = await run_worker(uses_the_reports, on_job_start=on_job_start)
    assert await producer.gather(*(uses_the_reports() for _ in range(5)), timeout=10) == ["reports"] * 5
    await worker.close()
    assert EVENTS == ["reports opened", "reports closed"]


async def test_a_worker_that_runs_again_opens_anew(producer, worker_here):
    worker = worker_here(uses_the_database, lifespans=[database], burst=True)
    for _ in range(2):
        job = await producer.enqueue(uses_the_database())
        await worker.async_run()
        await worker.close()
        assert await job.result(timeout=10) == "database"
    assert EVENTS == ["database opened", "database closed"] * 2


async def test_a_stop_while_something_is_opened_waits_for_nothing(worker_here):
    began, gone = asyncio.Event(), asyncio.Event()

    @lifespan
    async def endless() -> AsyncIterator[None]:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        yield

    worker = worker_here(uses_the_database, lifespans=[database, endless], job_completion_wait=3600)
    running = asyncio.create_task(worker.async_run())
    await began.wait()
    worker.handle_sig_wait_for_completion(signal.SIGTERM)
    async with asyncio.timeout(30):
        await asyncio.wait({running})
        await worker.close()
        await gone.wait()
    assert EVENTS == ["database opened", "database closed"]
