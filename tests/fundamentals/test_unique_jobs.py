"""At most one job of a key: what counts as the same, for how long, and what the next one does."""

import asyncio
from datetime import timedelta

import pytest
import structlog

from common import NEVER, Call, Context, Debounce, Retry, Throttle, Unique, every, task
from common.errors import ConfigurationError, DuplicateJob, JobNotFound
from common.jobs import JobState
from producer import BlockingProducer
from tests.support.passing_time import pass_time

# Most of this page looks at jobs that no worker has taken yet.
pytestmark = pytest.mark.leaves_keys("arq:*", "barque:wake:*", "barque:schedules*", "barque:attempts:*")

ran: list[object] = []
may_end: asyncio.Event
has_begun: asyncio.Event


@task(unique=Unique())
async def rebuild_report(ctx: Context, year: int, month: int = 1) -> str:
    ran.append((year, month))
    return f"{year}-{month}"


@task(unique=Unique(key="user_id"))
async def sync_user(ctx: Context, user_id: str, reason: str = "") -> str:
    ran.append((user_id, reason))
    return reason


@task(unique=Unique(key="user_id"))
async def held_up(ctx: Context, user_id: str, reason: str = "") -> str:
    ran.append((user_id, reason))
    has_begun.set()
    await may_end.wait()
    return reason


@task(unique=Unique(key="user_id", on_conflict="replace"))
async def latest_wins(ctx: Context, user_id: str, reason: str = "") -> str:
    ran.append(reason)
    return reason


@task(unique=Unique(key="user_id", on_conflict="reject"))
async def close_account(ctx: Context, user_id: str) -> None: ...


@task(unique=Unique(key="user_id"), retry=NEVER)
async def fails(ctx: Context, user_id: str) -> None:
    raise ValueError("no")


@task(unique=Unique(key="region"))
async def nightly_report(ctx: Context, region: str) -> None:
    ran.append(region)


@pytest.fixture(autouse=True)
def nothing_ran_yet():
    global may_end, has_begun
    may_end, has_begun = asyncio.Event(), asyncio.Event()
    ran.clear()


# What counts as the same job


async def test_by_default_all_arguments_count_however_they_are_written(producer):
    first = await producer.enqueue(rebuild_report(2030))
    for call in (rebuild_report(2030, 1), rebuild_report(month=1, year=2030)):
        again = await producer.enqueue(call)
        assert (again.job_id, again.is_new) == (first.job_id, False)
    assert (await producer.enqueue(rebuild_report(2030, 2))).is_new
    await first.abort()


async def test_the_named_argument_counts_alone(producer):
    first = await producer.enqueue(sync_user("u1", reason="login"))
    assert not (await producer.enqueue(sync_user("u1", reason="purchase"))).is_new
    assert (await producer.enqueue(sync_user("u2", reason="login"))).is_new
    assert (await first.info()).keyword_arguments == {"reason": "login"}


@pytest.mark.parametrize("key", [("user_id", "reason"), lambda user_id, reason="": user_id[0]])
async def test_several_may_be_named_or_a_function_makes_the_key(key, producer):
    unique = Unique(key=key)
    assert (await producer.enqueue(sync_user("u1", "x"), unique=unique)).is_new
    assert not (await producer.enqueue(sync_user("u1", "x"), unique=unique)).is_new
    assert (await producer.enqueue(sync_user("v1", "x"), unique=unique)).is_new


async def test_tasks_do_not_share_keys(producer):
    assert (await producer.enqueue(sync_user("u1"))).is_new
    assert (await producer.enqueue(close_account("u1"))).is_new


async def test_a_call_by_name_says_its_key_itself(producer):
    first = await producer.enqueue(sync_user("u1"))
    by_name = await producer.enqueue(Call("sync_user", "u1"), unique=Unique(), unique_key="u1")
    assert (by_name.job_id, by_name.is_new) == (first.job_id, False)
    with pytest.raises(ConfigurationError, match="give unique_key="):
        await producer.enqueue(Call("sync_user", "u1"), unique=Unique())


async def test_an_enqueue_may_say_otherwise_than_its_task(producer):
    await producer.enqueue(sync_user("u1"))
    assert (await producer.enqueue(sync_user("u1"), unique=False)).is_new
    with pytest.raises(DuplicateJob):
        await producer.enqueue(sync_user("u1"), unique=Unique(key="user_id", on_conflict="reject"))


# How long


