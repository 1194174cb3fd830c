"""Many jobs at once: gather, as_completed, map."""

import asyncio
import itertools

import pytest

from common import NEVER, Context, task
from common.errors import TaskFailed


@task(retry=NEVER)
async def square(ctx: Context, n: int) -> int:
    if n < 0:
        raise ValueError(f"{n} is negative")
    return n * n


may_end: dict[int, asyncio.Event] = {}


@task
async def last_shall_be_first(ctx: Context, n: int) -> int:
    await may_end[n].wait()
    return n


async def test_gather_returns_the_results_in_order(producer, run_worker):
    await run_worker(square)
    assert await producer.gather(*(square(n) for n in range(200))) == [n * n for n in range(200)]


async def test_gather_raises_the_first_failure(producer, run_worker):
    await run_worker(square)
    with pytest.raises(TaskFailed, match="-1 is negative"):
        await producer.gather(square(1), square(-1), timeout=10)


async def test_gather_can_return_failures_in_their_places(producer, run_worker):
    await run_worker(square)
    one, failure, four = await producer.gather(square(1), square(-1), square(2), return_exceptions=True)
    assert (one, four) == (1, 4)
    assert isinstance(failure, TaskFailed)


async def test_as_completed_yields_jobs_as_they_end(producer, run_worker):
    await run_worker(last_shall_be_first)
    may_end.update({n: asyncio.Event() for n in range(3)})
    may_end[2].set()
    ended = []
    async for job in producer.as_completed((last_shall_be_first(n) for n in range(3)), timeout=30):
        ended.append(await job.result())
        if ended[-1]:
            may_end[ended[-1] - 1].set()
    assert ended == [2, 1, 0]


async def test_map_runs_a_task_on_each_item(producer, run_worker):
    await run_worker(square)
    assert [n async for n in producer.map(square, range(50))] == [n * n for n in range(50)]


@pytest.mark.leaves_keys
async def test_map_takes_no_more_of_an_endless_source_than_its_window_has_room_for(producer, run_worker):
    await run_worker(square)
    taken = 0

    def counted():
        nonlocal taken
        for n in itertools.count():
            taken = n + 1
            yield n

    found = []
    results = producer.map(square, counted(), window=10)
    async for result in results:
        found.append(result)
        assert taken <= len(found) + 10
        if len(found) == 30:
            break
    await results.aclose()
    assert found == [n * n for n in range(30)]


async def test_map_reads_an_async_source_and_may_yield_in_the_order_of_completion(producer, run_worker):
    await run_worker(square)

    async def source():
        for n in range(20):
            yield n

    assert sorted([n async for n in producer.map(square, source(), ordered=False)]) == [n * n for n in range(20)]


async def test_enqueue_many_adds_thousands_in_one_go(producer, run_worker):
    jobs = await producer.enqueue_many(square(n) for n in range(3000))
    assert len({job.job_id for job in jobs}) == 3000
    await run_worker(square, max_jobs=500, keep_result=0)
    waits = [job.result(timeout=30) for job in jobs]
    assert await asyncio.gather(*waits) == [n * n for n in range(3000)]
