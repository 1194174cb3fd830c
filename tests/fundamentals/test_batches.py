"""A batch task's function takes the items of many jobs at once and returns an outcome for each."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from common import NEVER, BatchContext, Context, Retry, RetryPolicy, fixed, task
from common.errors import JobCancelled, TaskFailed, TaskTimedOut

RUNS: list[list[Any]] = []
LONG = 300  # seconds: no test waits for it


@pytest.fixture(autouse=True)
def runs():
    RUNS.clear()


@pytest.fixture
def lines():
    with structlog.testing.capture_logs() as captured:
        yield captured


@dataclass
class Row:
    name: str
    size: int = 1


@task(batch=10, within=LONG, timeout=2 * LONG)
async def insert(ctx: BatchContext, rows: list[Row]) -> list[str]:
    RUNS.append(rows)
    return [f"{row.name} of {len(rows)}" for row in rows]


async def test_a_full_batch_is_one_run_with_an_outcome_for_each(producer, run_worker):
    await run_worker(insert, max_jobs=100)
    names = await producer.gather(*(insert(Row(f"r{n}")) for n in range(30)), timeout=30)
    assert names == [f"r{n} of 10" for n in range(30)]
    assert [len(rows) for rows in RUNS] == [10, 10, 10]
    assert all(isinstance(row, Row) for rows in RUNS for row in rows)


async def test_one_that_does_not_fill_begins_within_the_time(producer, run_worker):
    @task(name="batch_soon", batch=10, within=0.05)
    async def soon(ctx: BatchContext, numbers: list[int]) -> list[int]:
        RUNS.append(numbers)
        return [n * n for n in numbers]

    await run_worker(soon, max_jobs=100)
    assert await producer.gather(soon(2), soon(3), timeout=30) == [4, 9]


async def test_it_begins_at_once_where_all_slots_wait_for_it(producer, run_worker):
    """A batch larger than the worker's concurrency is no deadlock."""
    await run_worker(insert, max_jobs=4)
    await producer.gather(*(insert(Row(f"r{n}")) for n in range(8)), timeout=30)
    assert [len(rows) for rows in RUNS] == [4, 4]


async def test_two_batch_tasks_that_share_the_slots_are_no_deadlock_either(producer, run_worker):
    @task(name="batch_other", batch=10, within=LONG, timeout=2 * LONG)
    async def other(ctx: BatchContext, numbers: list[int]) -> list[int]:
        RUNS.append(numbers)
        return numbers

    await run_worker(insert, other, max_jobs=4)
    calls = [call for n in range(2) for call in (insert(Row(f"r{n}")), other(n))]
    jobs = await producer.enqueue_many(calls)
    async with asyncio.timeout(30):
        for job in jobs:
            await job.result()
    assert sorted(len(items) for items in RUNS) == [2, 2]