async def test_until_it_is_done_which_has_nothing_to_do_with_how_long_its_result_is_kept(producer, run_worker):
    await run_worker(held_up)
    first = await producer.enqueue(held_up("u1"))
    await asyncio.wait_for(has_begun.wait(), 10)
    assert not (await producer.enqueue(held_up("u1"))).is_new, "it runs"
    may_end.set()
    await first.result(timeout=10)
    assert await first.status() is JobState.SUCCEEDED, "its result is there"
    again = await producer.enqueue(held_up("u1"))
    assert again.is_new
    await again.result(timeout=10)


async def test_done_is_failed_or_aborted_too(producer, run_worker):
    first = await producer.enqueue(fails("u1"))
    assert await first.abort()
    second = await producer.enqueue(fails("u1"))
    assert second.is_new
    await run_worker(fails)
    await second.wait(timeout=10)
    assert (await producer.enqueue(fails("u1"))).is_new


async def test_a_job_that_waits_for_its_next_attempt_is_not_done(producer, run_worker):
    @task(unique=Unique())
    async def again_in_a_minute(ctx: Context) -> None:
        raise Retry(after=60)

    await run_worker(again_in_a_minute)
    first = await producer.enqueue(again_in_a_minute())
    while (await first.info()).attempt != 1 or await first.status() is not JobState.SCHEDULED:
        await asyncio.sleep(0.001)
    assert not (await producer.enqueue(again_in_a_minute())).is_new
    assert (await producer.enqueue(again_in_a_minute(), unique=Unique(until="started"))).is_new, "it has started"


async def test_until_it_is_started(producer, run_worker):
    unique = Unique(key="user_id", until="started")
    first = await producer.enqueue(held_up("u1", "first"), unique=unique)
    assert not (await producer.enqueue(held_up("u1"), unique=unique)).is_new
    await run_worker(held_up)
    await asyncio.wait_for(has_begun.wait(), 10)
    second = await producer.enqueue(held_up("u1", "second"), unique=unique)
    assert second.is_new, "the first one may have read what has changed since"
    may_end.set()
    assert [await job.result(timeout=10) for job in (first, second)] == ["first", "second"]


async def test_for_a_time_at_the_least(producer, run_worker, redis):
    unique = Unique(key="user_id", for_=timedelta(hours=1))
    await run_worker(sync_user)
    first = await producer.enqueue(sync_user("u1", "first"), unique=unique)
    await first.result(timeout=10)
    again = await producer.enqueue(sync_user("u1"), unique=unique)
    assert (again.job_id, again.is_new) == (first.job_id, False), "it is done, but the hour is not over"
    assert await again.result(timeout=10) == "first"
    await pass_time(redis, 3601)
    assert (await producer.enqueue(sync_user("u1"), unique=unique)).is_new


async def test_for_a_time_and_no_longer(producer, redis):
    unique = Unique(key="user_id", until=None, for_=60)
    await producer.enqueue(sync_user("u1"), unique=unique)
    await pass_time(redis, 59)
    assert not (await producer.enqueue(sync_user("u1"), unique=unique)).is_new
    await pass_time(redis, 2)
    assert (await producer.enqueue(sync_user("u1"), unique=unique)).is_new, "though the first one still waits"


async def test_a_job_that_waits_for_weeks_keeps_its_key(producer, redis):
    first = await producer.enqueue(sync_user("u1"), delay=timedelta(days=90))
    for _ in range(10):
        await pass_time(redis, 20 * 24 * 3600)
        again = await producer.enqueue(sync_user("u1"))
        assert (again.job_id, again.is_new) == (first.job_id, False)
    assert await first.abort()


async def test_the_result_of_a_job_that_is_returned_may_be_kept_no_longer(producer, run_worker):
    unique = Unique(key="user_id", for_=3600)
    await run_worker(sync_user, keep_result=0)
    first = await producer.enqueue(sync_user("u1"), unique=unique)
    while await first.status() is not JobState.UNKNOWN:
        await asyncio.sleep(0.001)
    again = await producer.enqueue(sync_user("u1"), unique=unique)
    with pytest.raises(JobNotFound):
        await again.result(timeout=10)


# What the next one does


async def test_it_is_given_the_job_that_is_there_and_its_result(producer, run_worker):
    jobs = [await producer.enqueue(sync_user("u1", reason)) for reason in ("first", "second", "third")]
    assert [job.is_new for job in jobs] == [True, False, False]
    await run_worker(sync_user)
    assert [await job.result(timeout=10) for job in jobs] == ["first"] * 3
    assert ran == [("u1", "first")]


async def test_it_replaces_the_arguments_of_the_job_that_waits(producer, run_worker):
    first = await producer.enqueue(latest_wins("u1", "first"))
    second = await producer.enqueue(latest_wins("u1", "second"))
    assert (second.job_id, second.is_new, second.replaced) == (first.job_id, False, True)
    await run_worker(latest_wins)
    assert await first.result(timeout=10) == "second"
    assert ran == ["second"]


