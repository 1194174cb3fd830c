"""A task that is a plain `def` runs in a thread of its worker: what blocks there blocks nobody else."""

import asyncio
import contextvars
import threading
import time

import pytest
import structlog

from common import NEVER, Context, Retry, RetryPolicy, fixed, task
from common.errors import ArgumentMismatch, JobCancelled, TaskFailed, TaskTimedOut
from common.settings import load_settings

gates: dict[str, threading.Event] = {}
seen: list[str] = []
tenant = contextvars.ContextVar("tenant", default="nobody")


@pytest.fixture(autouse=True)
def fresh():
    gates.clear()
    seen.clear()
    yield
    for gate in gates.values():  # no thread outlives its test
        gate.set()


def gate(name: str) -> threading.Event:
    return gates.setdefault(name, threading.Event())


async def passed(name: str) -> None:
    assert await asyncio.to_thread(gate(name).wait, 20)


def places_of(worker, its_task):
    return worker._engine.executor._runnables[its_task.name].places


async def until(holds) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


@task
def shout(ctx: Context, text: str, *, times: int = 1) -> str:
    return text.upper() * times


@task
def where(ctx: Context) -> tuple[str, bool]:
    return threading.current_thread().name, threading.current_thread().daemon


@task(retry=RetryPolicy(max_attempts=3, backoff=fixed(0)))
def stumble(ctx: Context) -> int:
    if ctx.attempt == 1:
        raise ConnectionError("the other side hung up")
    if ctx.attempt == 2:
        raise Retry(after=0)
    return ctx.attempt


@task(retry=NEVER)
def fall(ctx: Context) -> None:
    raise ValueError("no such page")


@task(retry=NEVER)
def hold(ctx: Context, name: str) -> str:
    gate(f"{name} began").set()
    assert gate(f"{name} may go").wait(60)
    seen.append(f"{name} ended")
    return name


@task(timeout=0.05, retry=NEVER)
def hold_too_long(ctx: Context, name: str) -> str:
    return hold.function(ctx, name)


@task(retry=NEVER)
def polite(ctx: Context) -> None:
    gate("polite began").set()
    try:
        while True:
            ctx.check()
            time.sleep(0.001)
    finally:
        seen.append(f"tidied up, cancelled: {ctx.cancelled}")


@task(timeout=0.05, retry=NEVER)
def as_far_as_it_goes(ctx: Context) -> int:
    steps = 0
    while not ctx.cancelled:
        steps += 1
        time.sleep(0.001)
    return steps


@task(timeout=60, soft_timeout=0.05, retry=NEVER)
def looks_at_its_time(ctx: Context) -> tuple[str, bool]:
    while not ctx.stopping:
        time.sleep(0.001)
    return ctx.stopping.why, 30 < ctx.time_left < 60


@task(retry=NEVER)
def exits(ctx: Context) -> None:
    raise SystemExit(3)


@task(retry=NEVER)
def stops_an_iteration(ctx: Context) -> None:
    next(iter(()))


@task(retry=NEVER)
def forgot_its_async(ctx: Context):
    return asyncio.sleep(0)


@task
def tells(ctx: Context) -> str:
    ctx.log.info("told")
    return tenant.get()


@task
def counts(ctx: Context, up_to: int) -> None:
    for n in range(1, up_to + 1):
        ctx.progress(n, up_to)
        ctx.emit_now(n)


@task
async def on_the_loop(ctx: Context) -> str:
    return threading.current_thread().name


async def test_it_is_enqueued_and_awaited_as_any_other(producer, run_worker):
    await run_worker(shout)
    job = await producer.enqueue(shout("ab", times=2))
    assert await job.result(timeout=20) == "ABAB"
    with pytest.raises(TaskFailed, match=f"{ArgumentMismatch.__name__}: shout: argument text"):
        await (await producer.enqueue(shout(5))).result(timeout=20)


async def test_it_runs_in_a_thread_and_an_async_def_does_not(producer, run_worker):
    await run_worker(where, on_the_loop)
    thread, daemon = await (await producer.enqueue(where())).result(timeout=20)
    assert thread.startswith("barque-task-")
    assert daemon, "a process that ends does not wait for it"
    assert await (await producer.enqueue(on_the_loop())).result(timeout=20) == threading.current_thread().name


