"""Run at most once per window: the first call runs, and with `trailing` the last one, too."""

import pytest

from common import Context, Throttle, task
from common.errors import DuplicateJob
from common.jobs import JobState
from tests.support.passing_time import pass_time

# Most of this page looks at jobs that no worker has taken yet.
pytestmark = pytest.mark.leaves_keys("arq:*", "barque:wake:*")

ran: list[object] = []


@task(unique=Throttle(60, key="user"))
async def refresh(ctx: Context, user: str, call: int) -> int:
    ran.append(call)
    return call


@task(unique=Throttle(60, key="user", on_conflict="reject"))
async def refresh_or_not(ctx: Context, user: str, call: int) -> int:
    return call


@task(unique=Throttle(60, trailing=True, key="user"))
async def refresh_twice(ctx: Context, user: str, call: int) -> int:
    ran.append(call)
    return call


@pytest.fixture(autouse=True)
def nothing_ran_yet():
    ran.clear()


async def test_the_first_call_of_a_window_runs_and_the_others_are_given_its_job(producer, run_worker):
    await run_worker(refresh)
    first = await producer.enqueue(refresh("u1", 1))
    assert await first.result(timeout=10) == 1
    second = await producer.enqueue(refresh("u1", 2))
    assert (second.job_id, second.is_new) == (first.job_id, False), "though it has ended long since"
    assert await second.result(timeout=10) == 1
    assert (await producer.enqueue(refresh("u2", 3))).is_new


async def test_a_window_begins_with_the_call_that_runs(producer, redis):
    await producer.enqueue(refresh("u1", 1))
    for seconds, is_new in [(59, False), (2, True), (59, False), (2, True)]:
        await pass_time(redis, seconds)
        assert (await producer.enqueue(refresh("u1", 2))).is_new is is_new


async def test_the_record_goes_with_the_window(producer, redis):
    await producer.enqueue(refresh("u1", 1))
    (record,) = await redis.keys("barque:unique*")
    assert 50_000 < await redis.pttl(record) <= 60_000


async def test_the_others_may_be_rejected(producer):
    first = await producer.enqueue(refresh_or_not("u1", 1))
    with pytest.raises(DuplicateJob, match=first.job_id):
        await producer.enqueue(refresh_or_not("u1", 2))


async def test_with_trailing_the_last_call_of_a_window_runs_at_its_end(producer, run_worker, redis):
    jobs = [await producer.enqueue(refresh_twice("u1", call)) for call in (1, 2, 3, 4)]
    assert [(job.is_new, job.replaced) for job in jobs] == [(True, False), (True, False), (False, True), (False, True)]
    assert len({job.job_id for job in jobs[1:]}) == 1
    await run_worker(refresh_twice)
    assert await jobs[0].result(timeout=10) == 1
    assert await jobs[1].status() is JobState.SCHEDULED
    await pass_time(redis, 61)
    assert await jobs[1].result(timeout=10) == 4
    assert ran == [1, 4]


async def test_the_trailing_job_begins_the_next_window(producer, run_worker, redis):
    await run_worker(refresh_twice)
    first, second = [await producer.enqueue(refresh_twice("u1", call)) for call in (1, 2)]
    assert await first.result(timeout=10) == 1
    await pass_time(redis, 61)
    assert await second.result(timeout=10) == 2
    third = await producer.enqueue(refresh_twice("u1", 3))
    assert await third.status() is JobState.SCHEDULED, "the second window is not over"
    await pass_time(redis, 61)
    assert await third.result(timeout=10) == 3
    await pass_time(redis, 61)
    fourth = await producer.enqueue(refresh_twice("u1", 4))
    assert await fourth.result(timeout=10) == 4, "a window without a call has gone by: this one runs at once"
    assert ran == [1, 2, 3, 4]


async def test_trailing_jobs_do_not_pile_up_while_no_worker_is_there(producer, redis):
    for call in range(20):
        await producer.enqueue(refresh_twice("u1", call))
        await pass_time(redis, 45)
    assert await redis.zcard("arq:queue") == 2, "the first one, and the last one of all that followed"
    assert await redis.zcard("barque:unique") == 1


async def test_many_of_one_key_in_one_call(producer):
    jobs = await producer.enqueue_many([refresh_twice("u1", call) for call in range(5)])
    assert [job.is_new for job in jobs] == [True, True, False, False, False]
    assert (await jobs[1].info()).arguments == ("u1", 4)
