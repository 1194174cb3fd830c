"""Every attempt comes to an outcome, its slot and its lease free, whatever the task raises, returns or swallows."""

import asyncio
import functools
import threading

import arq
import pytest
import structlog

from common import NEVER, BatchContext, Context, task
from common.errors import JobCancelled, TaskFailed, TaskTimedOut
from common.redis.connection import ServerError
from common.redis.store import Store
from tests.support.running import producer, run_worker

__all__ = ["producer", "run_worker"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:result:*")


@pytest.fixture
def lines():
    with structlog.testing.capture_logs() as captured:
        yield captured


async def nothing_held(worker) -> None:
    async with asyncio.timeout(20):
        while worker._engine.held or worker._engine.executor.running:
            await asyncio.sleep(0)


class BadNotes(Exception):
    @property
    def __notes__(self):
        raise ValueError("no notes")


class Interrupts(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


ODD = {
    "syntax": lambda: SyntaxError("bad", ("f.py", 1, 1, 12345)),
    "notes": lambda: BadNotes("b"),
    "interrupts": Interrupts,
    "exit": lambda: SystemExit(3),
    "generator": GeneratorExit,
    "negative": lambda: arq.Retry(defer=-5),
}


@task(retry=NEVER)
async def odd(ctx: Context, name: str) -> None:
    error = ODD[name]()
    raise error


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_exception_fails_its_job_and_holds_nothing(producer, run_worker, name):
    worker = await run_worker(odd)
    job = await producer.enqueue(odd(name))
    with pytest.raises(TaskFailed):
        await job.result(timeout=20)
    await nothing_held(worker)


def in_a_task(function):
    @functools.wraps(function)
    def inner(*args):
        return asyncio.ensure_future(function(*args))

    return inner


@task(retry=NEVER)
@in_a_task
async def decorated(ctx: Context, number: int) -> int:
    return number


@task(retry=NEVER, batch=1)
@in_a_task
async def decorated_batch(ctx: BatchContext, numbers: list[int]) -> list[int]:
    return numbers


@pytest.mark.parametrize("its_task", [decorated, decorated_batch])
async def test_a_decorator_may_return_any_awaitable(producer, run_worker, its_task):
    await run_worker(its_task)
    assert await (await producer.enqueue(its_task(7))).result(timeout=20) == 7


async def test_a_plain_functions_negative_defer_is_at_once(producer, run_worker):
    tries: list[int] = []

    async def again(ctx) -> int:
        tries.append(ctx["job_try"])
        if len(tries) == 1:
            raise arq.Retry(defer=-5)
        return len(tries)

    worker = await run_worker(again)
    async with asyncio.timeout(20):
        while worker._engine is None:
            await asyncio.sleep(0)
    job = await worker.pool.enqueue_job("test_a_plain_functions_negative_defer_is_at_once.<locals>.again")
    assert await job.result(timeout=20) == 2
    assert tries == [1, 2]


async def test_an_abort_that_meets_the_tasks_own_cancellation_ends_the_job_once(producer, run_worker):
    workers = []

    @task(name="cancels_itself", retry=NEVER)
    async def cancels_itself(ctx: Context) -> None:
        engine = workers[0]._engine
        asyncio.get_running_loop().call_soon(engine._aborts.order, engine.held[ctx.job_id].lease.token, ctx.job_id)
        raise asyncio.CancelledError

    workers.append(await run_worker(cancels_itself))
    job = await producer.enqueue(cancels_itself())
    with pytest.raises(JobCancelled):
        await job.result(timeout=20)
    await nothing_held(workers[0])


async def test_a_judgement_that_raises_fails_the_job(producer, run_worker, monkeypatch):
    monkeypatch.setattr("workers.verdicts.Verdicts.raised", lambda *_: 1 / 0)
    worker = await run_worker(odd)
    job = await producer.enqueue(odd("syntax"))
    with pytest.raises(TaskFailed, match="how the attempt ended could not be told"):
        await job.result(timeout=20)
    await nothing_held(worker)


async def test_a_job_that_swallows_its_cancellation_is_given_up_and_its_slot_is_free(
    producer, run_worker, monkeypatch, lines
):
    monkeypatch.setattr("workers.executor._CANCEL_AGAIN", 0.01)
    let_go = asyncio.Event()
    swallowed = 0
    ended = asyncio.Event()

    @task(name="swallow", retry=NEVER, timeout=0.01)
    async def swallow(ctx: Context) -> str:
        nonlocal swallowed
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                swallowed += 1
        ended.set()
        return "too late"

    @task(name="quick_after_swallow")
    async def quick(ctx: Context) -> str:
        return "quick"

    worker = await run_worker(swallow, quick, max_jobs=1)
    stubborn = await producer.enqueue(swallow())
    with pytest.raises(TaskTimedOut):
        await stubborn.result(timeout=20)
    assert await (await producer.enqueue(quick())).result(timeout=20) == "quick", "the only slot is free"
    assert swallowed > 1, "it was asked more than once"
    (line,) = [line for line in lines if line["event"] == "job_did_not_stop"]
    assert (line["job_id"], line["task"], line["reason"]) == (stubborn.job_id, "swallow", "timed_out")
    let_go.set()
    await ended.wait()
    await nothing_held(worker)
    assert (worker.jobs_complete, worker.jobs_failed) == (1, 1), "what it said in the end came too late"


async def test_hooks_after_a_job_count_against_the_slots(producer, run_worker):
    now, most, done = 0, 0, 0
    gate = asyncio.Event()

    async def after_job_end(ctx) -> None:
        nonlocal now, most, done
        now += 1
        most = max(most, now)
        await gate.wait()
        now -= 1
        done += 1

    @task(name="hooked")
    async def hooked(ctx: Context) -> None:
        pass

    worker = await run_worker(hooked, max_jobs=3, after_job_end=after_job_end)
    await producer.enqueue_many(hooked() for _ in range(30))
    async with asyncio.timeout(20):
        while now < 3:
            await asyncio.sleep(0)
    for _ in range(50):  # turns of the loop, and of the server, in which more could start
        await producer.inspector.workers()
    assert worker._engine.executor.running == 0
    assert len(worker._engine.held) == 0
    gate.set()
    async with asyncio.timeout(20):
        while done < 30:
            await asyncio.sleep(0)
    assert most == 3


async def test_a_log_that_cannot_be_written_costs_neither_hooks_nor_counts(producer, run_worker, monkeypatch):
    def closed(*_) -> None:
        raise BrokenPipeError("the reader is gone")

    monkeypatch.setattr("workers.attempt_log.AttemptLog._write", closed)
    hooked = []

    async def after_job_end(ctx) -> None:
        hooked.append(ctx["job_id"])

    @task(name="fine")
    async def fine(ctx: Context) -> int:
        return 1

    worker = await run_worker(fine, after_job_end=after_job_end)
    for _ in range(3):
        assert await (await producer.enqueue(fine())).result(timeout=20) == 1
    async with asyncio.timeout(20):
        while len(hooked) < 3 or worker.jobs_complete < 3:
            await asyncio.sleep(0)


async def test_a_full_server_at_the_goodbye_is_no_error(run_worker, monkeypatch, lines):
    async def full(*_) -> None:
        raise ServerError("OOM command not allowed when used memory > 'maxmemory'")

    worker = await run_worker(odd)
    async with asyncio.timeout(20):
        while worker._engine is None:
            await asyncio.sleep(0)
    monkeypatch.setattr(Store, "forget_worker", full)
    worker.main_task.cancel()
    await asyncio.wait({worker.main_task})
    assert worker.main_task.cancelled()
    assert "worker_not_deregistered" in [line["event"] for line in lines]


async def test_a_job_that_blocks_the_event_loop_is_named_in_the_log(producer, run_worker):
    said = threading.Event()
    found = []

    def note(_logger, _method, line):
        if line["event"] == "event_loop_blocked":
            found.append(dict(line))
            said.set()
        raise structlog.DropEvent

    @task(name="spin", retry=NEVER)
    async def spin(ctx: Context) -> bool:
        return said.wait(30)  # on purpose: the event loop stands still

    structlog.configure(processors=[note])
    await run_worker(spin)
    job = await producer.enqueue(spin())
    assert await job.result(timeout=40) is True
    (line,) = found
    assert (line["job_id"], line["task"], line["attempt"]) == (job.job_id, "spin", 1)
    assert "in spin" in line["stack"]


async def test_a_claim_and_an_outcome_that_hang_are_made_again(producer, run_worker, monkeypatch, lines):
    monkeypatch.setattr("workers.engine._LEAST_PATIENCE", 0.01)
    hung = []

    def hanging_once(method):
        async def call(self, *args, **kwargs):
            if method.__name__ not in hung:
                hung.append(method.__name__)
                await asyncio.Event().wait()
            return await method(self, *args, **kwargs)

        return call

    monkeypatch.setattr(Store, "claim", hanging_once(Store.claim))
    monkeypatch.setattr(Store, "complete", hanging_once(Store.complete))

    @task(name="once")
    async def once(ctx: Context) -> int:
        return ctx.attempt

    await run_worker(once, lease=1)
    assert await (await producer.enqueue(once())).result(timeout=30) == 1
    assert hung == ["claim", "complete"]
    assert {"claim_failed", "outcomes_wait"} <= {line["event"] for line in lines}
