"""Middleware goes around each attempt: it sees the call, its arguments and how it ends, and may change all of these."""

import asyncio
import contextvars
import threading
from typing import Any

import pytest
import structlog

from common import AttemptCall, Context, Proceed, Retry, RetryPolicy, fixed, middleware, task
from common.errors import ConfigurationError, TaskFailed, TaskTimedOut
from producer import Producer

SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def seen():
    SEEN.clear()


@middleware
async def watching(attempt: AttemptCall, proceed: Proceed) -> Any:
    try:
        value = await proceed()
    except BaseException as error:
        SEEN.append((attempt.ctx.task, attempt.ctx.attempt, attempt.args, attempt.kwargs, type(error).__name__))
        raise
    SEEN.append((attempt.ctx.task, attempt.ctx.attempt, attempt.args, attempt.kwargs, value))
    return value


@task(retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def divide(ctx: Context, number: int, *, by: int = 1) -> float:
    return number / by


async def test_it_sees_the_call_and_how_it_ended(producer, run_worker):
    await run_worker(divide, middleware=[watching])
    job = await producer.enqueue(divide(6, by=2), metadata={"customer": "ann"})
    assert await job.result(timeout=10) == 3.0
    assert SEEN == [("divide", 1, (6,), {"by": 2}, 3.0)]


async def test_it_sees_each_attempt(producer, run_worker):
    await run_worker(divide, middleware=[watching])
    job = await producer.enqueue(divide(6, by=0))
    with pytest.raises(TaskFailed, match="ZeroDivisionError"):
        await job.result(timeout=10)
    assert [(number, ended) for _, number, _, _, ended in SEEN] == [(n, "ZeroDivisionError") for n in (1, 2)]


async def test_the_first_one_is_the_outermost_and_the_tasks_own_are_inside(producer, run_worker):
    def named(name):
        @middleware
        async def around(attempt: AttemptCall, proceed: Proceed) -> Any:
            SEEN.append(f"{name} begins")
            try:
                return await proceed()
            finally:
                SEEN.append(f"{name} ends")

        return around

    @task(name="around_ordered", middleware=[named("task 1"), named("task 2")])
    async def ordered(ctx: Context) -> None:
        SEEN.append("task runs")

    await run_worker(ordered, middleware=[named("worker 1"), named("worker 2")])
    await (await producer.enqueue(ordered())).result(timeout=10)
    order = ["worker 1", "worker 2", "task 1", "task 2"]
    assert [f"{n} begins" for n in order] + ["task runs"] + [f"{n} ends" for n in reversed(order)] == SEEN


async def test_it_may_change_the_arguments_and_the_result(producer, run_worker):
    async def doubling(attempt: AttemptCall, proceed: Proceed) -> Any:
        attempt.args = tuple(2 * arg for arg in attempt.args)
        return await proceed() + 1

    await run_worker(divide, middleware=[doubling])
    assert await (await producer.enqueue(divide(5))).result(timeout=10) == 11.0


async def test_it_may_answer_in_the_place_of_the_task(producer, run_worker):
    async def cached(attempt: AttemptCall, proceed: Proceed) -> Any:
        return 42.0

    await run_worker(divide, middleware=[cached])
    assert await (await producer.enqueue(divide(1, by=0))).result(timeout=10) == 42.0


async def test_it_may_take_an_error_away_or_ask_for_another_attempt(producer, run_worker):
    async def forgiving(attempt: AttemptCall, proceed: Proceed) -> Any:
        try:
            return await proceed()
        except ZeroDivisionError as error:
            if attempt.ctx.attempt == 1:
                raise Retry(after=0) from error
            return float("inf")

    await run_worker(divide, middleware=[watching, forgiving])
    assert await (await producer.enqueue(divide(1, by=0))).result(timeout=10) == float("inf")
    assert [ended for *_, ended in SEEN] == ["Retry", float("inf")]


async def test_its_error_is_the_attempts_and_the_traceback_names_it(producer, run_worker):
    @middleware
    async def broken(attempt: AttemptCall, proceed: Proceed) -> Any:
        await proceed()
        raise LookupError("no such tenant")

    await run_worker(divide, middleware=[broken])
    job = await producer.enqueue(divide(1))
    with pytest.raises(TaskFailed, match="LookupError: no such tenant") as raised:
        await job.result(timeout=10)
    assert raised.value.attempts == 2
    frames = [line for line in raised.value.remote_traceback.splitlines() if line.startswith("  File")]
    assert len(frames) == 1
    assert frames[0].endswith("in broken")


async def test_a_tasks_own_traceback_shows_what_is_around_it_and_nothing_of_barques(producer, run_worker):
    await run_worker(divide, middleware=[watching])
    job = await producer.enqueue(divide(1, by=0))
    with pytest.raises(TaskFailed) as raised:
        await job.result(timeout=10)
    frames = [line.split()[-1] for line in raised.value.remote_traceback.splitlines() if line.startswith("  File")]
    assert frames == ["watching", "divide"]


async def test_a_timeout_and_an_abort_pass_through_it(producer, run_worker):
    running = asyncio.Event()

    @task(name="around_endless", retry=RetryPolicy(max_attempts=1))
    async def endless(ctx: Context) -> None:
        running.set()
        await asyncio.Event().wait()

    await run_worker(endless, middleware=[watching])
    job = await producer.enqueue(endless(), timeout=0.01)
    with pytest.raises(TaskTimedOut):
        await job.result(timeout=10)
    running.clear()
    job = await producer.enqueue(endless())
    await running.wait()
    assert await job.abort()
    assert [ended for *_, ended in SEEN] == ["CancelledError"] * 2


async def test_what_it_sets_for_its_context_the_task_sees(producer, run_worker):
    tenant = contextvars.ContextVar("tenant", default="nobody")

    async def as_tenant(attempt: AttemptCall, proceed: Proceed) -> Any:
        tenant.set(attempt.ctx.metadata["tenant"])
        with structlog.contextvars.bound_contextvars(tenant=tenant.get()):
            return await proceed()

    @task(name="around_who")
    async def who(ctx: Context) -> str:
        return tenant.get()

    await run_worker(who, middleware=[as_tenant])
    jobs = [await producer.enqueue(who(), metadata={"tenant": name}) for name in ("ann", "bob")]
    assert [await job.result(timeout=10) for job in jobs] == ["ann", "bob"]


async def test_plain_functions_have_it_too(producer, run_worker):
    async def plain(ctx, number: int) -> tuple[int, int]:
        return ctx["job_try"], number

    plain.__qualname__ = "plain"

    async def adding(attempt: AttemptCall, proceed: Proceed) -> Any:
        SEEN.append((attempt.ctx.task, attempt.ctx.queue, attempt.ctx.attempt, attempt.ctx["job_try"]))
        attempt.args = (attempt.args[0] + 1,)
        return await proceed()

    worker = await run_worker(plain, middleware=[adding])
    async with asyncio.timeout(10):
        while worker._engine is None:
            await asyncio.sleep(0)
    job = await worker.pool.enqueue_job("plain", 1)
    assert await job.result(timeout=10) == [1, 2]
    assert SEEN == [("plain", "arq:queue", 1, 1)]


async def test_an_object_that_can_be_awaited_on_will_do(producer, run_worker):
    class Counting:
        def __init__(self) -> None:
            self.attempts = 0

        async def __call__(self, attempt: AttemptCall, proceed: Proceed) -> Any:
            self.attempts += 1
            return await proceed()

    counting = Counting()
    await run_worker(divide, middleware=[counting])
    await producer.gather(*(divide(n) for n in range(5)), timeout=10)
    assert counting.attempts == 5


async def test_a_task_without_any_is_called_as_ever(producer, run_worker):
    worker = await run_worker(divide)
    assert await (await producer.enqueue(divide(1))).result(timeout=10) == 1.0
    assert worker._engine.executor._runnables["divide"]._function is divide.function


async def test_enqueues_are_seen_by_the_producers_own_hooks(redis_url, run_worker):
    @task(name="around_metadata_of")
    async def metadata_of(ctx: Context, number: int) -> dict[str, Any]:
        return dict(ctx.metadata)

    def traced(call, options):
        return options.with_metadata({"trace": f"of {call.name}", "by": "hook"})

    await run_worker(metadata_of)
    async with Producer(redis_url, before_enqueue=[traced]) as producer:
        job = await producer.enqueue(metadata_of(1), metadata={"by": "caller"})
        assert await job.result(timeout=10) == {"trace": "of around_metadata_of", "by": "caller"}
        every = await producer.gather(metadata_of(1), metadata_of(2), timeout=10)
        assert every == [{"trace": "of around_metadata_of", "by": "hook"}] * 2


async def test_a_hook_may_refuse_an_enqueue(redis_url, redis):
    def refusing(call, options):
        raise PermissionError("not you")

    def forgetful(call, options):
        return None

    for hook, error in ((refusing, PermissionError), (forgetful, ConfigurationError)):
        async with Producer(redis_url, before_enqueue=[hook]) as producer:
            with pytest.raises(error):
                await producer.enqueue(divide(1))
            with pytest.raises(error):
                await producer.enqueue_many([divide(1)])
    assert await redis.dbsize() == 0


async def test_it_goes_around_a_task_that_runs_in_a_thread_and_stays_on_the_loop(producer, run_worker):
    loop_thread = threading.get_ident()

    async def where(attempt: AttemptCall, proceed: Proceed) -> Any:
        return threading.get_ident(), await proceed()

    @task(name="around_in_a_thread", middleware=[watching])
    def in_a_thread(ctx: Context, number: int) -> bool:
        return threading.get_ident() != loop_thread

    await run_worker(in_a_thread, middleware=[where])
    job = await producer.enqueue(in_a_thread(3))
    assert tuple(await producer.job(job.job_id).result(timeout=10)) == (loop_thread, True)
    assert SEEN == [("around_in_a_thread", 1, (3,), {}, True)]