async def test_a_worker_without_such_tasks_starts_no_thread_for_them(producer, run_worker):
    before = set(threading.enumerate())
    worker = await run_worker(on_the_loop, where)  # nor does one that has them, before the first job of one
    await (await producer.enqueue(on_the_loop())).result(timeout=20)
    assert places_of(worker, on_the_loop) is None
    started = set(threading.enumerate()) - before
    assert not [thread for thread in started if thread.name.startswith("barque-task-")]


async def test_its_function_is_called_directly_in_a_test():
    assert shout.function(Context(), "ab") == "AB"
    assert not Context().cancelled
    Context().check()


async def test_errors_follow_the_same_policy(producer, run_worker):
    await run_worker(stumble, fall)
    assert await (await producer.enqueue(stumble())).result(timeout=20) == 3
    with pytest.raises(TaskFailed, match="ValueError: no such page") as raised:
        await (await producer.enqueue(fall())).result(timeout=20)
    trace = raised.value.remote_traceback
    assert 'raise ValueError("no such page")' in trace
    assert "workers/" not in trace, "the traceback begins in the task"


async def test_what_ends_a_thread_ends_only_its_attempt(producer, run_worker):
    await run_worker(exits, stops_an_iteration, forgot_its_async, shout)
    with pytest.raises(TaskFailed, match="SystemExit: 3"):
        await (await producer.enqueue(exits())).result(timeout=20)
    with pytest.raises(TaskFailed, match="StopIteration"):
        await (await producer.enqueue(stops_an_iteration())).result(timeout=20)
    with pytest.raises(TaskFailed, match="returned a coroutine, which nothing would run: write `async def`"):
        await (await producer.enqueue(forgot_its_async())).result(timeout=20)
    assert await (await producer.enqueue(shout("a"))).result(timeout=20) == "A"


async def test_as_many_run_at_once_as_there_are_threads_and_the_event_loop_goes_on(producer, run_worker, monkeypatch):
    monkeypatch.setenv("BARQUE_THREADS", "2")
    worker = await run_worker(hold, on_the_loop)
    jobs = [await producer.enqueue(hold(f"h{n}")) for n in range(3)]
    await passed("h0 began")
    await passed("h1 began")
    assert await (await producer.enqueue(on_the_loop())).result(timeout=20)
    places = places_of(worker, hold)
    assert (places.taken, places.size) == (2, 2)
    assert not gate("h2 began").is_set()
    for n in range(3):
        gate(f"h{n} may go").set()
    assert [await job.result(timeout=20) for job in jobs] == ["h0", "h1", "h2"]


async def test_its_timeout_runs_from_when_it_has_a_thread(producer, run_worker, monkeypatch):
    monkeypatch.setenv("BARQUE_THREADS", "1")
    await run_worker(hold)
    first = await producer.enqueue(hold("first"))
    await passed("first began")
    gate("second may go").set()
    second = await producer.enqueue(hold("second"), timeout=1)
    await asyncio.sleep(1.2)  # it would be over by now
    gate("first may go").set()
    assert await first.result(timeout=20) == "first"
    assert await second.result(timeout=20) == "second"


async def test_jobs_over_what_the_line_holds_go_back_for_other_workers(producer, run_worker, monkeypatch):
    monkeypatch.setenv("BARQUE_THREADS", "1")
    busy = await run_worker(hold)
    for n in range(1, 6):
        gate(f"h{n} may go").set()
    first = await producer.enqueue(hold("h0"))
    await passed("h0 began")
    places = places_of(busy, hold)
    second = await producer.enqueue(hold("h1"))
    await until(lambda: places.waiting == 1)
    jobs = [await producer.enqueue(hold(f"h{n}")) for n in range(2, 6)]
    await run_worker(hold)  # has a thread, and gets what the other gives back
    assert [await job.result(timeout=30) for job in jobs] == ["h2", "h3", "h4", "h5"]
    assert places.waiting == 1
    assert (await jobs[3].info()).attempt == 1, "going back is no attempt"
    gate("h0 may go").set()
    assert [await job.result(timeout=20) for job in (first, second)] == ["h0", "h1"]