async def test_a_replaced_job_is_due_when_the_last_enqueue_says(producer):
    first = await producer.enqueue(latest_wins("u1", "first"), delay=60)
    await producer.enqueue(latest_wins("u1", "second"), delay=3600)
    info = await first.info()
    assert info.due_at is not None
    assert info.enqueued_at is not None
    assert 3500 < (info.due_at - info.enqueued_at).total_seconds() < 3700
    await producer.enqueue(latest_wins("u1", "third"))
    assert await first.status() is JobState.QUEUED


async def test_a_replaced_job_keeps_its_place_if_it_is_due(producer, run_worker):
    # Else one that is replaced often enough would never come to its turn.
    first = await producer.enqueue(latest_wins("u1", "first"))
    await producer.enqueue(latest_wins("u2", "behind"))
    await producer.enqueue(latest_wins("u1", "second"))
    await run_worker(latest_wins, max_jobs=1)
    await first.result(timeout=10)
    assert ran[0] == "second"


async def test_a_job_that_has_begun_is_not_replaced(producer, run_worker):
    unique = Unique(key="user_id", on_conflict="replace")
    await run_worker(held_up)
    first = await producer.enqueue(held_up("u1", "first"), unique=unique)
    await asyncio.wait_for(has_begun.wait(), 10)
    second = await producer.enqueue(held_up("u1", "second"), unique=unique)
    assert (second.job_id, second.is_new, second.replaced) == (first.job_id, False, False)
    may_end.set()
    assert await second.result(timeout=10) == "first"


async def test_with_until_started_the_last_arguments_run_for_certain(producer, run_worker):
    unique = Unique(key="user_id", until="started", on_conflict="replace")
    await run_worker(held_up)
    await producer.enqueue(held_up("u1", "first"), unique=unique)
    await asyncio.wait_for(has_begun.wait(), 10)
    await producer.enqueue(held_up("u1", "second"), unique=unique, delay=0.001)
    last = await producer.enqueue(held_up("u1", "third"), unique=unique)
    may_end.set()
    await last.wait(timeout=10)
    assert ran[-1] == ("u1", "third")


async def test_it_is_rejected_by_an_error_that_names_the_job_that_is_there(producer):
    first = await producer.enqueue(close_account("u1"))
    with pytest.raises(DuplicateJob, match=f"close_account: .* {first.job_id} in arq:queue") as caught:
        await producer.enqueue(close_account("u1"))
    assert (caught.value.job_id, caught.value.queue) == (first.job_id, "arq:queue")


async def test_a_job_is_not_in_conflict_with_itself(producer):
    # So a program that got no answer may enqueue again under the same id.
    first = await producer.enqueue(close_account("u1"), job_id="close:u1")
    again = await producer.enqueue(close_account("u1"), job_id="close:u1")
    assert (first.is_new, again.is_new, again.job_id) == (True, False, "close:u1")


# Many at once


async def test_of_many_in_one_call_one_is_added_per_key(producer, run_worker):
    jobs = await producer.enqueue_many([sync_user("u1", "a"), rebuild_report(2030), sync_user("u1", "b")])
    assert [job.is_new for job in jobs] == [True, True, False]
    assert jobs[0].job_id == jobs[2].job_id
    await run_worker(sync_user, rebuild_report)
    assert [await job.result(timeout=10) for job in jobs] == ["a", "2030-1", "a"]


async def test_of_many_concurrent_ones_one_is_added(producer):
    jobs = await asyncio.gather(*(producer.enqueue(sync_user("u1")) for _ in range(100)))
    assert [job.is_new for job in jobs].count(True) == 1
    assert len({job.job_id for job in jobs}) == 1


async def test_what_one_call_rejects_is_counted_and_the_others_are_there(producer, redis):
    await producer.enqueue(close_account("u1"))
    with pytest.raises(DuplicateJob, match="1 of 3 jobs were rejected, the others are enqueued"):
        await producer.enqueue_many([close_account("u1"), close_account("u2"), rebuild_report(2030)])
    assert await redis.zcard("arq:queue") == 3


async def test_gather_as_completed_and_map_know_them_too(producer, run_worker):
    await run_worker(sync_user)
    calls = [sync_user("u1", "x"), sync_user("u1", "x"), sync_user("u2", "x")]
    assert await producer.gather(*calls, timeout=10) == ["x", "x", "x"]
    assert len([job async for job in producer.as_completed(calls, timeout=10)]) == 3
    assert [value async for value in producer.map(lambda user: sync_user(user, "y"), ["u1", "u1"])] == ["y", "y"]


