"""Progress: a task says how far it is, whoever wants to know asks, or follows it."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from common import Context, RetryPolicy, fixed, task
from common.errors import JobNotFound, NotSerializable, TaskFailed
from common.jobs import JobState
from producer import BlockingProducer

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:progress:*", "barque:watchers:*")


class Stage:
    """Lets a test say when a task goes on, and know when it has got there."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()


@pytest.fixture
def stage() -> Stage:
    return Stage()


@task
async def copy_files(ctx: Context, names: list[str]) -> int:
    for number, name in enumerate(names, 1):
        ctx.progress(number, len(names), f"copied {name}")
    return len(names)


@task
async def in_two_steps(ctx: Context) -> str:
    ctx.progress(1, 2, "half-way")
    ctx.state["stage"].reached.set()
    await ctx.state["stage"].go_on.wait()
    ctx.progress(2, 2, "done")
    return "whole"


@task
async def silent(ctx: Context) -> str:
    ctx.state["stage"].reached.set()
    await ctx.state["stage"].go_on.wait()
    return "said nothing"


@task(retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def in_two_attempts(ctx: Context) -> None:
    ctx.progress(ctx.attempt * 10)
    if ctx.attempt == 1:
        raise ConnectionError


@task(retry=RetryPolicy(max_attempts=1))
async def fails_half_way(ctx: Context) -> None:
    ctx.progress(5, 10)
    raise ValueError("no more")


@task
async def tells_nonsense(ctx: Context) -> str:
    ctx.progress("half")  # type: ignore[arg-type]
    ctx.progress(float("nan"), 3)
    return "well"


@task(keep_result=0)
async def keeps_nothing(ctx: Context) -> None:
    ctx.progress(1, 1, "all")


@task
async def counts_from_a_thread(ctx: Context) -> None:
    def count() -> None:
        for number in range(1000):
            ctx.progress(number + 1, 1000)

    await asyncio.to_thread(count)


async def test_a_job_tells_how_far_it_is(producer, run_worker, stage):
    await run_worker(in_two_steps, ctx={"stage": stage})
    job = await producer.enqueue(in_two_steps())
    assert await job.progress() is None
    watching = aiter(job.watch())
    halfway = await anext(watching)
    assert (halfway.done, halfway.total, halfway.fraction, halfway.message) == (1, 2, 0.5, "half-way")
    assert halfway.attempt == 1
    assert abs(halfway.at - datetime.now(UTC)) < timedelta(minutes=5)
    assert await job.progress() == halfway
    assert (await job.info()).progress == halfway

    stage.go_on.set()
    assert [progress.message async for progress in watching] == ["done"]
    assert await job.result(timeout=10) == "whole"


async def test_the_last_word_is_there_when_the_job_has_ended(producer, run_worker):
    await run_worker(copy_files)
    job = await producer.enqueue(copy_files([f"{number}.txt" for number in range(5000)]))
    await job.result(timeout=30)
    assert (await job.progress()).message == "copied 4999.txt"
    info = await job.info()
    assert (info.state, info.progress.fraction) == (JobState.SUCCEEDED, 1.0)


async def test_who_watches_gets_the_first_and_the_last_and_some_in_between(producer, run_worker):
    await run_worker(copy_files)
    job = await producer.enqueue(copy_files([str(number) for number in range(20_000)]))
    seen = [progress.done async for progress in job.watch()]
    assert seen == sorted(set(seen))
    assert seen[-1] == 20_000
    assert len(seen) < 1000


async def test_several_watch_at_once_and_who_comes_late_sees_the_latest(producer, run_worker, stage):
    await run_worker(in_two_steps, ctx={"stage": stage})
    job = await producer.enqueue(in_two_steps())
    elsewhere = producer.job(job.job_id)
    first, second = aiter(job.watch()), aiter(elsewhere.watch())
    assert [(await anext(first)).done, (await anext(second)).done] == [1, 1]
    late = aiter(job.watch())
    assert (await anext(late)).message == "half-way"
    stage.go_on.set()
    for watching in (first, second, late):
        assert [progress.done async for progress in watching] == [2]


async def test_a_job_that_says_nothing_is_watched_until_it_ends(producer, run_worker, stage):
    await run_worker(silent, ctx={"stage": stage})
    job = await producer.enqueue(silent())
    watching = asyncio.ensure_future(anext(aiter(job.watch()), "over"))
    await stage.reached.wait()
    stage.go_on.set()
    assert await watching == "over"
    assert await job.progress() is None


async def test_a_watch_of_no_job_says_so(producer):
    with pytest.raises(JobNotFound):
        await anext(aiter(producer.job("no-such-job").watch()))


async def test_each_attempt_tells_for_itself(producer, run_worker):
    await run_worker(in_two_attempts)
    job = await producer.enqueue(in_two_attempts())
    await job.wait(timeout=10)
    progress = await job.progress()
    assert (progress.done, progress.total, progress.fraction, progress.attempt) == (20, None, None, 2)


async def test_a_job_that_fails_leaves_how_far_it_was(producer, run_worker):
    await run_worker(fails_half_way)
    job = await producer.enqueue(fails_half_way())
    assert [progress.fraction async for progress in job.watch()] == [0.5]  # ends, and does not raise
    with pytest.raises(TaskFailed):
        await job.result(timeout=10)
    assert (await job.progress()).done == 5


async def test_progress_that_is_none_fails_no_job(producer, run_worker):
    await run_worker(tells_nonsense)
    job = await producer.enqueue(tells_nonsense())
    assert await job.result(timeout=10) == "well"
    assert await job.progress() is None


async def test_it_is_kept_as_long_as_the_result_and_at_least_a_minute(producer, run_worker, redis):
    await run_worker(copy_files, keeps_nothing, keep_result=200)
    kept = await producer.enqueue(copy_files(["a"]))
    brief = await producer.enqueue(keeps_nothing())
    await kept.wait(timeout=10)
    assert [progress.message async for progress in brief.watch()] == ["all"]
    assert 60_000 < await redis.pttl(f"barque:progress:{kept.job_id}") <= 200_000
    assert 0 < await redis.pttl(f"barque:progress:{brief.job_id}") <= 60_000


async def test_a_thread_of_the_task_may_tell_too(producer, run_worker):
    await run_worker(counts_from_a_thread)
    job = await producer.enqueue(counts_from_a_thread())
    await job.result(timeout=10)
    assert (await job.progress()).done == 1000


async def test_from_synchronous_code(redis_url, run_worker):
    await run_worker(copy_files)

    def follow() -> tuple[list[float], str]:
        with BlockingProducer(redis_url) as producer:
            job = producer.enqueue(copy_files(["a", "b"]))
            seen = [progress.done for progress in job.watch()]
            return seen, job.progress().message

    seen, message = await asyncio.to_thread(follow)
    assert (seen[-1], message) == (2, "copied b")


async def test_a_job_nobody_watches_any_more_goes_on(producer, run_worker, stage):
    await run_worker(in_two_steps, ctx={"stage": stage})
    job = await producer.enqueue(in_two_steps())
    async with contextlib.aclosing(job.watch()) as watching:
        async for _ in watching:
            break
    stage.go_on.set()
    assert await job.result(timeout=10) == "whole"


async def test_in_a_test_of_your_own_the_context_keeps_what_the_task_said():
    ctx = Context()
    assert await copy_files.function(ctx, ["a", "b"]) == 2
    assert [(progress.done, progress.message) for progress in ctx.progress_made] == [(1, "copied a"), (2, "copied b")]


async def test_there_what_is_no_progress_is_an_error():
    with pytest.raises(NotSerializable, match="done is no number: str"):
        await tells_nonsense.function(Context())


async def test_a_context_to_which_nothing_was_said_has_nothing():
    assert Context().progress_made == []
    assert Context().emitted == []