async def test_a_thread_cannot_be_killed_so_its_attempt_ends_without_it(producer, run_worker, monkeypatch):
    monkeypatch.setenv("BARQUE_THREADS", "1")
    with structlog.testing.capture_logs() as lines:
        worker = await run_worker(hold_too_long, shout)
        with pytest.raises(TaskTimedOut, match=r"ran past its timeout of 0.05 s"):
            await (await producer.enqueue(hold_too_long("a"))).result(timeout=20)
        # Its place is made up for by one more thread, as often as there are places.
        assert await (await producer.enqueue(shout("a"))).result(timeout=20) == "A"
        assert places_of(worker, hold_too_long).size == 1
        gate("a may go").set()
        await until(lambda: "thread_came_back" in [line["event"] for line in lines])
    (busy,) = [line for line in lines if line["event"] == "thread_still_busy"]
    assert (busy["task"], busy["busy"], busy["places"], busy["log_level"]) == ("hold_too_long", 1, 1, "warning")
    assert busy["thread"].startswith("barque-task-")
    assert "in hold" in busy["stack"]
    assert seen == ["a ended"], "it ran on, and what it returned was dropped"


async def test_functions_that_never_end_cost_places_in_the_end_and_jobs_go_elsewhere(producer, run_worker, monkeypatch):
    monkeypatch.setenv("BARQUE_THREADS", "1")
    with structlog.testing.capture_logs() as lines:
        worker = await run_worker(hold_too_long, shout)
        for name in ("a", "b"):
            with pytest.raises(TaskTimedOut):
                await (await producer.enqueue(hold_too_long(name))).result(timeout=20)
        assert places_of(worker, hold_too_long).size == 0
        job = await producer.enqueue(shout("a"))
        await run_worker(shout)
        assert await job.result(timeout=20) == "A"
        gate("a may go").set()
        gate("b may go").set()
        await until(lambda: places_of(worker, hold_too_long).size == 1)
    levels = [(line["log_level"], line["places"]) for line in lines if line["event"] == "thread_still_busy"]
    assert levels == [("warning", 1), ("error", 0)]


async def test_one_that_looks_is_told_to_stop(producer, run_worker):
    await run_worker(polite)
    job = await producer.enqueue(polite())
    await passed("polite began")
    await job.abort()
    with pytest.raises(JobCancelled):
        await job.result(timeout=20)
    assert seen == ["tidied up, cancelled: True"], "it had ended when its outcome was recorded"


async def test_what_it_returns_when_told_to_stop_counts(producer, run_worker):
    await run_worker(as_far_as_it_goes)
    assert await (await producer.enqueue(as_far_as_it_goes())).result(timeout=20) > 0


async def test_it_sees_that_its_soft_timeout_has_passed(producer, run_worker):
    await run_worker(looks_at_its_time)
    job = await producer.enqueue(looks_at_its_time())
    assert await job.result(timeout=20) == ("soft_timeout", True)


async def test_a_worker_that_leaves_gives_it_back(redis_url, producer, run_worker):
    worker = await run_worker(polite)
    job = await producer.enqueue(polite())
    await passed("polite began")
    await worker.close()
    assert seen == ["tidied up, cancelled: True"]
    assert (await job.status()).value == "queued"
    gate("polite began").clear()
    await run_worker(polite)
    await passed("polite began")
    await job.abort()
    with pytest.raises(JobCancelled):
        await job.result(timeout=20)


async def test_context_variables_and_the_log_are_those_of_the_attempt(producer, run_worker):
    async def on_job_start(_):
        tenant.set("acme")

    with structlog.testing.capture_logs() as lines:
        await run_worker(tells, on_job_start=on_job_start)
        job = await producer.enqueue(tells())
        assert await job.result(timeout=20) == "acme"
    (line,) = [line for line in lines if line["event"] == "told"]
    assert (line["job_id"], line["task"], line["attempt"]) == (job.job_id, "tells", 1)


@pytest.mark.leaves_keys("arq:result:*", "barque:progress:*", "barque:stream:*", "barque:watchers:*")
async def test_progress_and_items_come_from_a_thread_too(producer, run_worker):
    await run_worker(counts)
    job = await producer.enqueue(counts(3))
    assert [item.value async for item in job.stream()] == [1, 2, 3]
    await job.result(timeout=20)
    assert (await job.progress()).fraction == 1
    context = Context()
    counts.function(context, 2)
    assert context.emitted == [1, 2]
    assert [progress.done for progress in context.progress_made] == [1, 2]


async def test_emitting_without_waiting_is_not_for_the_event_loop():
    class NoRoom:
        async def emit(self, value):
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match=r"emit_now is for a plain `def`; write `await ctx.emit"):
        Context(task="t", outlets=lambda _: NoRoom()).emit_now(1)


async def test_one_setting_says_how_many(monkeypatch):
    assert load_settings().threads == 32
    monkeypatch.setenv("BARQUE_THREADS", "8")
    assert load_settings().threads == 8