def test_from_synchronous_code(redis_url):
    with BlockingProducer(redis_url) as producer:
        first = producer.enqueue(latest_wins("u1"))
        again = producer.enqueue(latest_wins("u1"))
        assert (first.is_new, again.is_new, again.replaced, again.job_id) == (True, False, True, first.job_id)
        assert first.abort()


# Schedules


async def test_a_tick_of_a_unique_task_is_left_out_while_a_job_of_its_key_is_there(producer, run_worker):
    job = await producer.enqueue(nightly_report("north"), delay=3600)
    await producer.schedules.add("north", nightly_report("north"), every(1))
    await producer.schedules.add("south", nightly_report("south"), every(1))
    with structlog.testing.capture_logs() as lines:
        await run_worker(nightly_report)
        async with asyncio.timeout(20):
            while not {("north", "schedule_tick_left_out"), ("south", "schedule_ticked")} <= {
                (line.get("schedule"), line["event"]) for line in lines
            }:
                await asyncio.sleep(0.01)
    left_out = next(line for line in lines if line["event"] == "schedule_tick_left_out")
    assert (left_out["schedule"], left_out["why"]) == ("north", "a job of its unique key is there")
    assert "north" not in ran
    assert await job.status() is JobState.SCHEDULED


# Dead letters


async def test_a_job_that_is_replayed_takes_its_key_up_again(producer, run_worker):
    job = await producer.enqueue(fails("u1"))
    worker = await run_worker(fails)
    await job.wait(timeout=10)
    await worker.close()
    assert (await producer.dead.replay(job.job_id)).replayed == 1
    again = await producer.enqueue(fails("u1"))
    assert (again.job_id, again.is_new) == (job.job_id, False)


async def test_unless_another_one_has_it_and_then_both_run(producer, run_worker):
    job = await producer.enqueue(fails("u1"))
    worker = await run_worker(fails)
    await job.wait(timeout=10)
    await worker.close()
    other = await producer.enqueue(fails("u1"))
    assert (await producer.dead.replay(job.job_id)).replayed == 1
    assert (other.is_new, await job.status(), await other.status()) == (True, JobState.QUEUED, JobState.QUEUED)
    assert (await producer.enqueue(fails("u1"))).job_id == other.job_id


# What stays behind


async def test_records_of_keys_whose_jobs_have_ended_are_swept_by_later_enqueues(producer, redis):
    for job in await producer.enqueue_many([rebuild_report(year) for year in range(100)]):
        assert await job.abort()
    assert await redis.zcard("barque:unique") == 100
    await pass_time(redis, 120)
    for year in range(40):
        await (await producer.enqueue(rebuild_report(2000 + year))).abort()
    assert await redis.zcard("barque:unique") == 40


async def test_every_record_goes_by_itself(producer, redis):
    job = await producer.enqueue(rebuild_report(2030))
    await job.abort()
    await pass_time(redis, 31 * 24 * 3600)
    assert await redis.keys("barque:unique*") == []


# What makes no sense is said where it is written


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Unique(until="ended"), "until='ended'"),
        (lambda: Unique(until=None), "give for_="),
        (lambda: Unique(for_=0), "for_=0"),
        (lambda: Unique(on_conflict="drop"), "on_conflict='drop'"),
        (lambda: Unique(key=["a", 5]), "the name of an argument"),
        (lambda: Debounce(0), "quiet=0"),
        (lambda: Debounce(5, at_most=4), "at_most"),
        (lambda: Throttle(float("nan")), "per=nan"),
        (lambda: Throttle(5, trailing=True, on_conflict="reject"), "rejects no call"),
        (lambda: task(unique=Unique(key="colour"))(sync_user.function), "no argument of that name; it takes: user_id"),
        (lambda: task(unique=True)(sync_user.function), "give Unique"),
    ],
)
def test_a_declaration_that_makes_no_sense(make, says):
    with pytest.raises(ConfigurationError, match=says):
        make()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"unique": Debounce(5), "delay": 5}, "take delay= or at= away"),
        ({"unique": Debounce(5), "expires": 4}, "over before the job is due"),
        ({"unique": Throttle(60, trailing=True), "expires": 30}, "over before the job is due"),
        ({"unique": "reject"}, "give Unique"),
    ],
)
async def test_an_enqueue_that_makes_no_sense(options, says, producer):
    with pytest.raises(ConfigurationError, match=says):
        await producer.enqueue(sync_user("u1"), **options)


async def test_a_key_for_what_is_not_unique_is_a_slip(producer):
    with pytest.raises(ConfigurationError, match="unique_key="):
        await producer.enqueue(Call("anything"), unique_key=5)
