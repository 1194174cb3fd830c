"""A task can be held to so many jobs at once across the fleet: who is over it is woken by who ends, in order."""

import asyncio
import signal
from datetime import timedelta

import pytest

from common import Call, ConcurrencyLimit, Context, RateLimit, RetryPolicy, fixed, task
from common.errors import ConfigurationError, JobCancelled, TaskTimedOut
from common.jobs import JobState
from tests.support.fleet import most_at_once, ran, start_workers

__all__ = ["start_workers"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "test:*", "barque:worker*", "*:health-check")

LONG = 3600  # poll_delay: whoever depends on polling waits for longer than a test lasts


class Doors:
    """Lets each job end when its test says so, and tells in which order they began."""

    def __init__(self) -> None:
        self.began: list[object] = []
        self._changed = asyncio.Condition()
        self._open: set[object] = set()

    async def inside(self, name: object) -> None:
        async with self._changed:
            self.began.append(name)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: name in self._open or "all" in self._open)

    async def let(self, *names: object) -> None:
        async with self._changed:
            self._open.update(names)
            self._changed.notify_all()

    async def begin(self, count: int) -> list[object]:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.began) >= count)
        return self.began


doors = Doors()


@pytest.fixture(autouse=True)
async def nothing_ran_yet():
    doors.__init__()


@task(limits=[ConcurrencyLimit(2)])
async def pair(ctx: Context, name: str) -> int:
    await doors.inside(name)
    return ctx.attempt


@task(limits=[ConcurrencyLimit(1, key="host")])
async def one_a_host(ctx: Context, host: str, name: str) -> None:
    await doors.inside(name)


@task(limits=[ConcurrencyLimit(1)], retry=RetryPolicy(max_attempts=2, backoff=fixed(3600)))
async def one_fails(ctx: Context, name: str) -> None:
    await doors.inside(name)
    raise ValueError(name)


async def parked(job) -> None:
    async with asyncio.timeout(10):
        while (await job.info()).waits_for is None:
            await asyncio.sleep(0.01)


async def all_of(task_, producer, *arguments) -> list:
    return [await producer.enqueue(task_(*each)) for each in arguments]


async def test_no_more_run_at_once_and_the_next_is_woken_by_the_one_that_ends(producer, run_worker):
    await run_worker(pair, poll_delay=LONG)
    jobs = await all_of(pair, producer, "a", "b", "c", "d")
    await doors.begin(2)
    await parked(jobs[2])
    await parked(jobs[3])
    info = await jobs[2].info()
    assert (info.state, info.waits_for, info.attempt, info.due_at) == (JobState.QUEUED, "concurrency:pair", 0, None)
    (limit,) = await producer.limits.list()
    assert (limit.name, limit.limit, limit.in_use, limit.waiting) == ("pair", 2, 2, 2)
    await doors.let("b")
    assert await doors.begin(3) == ["a", "b", "c"]
    await doors.let("all")
    assert [await job.result(timeout=10) for job in jobs] == [1, 1, 1, 1], "waiting is no attempt"


async def test_order_is_kept(producer, run_worker):
    await run_worker(pair, max_jobs=5, poll_delay=LONG)
    jobs = await producer.enqueue_many([pair(str(n)) for n in range(60)])
    await doors.let("all")
    for job in jobs:
        await job.result(timeout=20)
    moved = [abs(place - int(n)) for place, n in enumerate(doors.began)]
    assert max(moved) <= 5, "two run side by side, and some were asked about together"


async def test_who_comes_later_does_not_overtake_who_waits(producer, run_worker):
    await run_worker(one_a_host, poll_delay=LONG)
    first, second = await all_of(one_a_host, producer, ("h", "first"), ("h", "second"))
    await doors.begin(1)
    await parked(second)
    await doors.let("first")
    late = await producer.enqueue(one_a_host("h", "late"))
    assert await doors.begin(2) == ["first", "second"]
    await doors.let("all")
    assert await doors.begin(3) == ["first", "second", "late"]
    for job in (first, second, late):
        await job.result(timeout=10)


async def test_each_key_has_places_of_its_own(producer, run_worker):
    await run_worker(one_a_host, poll_delay=LONG)
    jobs = await all_of(one_a_host, producer, ("x", "x1"), ("x", "x2"), ("y", "y1"))
    assert sorted(await doors.begin(2)) == ["x1", "y1"]
    await doors.let("all")
    for job in jobs:
        await job.result(timeout=10)


async def test_a_job_that_waits_for_its_next_attempt_has_no_place(producer, run_worker):
    await run_worker(one_fails, poll_delay=LONG)
    jobs = await all_of(one_fails, producer, "a", "b")
    await doors.let("a")
    assert await doors.begin(2) == ["a", "b"]
    await doors.let("all")
    for job in jobs:
        await job.abort()


async def test_jobs_that_vanish_from_the_line_do_not_stop_it(producer, run_worker, redis):
    await run_worker(one_a_host, poll_delay=LONG)
    jobs = await all_of(one_a_host, producer, *(("h", str(n)) for n in range(6)))
    await doors.begin(1)
    for job in jobs[1:]:
        await parked(job)
    assert await jobs[1].abort()  # the first in line
    await producer.store.erase("no-such-queue", [jobs[2].job_id])
    await redis.zrem("arq:queue", jobs[2].job_id)  # erased
    moved = 1000 * 3600 + 1000 * (await redis.time())[0]
    await redis.zadd("arq:queue", {jobs[3].job_id: moved})  # somebody gave it another time
    await doors.let("0")
    assert await doors.begin(2) == ["0", "4"]
    assert await redis.zscore("arq:queue", jobs[3].job_id) == moved
    await doors.let("all")
    for n in (0, 4, 5):
        await jobs[n].result(timeout=10)
    with pytest.raises(JobCancelled):
        await jobs[1].result(timeout=10)
    await jobs[3].abort()


