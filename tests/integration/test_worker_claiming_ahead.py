"""A worker whose jobs are short claims more than it has slots: never more run, and what waits is nobody's loss."""

import asyncio

import pytest

from common import NEVER, Context, task
from common.errors import TaskFailed
from tests.support.log_lines import lines, until
from tests.support.running import producer, run_worker

__all__ = ["lines", "producer", "run_worker"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:result:*")

SLOTS = 4

now = {"running": 0, "most": 0}
began: list[int] = []
gates: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def short_jobs_on_any_machine(monkeypatch):
    """However slow it is, here all that ends in its first step is short."""
    monkeypatch.setattr("workers.ahead._SOON", 3600)
    now.update(running=0, most=0)
    began.clear()
    gates["open"] = asyncio.Event()


@task
async def short(ctx: Context, number: int) -> int:
    return number


@task
async def now_and_then_long(ctx: Context, number: int) -> int:
    now["running"] += 1
    now["most"] = max(now.values())
    if number % 3 == 0:
        await asyncio.sleep(0.001)
    now["running"] -= 1
    return number


@task(retry=NEVER)
async def precious(ctx: Context) -> None:
    """Do what must not be done twice."""


@task
async def hold(ctx: Context, number: int) -> str:
    began.append(number)
    await gates["open"].wait()
    return ctx.worker


async def one_that_holds_jobs_ahead(producer, run_worker, jobs=40):
    """Return a worker all of whose slots are taken, and the jobs it has claimed, of which most wait for one."""
    await producer.enqueue_many(short(number) for number in range(2000))
    held = await producer.enqueue_many(hold(number) for number in range(jobs))
    worker = await run_worker(short, hold, max_jobs=SLOTS)
    await until(lambda: worker._engine is not None and worker._engine._ahead.waiting and len(began) == SLOTS)
    return worker, held


@pytest.mark.parametrize("put_back", [False, True], ids=["", "while some are put back"])
async def test_no_more_run_at_once_than_there_are_slots_however_many_are_claimed(put_back, producer, run_worker):
    jobs = await producer.enqueue_many(now_and_then_long(number) for number in range(3000))
    worker = await run_worker(now_and_then_long, max_jobs=SLOTS)
    claimed = 0
    while worker.jobs_complete < len(jobs):
        await asyncio.sleep(0)
        engine = worker._engine
        claimed = max(claimed, 0 if engine is None else len(engine.held))
        while put_back and engine is not None and len(engine._ahead.waiting) > 2 * SLOTS:
            engine.executor.give_back(engine._ahead.waiting.pop())
    assert claimed > 2 * SLOTS
    assert now == {"running": 0, "most": SLOTS}


async def test_what_waits_behind_jobs_that_take_long_goes_to_a_worker_that_has_slots(
    producer, run_worker, lines, redis
):
    worker, held = await one_that_holds_jobs_ahead(producer, run_worker)
    await run_worker(hold, max_jobs=100)
    await until(lambda: len(began) == len(held))
    gates["open"].set()
    workers = [await job.result(timeout=20) for job in held]
    assert workers.count(worker.worker_id) == SLOTS
    assert sorted(began) == list(range(len(held))), "each began once"
    assert {line["attempt"] for line in lines.all("job_succeeded")} == {1}
    assert not lines.all("job_released"), "nothing is said of what did not begin"
    assert await redis.zcard("arq:queue") == 0


async def test_what_is_put_back_keeps_its_place(producer, run_worker, redis, monkeypatch):
    monkeypatch.setattr("workers.ahead._LONGEST", 3600)
    worker, held = await one_that_holds_jobs_ahead(producer, run_worker)
    ahead = worker._engine._ahead
    due = {attempt.job_id: attempt.due_ms for attempt in ahead.waiting}
    assert due
    ahead.give_back()
    async with asyncio.timeout(20):
        while await redis.exists(*(f"arq:in-progress:{job_id}" for job_id in due)):
            await asyncio.sleep(0.001)
    assert {job_id: await redis.zscore("arq:queue", job_id) for job_id in due} == due
    gates["open"].set()
    for job in held:
        await job.wait(timeout=20)
    assert began == list(range(len(held)))


async def test_a_stop_puts_back_what_waits_and_lets_run_what_runs(producer, run_worker, redis):
    worker, held = await one_that_holds_jobs_ahead(producer, run_worker)
    worker._engine.stop_claiming()
    async with asyncio.timeout(20):
        while await redis.exists(*(f"arq:in-progress:{job.job_id}" for job in held)) > SLOTS:
            await asyncio.sleep(0.001)
    assert len(began) == SLOTS
    gates["open"].set()
    await until(lambda: worker.main_task is not None and worker.main_task.done())
    assert await redis.zcard("arq:queue") == len(held) - SLOTS
    assert await redis.exists(*(f"arq:retry:{job.job_id}" for job in held)) == 0, "no attempt is counted"
    await redis.flushdb()


async def test_one_that_waits_is_aborted_like_one_that_runs(producer, run_worker, monkeypatch):
    monkeypatch.setattr("workers.ahead._LONGEST", 3600)  # it waits where it is
    worker, held = await one_that_holds_jobs_ahead(producer, run_worker)
    waiting = worker._engine._ahead.waiting
    assert held[-1].job_id in {attempt.job_id for attempt in waiting}
    aborting = asyncio.create_task(held[-1].abort())
    await until(lambda: waiting[-1].stop is not None)
    gates["open"].set()
    assert await aborting
    for job in held[:-1]:
        await job.result(timeout=20)
    assert len(held) - 1 not in began
    info = await held[-1].info()
    assert (info.task, info.arguments) == ("hold", (len(held) - 1,)), "what it was is told"


async def test_one_whose_lease_was_lost_meanwhile_does_not_begin(producer, run_worker, redis, monkeypatch):
    monkeypatch.setattr("workers.ahead._LONGEST", 3600)
    worker, held = await one_that_holds_jobs_ahead(producer, run_worker)
    lost = worker._engine._ahead.waiting[-1]
    await redis.set(f"arq:in-progress:{lost.job_id}", "another's", px=60_000)
    await until(lambda: lost.stop is not None)
    gates["open"].set()
    for job in held[:-1]:
        await job.result(timeout=20)
    assert len(held) - 1 not in began
    await redis.flushdb()


async def test_tenants_take_their_turns_behind_jobs_that_are_short(producer, run_worker):
    await producer.enqueue_many(short(number) for number in range(2000))
    for tenant in (0, 1):
        for number in range(30):
            await producer.enqueue(hold(2 * number + tenant), fair_key=str(tenant))
    worker = await run_worker(short, hold, max_jobs=SLOTS)
    await until(lambda: len(began) == SLOTS)
    # Those of a lane are not put back: they would have lost their place in it.
    for _ in range(3):
        worker._engine._ahead.give_back()
    gates["open"].set()
    await until(lambda: len(began) == 60)
    # In the order of their numbers, but that those of one claim are first one tenant's, then the other's.
    assert all(abs(number - place) <= 5 for place, number in enumerate(began))


async def test_a_job_whose_worker_was_lost_is_told_so_though_it_waited(producer, run_worker, redis):
    await producer.enqueue_many(short(number) for number in range(2000))
    held = await producer.enqueue_many(hold(number) for number in range(10))
    lost = await producer.enqueue(precious())
    due = await redis.zscore("arq:queue", lost.job_id)
    await redis.zadd("arq:queue", {lost.job_id: due + 0.5})  # as where a lease ran out
    worker = await run_worker(short, hold, precious, max_jobs=SLOTS)
    await until(lambda: len(began) == SLOTS)
    for _ in range(3):
        worker._engine._ahead.give_back()
    gates["open"].set()
    with pytest.raises(TaskFailed, match="JobLost"):
        await lost.result(timeout=20)
    for job in held:
        await job.wait(timeout=20)


async def test_nothing_more_begins_once_the_event_loop_is_cancelled(producer, run_worker, redis, monkeypatch):
    monkeypatch.setattr("workers.ahead._LONGEST", 3600)
    worker, held = await one_that_holds_jobs_ahead(producer, run_worker, jobs=200)
    # As asyncio.run does when it is interrupted, in an order that is the worst.
    jobs = set(worker.tasks.values())
    for running in [*jobs, *(asyncio.all_tasks() - jobs - {asyncio.current_task()})]:
        running.cancel()
    await until(worker.main_task.done)
    assert len(began) == SLOTS
    assert await redis.exists(*(f"arq:in-progress:{job.job_id}" for job in held)) == 0
    await redis.flushdb()


@pytest.mark.parametrize("option", [{"burst": True}, {"on_job_end": lambda ctx: asyncio.sleep(0)}])
async def test_a_burst_and_one_with_hooks_after_the_job_claim_as_they_always_did(option, producer, run_worker):
    jobs = await producer.enqueue_many(short(number) for number in range(300))
    worker = await run_worker(short, max_jobs=SLOTS, **option)
    most = 0
    while worker.jobs_complete < len(jobs):
        await asyncio.sleep(0)
        most = max(most, 0 if worker._engine is None else worker._engine._ahead.at_once)
    assert most == SLOTS / 2