@task(batch=3, within=LONG, timeout=2 * LONG, retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def some_fail(ctx: BatchContext, numbers: list[int]) -> list[int | Exception]:
    RUNS.append([(number, job.attempt) for number, job in zip(numbers, ctx.jobs, strict=True)])
    return [ValueError(f"{number} is odd") if number % 2 else number for number in numbers]


async def test_an_exception_in_a_place_fails_that_job_alone_by_its_own_policy(producer, run_worker):
    await run_worker(some_fail, max_jobs=3)
    jobs = await producer.enqueue_many([some_fail(n) for n in (2, 4, 5)])
    assert await jobs[0].result(timeout=30) == 2
    assert await jobs[1].result(timeout=30) == 4
    # Tried again, with whoever comes then.
    await producer.enqueue_many([some_fail(n) for n in (6, 8)])
    with pytest.raises(TaskFailed, match="ValueError: 5 is odd") as raised:
        await jobs[2].result(timeout=30)
    assert raised.value.attempts == 2
    assert [sorted(run) for run in RUNS] == [[(2, 1), (4, 1), (5, 1)], [(5, 2), (6, 1), (8, 1)]]


async def test_an_error_of_the_whole_run_is_each_jobs_and_each_is_tried_again(producer, run_worker):
    @task(name="batch_flaky", batch=3, within=LONG, timeout=2 * LONG, retry=RetryPolicy(backoff=fixed(0)))
    async def flaky(ctx: BatchContext, numbers: list[int]) -> list[int]:
        RUNS.append(numbers)
        if len(RUNS) == 1:
            raise ConnectionError("the database is away")
        return [job.attempt for job in ctx.jobs]

    await run_worker(flaky, max_jobs=3)
    assert await producer.gather(*(flaky(n) for n in range(3)), timeout=30) == [2, 2, 2]


async def test_its_traceback_shows_the_function_and_nothing_of_barques(producer, run_worker):
    @task(name="batch_broken", batch=2, within=LONG, timeout=2 * LONG, retry=NEVER)
    async def broken(ctx: BatchContext, numbers: list[int]) -> list[int]:
        await asyncio.sleep(0)
        raise ConnectionError("the database is away")

    await run_worker(broken, max_jobs=2)
    jobs = await producer.enqueue_many([broken(1), broken(2)])
    for job in jobs:
        with pytest.raises(TaskFailed, match="the database is away") as raised:
            await job.result(timeout=30)
        frames = [line for line in raised.value.remote_traceback.splitlines() if line.startswith("  File")]
        assert len(frames) == 1
        assert frames[0].endswith("in broken")


@pytest.mark.parametrize(
    ("returned", "says"), [([1], r"returned 1 outcome\(s\): return a list with one"), ({1: 1, 2: 2}, "returned a dict")]
)
async def test_a_wrong_number_of_outcomes_fails_all_and_is_not_tried_again(producer, run_worker, returned, says):
    @task(name="batch_wrong", batch=2, within=LONG, timeout=2 * LONG)
    async def wrong(ctx: BatchContext, numbers: list[int]) -> list[int]:
        RUNS.append(numbers)
        return returned

    await run_worker(wrong, max_jobs=2)
    jobs = await producer.enqueue_many([wrong(1), wrong(2)])
    for job in jobs:
        with pytest.raises(TaskFailed, match=says) as raised:
            await job.result(timeout=30)
        assert raised.value.remote_type == "common.errors.BatchMismatch"
    assert len(RUNS) == 1


async def test_a_function_that_returns_nothing_has_done_them_all(producer, run_worker):
    @task(name="batch_store", batch=2, within=LONG, timeout=2 * LONG)
    async def store(ctx: BatchContext, numbers: list[int]) -> None:
        RUNS.append(numbers)

    await run_worker(store, max_jobs=2)
    assert await producer.gather(store(1), store(2), timeout=30) == [None, None]


async def test_a_job_may_ask_for_another_attempt(producer, run_worker):
    @task(name="batch_asks", batch=2, within=0.01)
    async def asks(ctx: BatchContext, numbers: list[int]) -> list[int | Retry]:
        return [n if job.attempt > n else Retry(after=0) for n, job in zip(numbers, ctx.jobs, strict=True)]

    await run_worker(asks)
    assert await producer.gather(asks(0), asks(1), timeout=30) == [0, 1]


async def test_the_context_has_each_jobs_own(producer, run_worker):
    @task(name="batch_who", batch=2, within=LONG, timeout=2 * LONG)
    async def who(ctx: BatchContext, numbers: list[int]) -> list[list[Any]]:
        assert (ctx.task, ctx["pool"]) == ("batch_who", "a pool")
        return [[job.job_id, job.metadata.get("by"), job.task, job.worker == ctx.worker] for job in ctx.jobs]

    await run_worker(who, max_jobs=2, ctx={"pool": "a pool"})
    jobs = [await producer.enqueue(who(n), metadata={"by": name}) for n, name in enumerate(("ann", "bob"))]
    for job, name in zip(jobs, ("ann", "bob"), strict=True):
        assert await job.result(timeout=30) == [job.job_id, name, "batch_who", True]


async def test_an_item_that_is_not_what_the_task_takes_fails_before_it_joins(producer, run_worker):
    from common import Call

    await run_worker(insert, max_jobs=3)
    job = await producer.enqueue(Call("insert", 5))
    with pytest.raises(TaskFailed, match="insert: argument rows"):
        await job.result(timeout=30)
    assert RUNS == []


async def in_a_batch(worker, count):
    async with asyncio.timeout(30):
        while worker._engine is None or worker._engine._batches.waiting != count:
            await asyncio.sleep(0)


async def test_an_aborted_job_that_waits_is_left_out(producer, run_worker):
    worker = await run_worker(insert, max_jobs=3)
    first = await producer.enqueue(insert(Row("first")))
    await in_a_batch(worker, 1)
    assert await first.abort()
    with pytest.raises(JobCancelled):
        await first.result(timeout=30)
    await in_a_batch(worker, 0)
    await producer.gather(*(insert(Row(name)) for name in ("a", "b", "c")), timeout=30)
    assert [sorted(row.name for row in rows) for rows in RUNS] == [["a", "b", "c"]]


@task(batch=2, within=LONG, timeout=2 * LONG, retry=NEVER)
async def held(ctx: BatchContext, numbers: list[int]) -> list[int]:
    RUNS.append(numbers)
    try:
        await HELD["go on"].wait()
    except asyncio.CancelledError:
        HELD["cancelled"].set()
        raise
    return numbers


HELD: dict[str, asyncio.Event] = {}


@pytest.fixture
def gate():
    HELD.update({"go on": asyncio.Event(), "cancelled": asyncio.Event()})


async def began():
    async with asyncio.timeout(30):
        while not RUNS:
            await asyncio.sleep(0)


@pytest.mark.usefixtures("gate")
async def test_an_aborted_job_whose_run_has_begun_ends_and_the_run_goes_on(producer, run_worker):
    await run_worker(held, max_jobs=2)
    jobs = await producer.enqueue_many([held(1), held(2)])
    await began()
    assert await jobs[0].abort()
    with pytest.raises(JobCancelled):
        await jobs[0].result(timeout=30)
    assert not HELD["cancelled"].is_set()
    HELD["go on"].set()
    assert await jobs[1].result(timeout=30) == 2


@pytest.mark.usefixtures("gate")
async def test_a_run_that_nobody_waits_for_any_more_is_cancelled(producer, run_worker):
    await run_worker(held, max_jobs=2)
    jobs = await producer.enqueue_many([held(1), held(2)])
    await began()
    for job in jobs:
        assert await job.abort()
    async with asyncio.timeout(30):
        await HELD["cancelled"].wait()


@pytest.mark.usefixtures("gate")
async def test_each_job_has_its_own_timeout(producer, run_worker):
    worker = await run_worker(held, max_jobs=2)
    other = await producer.enqueue(held(2))
    await in_a_batch(worker, 1)
    one = await producer.enqueue(held(1), timeout=0.1)  # with it the batch is full, and the run begins
    with pytest.raises(TaskTimedOut):
        await one.result(timeout=30)
    HELD["go on"].set()
    assert await other.result(timeout=30) == 2
    assert RUNS == [[2, 1]]
    assert not HELD["cancelled"].is_set()


@pytest.mark.usefixtures("gate")
async def test_a_worker_that_is_told_to_stop_waits_for_no_more_jobs(producer, run_worker):
    worker = await run_worker(insert, max_jobs=3, handle_signals=True)
    job = await producer.enqueue(insert(Row("alone")))
    await in_a_batch(worker, 1)
    await worker.close()  # with handle_signals, as arq: no more jobs are taken, and those that run are awaited
    assert await job.result(timeout=30) == "alone of 1"


@pytest.mark.usefixtures("gate")
async def test_jobs_that_are_given_back_run_again_elsewhere(producer, run_worker):
    worker = await run_worker(held, max_jobs=2)
    jobs = await producer.enqueue_many([held(1), held(2)])
    await began()
    await worker.close()  # gives back what runs
    assert HELD["cancelled"].is_set()
    HELD["go on"].set()
    await run_worker(held, max_jobs=2)
    assert [await job.result(timeout=30) for job in jobs] == [1, 2]


async def test_each_log_line_says_how_many_ran_together(producer, run_worker, lines):
    await run_worker(insert, max_jobs=4)
    await producer.gather(*(insert(Row(f"r{n}")) for n in range(4)), timeout=30)
    async with asyncio.timeout(30):
        while len(told := [line for line in lines if line["event"] == "job_succeeded"]) < 4:
            await asyncio.sleep(0)
    assert [line["batch"] for line in told] == [4] * 4


async def test_a_plain_job_says_nothing_of_batches(producer, run_worker, lines):
    @task(name="batch_plain")
    async def plain(ctx: Context) -> None: ...

    await run_worker(plain)
    await (await producer.enqueue(plain())).result(timeout=30)
    async with asyncio.timeout(30):
        while not (told := [line for line in lines if line["event"] == "job_succeeded"]):
            await asyncio.sleep(0)
    assert "batch" not in told[0]


async def test_the_function_is_tested_by_calling_it():
    ctx = BatchContext(jobs=[Context(job_id="a"), Context(job_id="b")])
    assert await insert.function(ctx, [Row("x"), Row("y")]) == ["x of 2", "y of 2"]


async def test_a_run_is_told_to_stop_with_the_first_of_its_jobs(producer, run_worker):
    @task(name="batch_told", batch=2, within=LONG, timeout=2 * LONG)
    async def told(ctx: BatchContext, numbers: list[int]) -> list[str]:
        assert ctx.time_left is not None
        return [await ctx.stopping] * len(numbers)

    await run_worker(told, max_jobs=2)
    patient = await producer.enqueue(told(1))
    other = await producer.enqueue(told(2), soft_timeout=0.01)
    assert [await job.result(timeout=30) for job in (patient, other)] == ["soft_timeout"] * 2


async def test_a_run_that_does_not_let_itself_be_cancelled_is_named_and_left(producer, run_worker, lines, monkeypatch):
    monkeypatch.setattr("workers.batch_runs._CANCEL_AGAIN", 0.01)
    go_on, ended = asyncio.Event(), asyncio.Event()

    @task(name="batch_stubborn", batch=1, timeout=0.2, retry=NEVER)
    async def stubborn(ctx: BatchContext, numbers: list[int]) -> list[int]:
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                RUNS.append(numbers)
        ended.set()
        return numbers

    await run_worker(stubborn)
    job = await producer.enqueue(stubborn(1))
    with pytest.raises(TaskTimedOut):
        await job.result(timeout=30)
    async with asyncio.timeout(30):
        while not (told := [line for line in lines if line["event"] == "batch_did_not_stop"]):
            await asyncio.sleep(0.01)
    assert (told[0]["task"], told[0]["batch"], told[0]["cancelled"]) == ("batch_stubborn", 1, 3)
    go_on.set()
    await ended.wait()


async def test_a_run_that_asks_for_the_end_of_the_program_fails_its_jobs_alone(producer, run_worker, lines):
    @task(name="batch_exits", batch=2, within=LONG, timeout=2 * LONG, retry=NEVER)
    async def exits(ctx: BatchContext, numbers: list[int]) -> list[int]:
        raise SystemExit(3)

    await run_worker(exits, insert, max_jobs=2)
    for job in await producer.enqueue_many([exits(1), exits(2)]):
        with pytest.raises(TaskFailed, match="SystemExit"):
            await job.result(timeout=30)
    assert await producer.gather(insert(Row("a")), insert(Row("b")), timeout=30) == ["a of 2", "b of 2"]
    assert [line["task"] for line in lines if line["event"] == "exit_in_a_batch"] == ["batch_exits"]


class Lazy(list):
    """A sequence that is not what its length says."""

    def __iter__(self):
        yield from self[:1]
        if not self[1]:
            raise ValueError("the second one cannot be had")


@pytest.mark.parametrize(
    ("returned", "says"), [(Lazy([1, 2]), r"returned 1 outcome\(s\)"), (Lazy([1, 0]), "the second one cannot be had")]
)
async def test_a_sequence_that_is_not_what_it_says_fails_all_and_keeps_none(producer, run_worker, returned, says):
    @task(name="batch_lazy", batch=2, within=LONG, timeout=2 * LONG, retry=NEVER)
    async def lazy(ctx: BatchContext, numbers: list[int]) -> list[int]:
        return returned

    await run_worker(lazy, max_jobs=100)
    for job in await producer.enqueue_many([lazy(1), lazy(2)]):
        with pytest.raises(TaskFailed, match=says):
            await job.result(timeout=30)


async def test_a_function_that_raises_generator_exit_fails_its_jobs_as_with_any_error(producer, run_worker):
    @task(name="batch_closed", batch=2, within=LONG, timeout=2 * LONG, retry=NEVER)
    async def closed(ctx: BatchContext, numbers: list[int]) -> None:
        await asyncio.sleep(0)
        raise GeneratorExit

    await run_worker(closed, max_jobs=100)
    for job in await producer.enqueue_many([closed(1), closed(2)]):
        with pytest.raises(TaskFailed, match="GeneratorExit"):
            await job.result(timeout=30)


async def test_a_run_has_no_jobs_context_variables(producer, run_worker):
    """Which job came last is chance; what middleware bound for it is not the run's."""
    seen = []

    async def bind(attempt, proceed):
        with structlog.contextvars.bound_contextvars(job=attempt.ctx.job_id):
            return await proceed()

    @task(name="batch_unbound", batch=2, within=LONG, timeout=2 * LONG, middleware=[bind])
    async def unbound(ctx: BatchContext, numbers: list[int]) -> None:
        seen.append(structlog.contextvars.get_contextvars())

    await run_worker(unbound, max_jobs=100)
    await producer.gather(unbound(1), unbound(2), timeout=30)
    assert seen == [{}]


async def test_middleware_goes_around_each_job(producer, run_worker):
    async def adding(attempt, proceed):
        RUNS.append(list(attempt.args))
        return await proceed() + 100

    @task(name="batch_surrounded", batch=2, within=LONG, timeout=2 * LONG, middleware=[adding])
    async def surrounded(ctx: BatchContext, numbers: list[int]) -> list[int]:
        return numbers

    await run_worker(surrounded, max_jobs=2)
    assert await producer.gather(surrounded(1), surrounded(2), timeout=30) == [101, 102]
    assert sorted(RUNS) == [[1], [2]]


async def test_jobs_that_wait_when_a_worker_is_to_leave_at_once_are_given_back_unrun(producer, run_worker):
    worker = await run_worker(insert, max_jobs=3)
    job = await producer.enqueue(insert(Row("alone")))
    await in_a_batch(worker, 1)
    await worker.close()  # gives back what it holds
    assert RUNS == []
    await run_worker(insert, max_jobs=1)
    assert await job.result(timeout=30) == "alone of 1"
    assert (await job.info()).attempt == 1