async def test_a_job_whose_deadline_passed_while_it_waited_gives_its_turn_to_the_next(producer, run_worker):
    await run_worker(one_a_host, poll_delay=LONG)
    (first,) = await all_of(one_a_host, producer, ("h", "first"))
    await doors.begin(1)
    passed = asyncio.create_task(asyncio.sleep(1))
    late = await producer.enqueue(one_a_host("h", "late"), deadline=1)
    while (await late.info()).waits_for is None and not passed.done():  # on a slow machine it ends before it waits
        await asyncio.sleep(0.01)
    (last,) = await all_of(one_a_host, producer, ("h", "last"))
    await parked(last)
    await passed
    await doors.let("all")
    assert await doors.begin(2) == ["first", "last"]
    with pytest.raises(TaskTimedOut, match="deadline"):
        await late.result(timeout=10)
    for job in (first, last):
        await job.result(timeout=10)


async def test_a_released_job_gives_its_place_back(producer, run_worker):
    first = await run_worker(pair, poll_delay=LONG)
    jobs = await all_of(pair, producer, "a", "b", "c")
    await doors.begin(2)
    await parked(jobs[2])
    await run_worker(pair, poll_delay=LONG)
    first.handle_sig(signal.SIGUSR1)  # gives back what runs
    await doors.begin(4)
    await doors.let("all")
    for job in jobs:
        await job.result(timeout=10)


async def test_limits_of_both_kinds_hold_together(producer, run_worker):
    async def both(ctx: Context, name: str) -> None:
        await doors.inside(name)

    limited = task(name="both", limits=[RateLimit(2, per=3600, burst=2), ConcurrencyLimit(1)])(both)
    await run_worker(limited, poll_delay=LONG)
    jobs = await all_of(limited, producer, "a", "b", "c")
    await doors.begin(1)
    await parked(jobs[1])
    await doors.let("a")
    assert await doors.begin(2) == ["a", "b"]
    await doors.let("all")
    await jobs[1].result(timeout=10)
    async with asyncio.timeout(10):
        while (await jobs[2].info()).waits_for != "rate:both":
            await asyncio.sleep(0.01)
    await jobs[2].abort()


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "5"])
def test_a_limit_is_a_whole_number(limit):
    with pytest.raises(ConfigurationError, match="ConcurrencyLimit"):
        ConcurrencyLimit(limit)


FLEET = """
@task(limits=[ConcurrencyLimit(5)], timeout=timedelta(minutes=5), retry=RetryPolicy(backoff=fixed(0)))
async def five(ctx: Context, number: int, seconds: float) -> int:
    await note(ctx, "start", number)
    await asyncio.sleep(seconds)
    await note(ctx, "end", number)
    return ctx.attempt
""".replace("timedelta(minutes=5)", repr(timedelta(minutes=5).total_seconds()))


async def test_two_worker_processes_together_run_no_more_than_the_limit(producer, start_workers, redis):
    await start_workers(2, FLEET, concurrency=20)
    jobs = await producer.enqueue_many([Call("five", n, 0.01) for n in range(200)])
    for job in jobs:
        await job.result(timeout=60)
    lines = await ran(redis)
    assert most_at_once(lines) <= 5
    assert sorted(line.number for line in lines if line.what == "start") == list(range(200)), "each once"


async def test_the_places_of_a_dead_worker_come_free_with_its_leases(producer, start_workers, redis):
    (doomed,) = await start_workers(1, FLEET, lease=1)
    jobs = await producer.enqueue_many([Call("five", n, 3600 if n < 5 else 0.01) for n in range(10)])
    async with asyncio.timeout(30):
        while len(await ran(redis)) < 5:
            await asyncio.sleep(0.02)
    for job in jobs[5:]:
        await parked(job)
    doomed.kill()
    for job in jobs[:5]:
        await job.abort()  # of a worker that does not hear it: ended by whoever meets it next
    await start_workers(1, FLEET, lease=1)
    assert [await job.result(timeout=30) for job in jobs[5:]] == [1] * 5
    for job in jobs[:5]:
        with pytest.raises(JobCancelled):
            await job.result(timeout=30)


@pytest.mark.parametrize(("most", "ran_in_all"), [(-1, 12), (5, 5)])
async def test_a_burst_runs_jobs_that_wait_for_limits_too_and_counts_those_that_ran(
    producer, run_worker, most, ran_in_all
):
    done: list[int] = []

    async def function(ctx: Context, n: int) -> None:
        await asyncio.sleep(0)
        done.append(n)

    limited = task(name="in_a_burst", limits=[ConcurrencyLimit(2), RateLimit(200)])(function)
    jobs = await producer.enqueue_many([limited(n) for n in range(12)])
    worker = await run_worker(limited, burst=True, max_burst_jobs=most)
    async with asyncio.timeout(30):
        await jobs[ran_in_all - 1].wait()
        while worker.jobs_complete < ran_in_all:
            await asyncio.sleep(0.01)
    assert sorted(done)[:ran_in_all] == list(range(ran_in_all))
    for job in jobs:
        await job.abort()
    assert len(done) == ran_in_all
