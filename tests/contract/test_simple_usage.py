"""arq's chapter "Simple usage": functions by name, a worker that runs them, bursts."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from arq import func
from arq.worker import FailedJobs, JobExecutionFailed

pytestmark = pytest.mark.leaves_keys("arq:result:*")


async def double(ctx, number, *, plus=0):
    return number * 2 + plus


async def explode(ctx):
    raise TypeError("my type error")


async def test_burst_runs_what_is_queued_and_ends(make_worker, arq_redis):
    job = await arq_redis.enqueue_job("double", 4, plus=1)
    worker = make_worker([double])
    await worker.async_run()
    assert await job.result(timeout=5) == 9
    assert (worker.jobs_complete, worker.jobs_failed, worker.jobs_retried) == (1, 0, 0)
    assert repr(worker) == "<Worker j_complete=1 j_failed=0 j_retried=0 j_ongoing=0>"


async def test_burst_on_an_empty_queue_ends(make_worker):
    worker = make_worker([double])
    assert await worker.run_check() == 0


async def test_burst_runs_what_its_jobs_enqueue(make_worker, arq_redis):
    async def parent(ctx):
        await ctx["redis"].enqueue_job("double", 3, _job_id="child")

    await arq_redis.enqueue_job("parent")
    worker = make_worker([func(parent, name="parent"), double])
    assert await worker.run_check() == 2
    children = [found.result for found in await arq_redis.all_job_results() if found.function == "double"]
    assert children == [6]


async def test_a_worker_that_is_no_burst_keeps_running(make_worker, running, arq_redis):
    worker = make_worker([double])
    async with running(worker) as task:
        first = await arq_redis.enqueue_job("double", 1)
        assert await first.result(timeout=10, poll_delay=0.01) == 2
        second = await arq_redis.enqueue_job("double", 2)
        assert await second.result(timeout=10, poll_delay=0.01) == 4
        assert not task.done()


async def test_main_can_be_awaited_directly(make_worker, arq_redis):
    await arq_redis.enqueue_job("double", 1)
    worker = make_worker([double])
    await worker.main()
    assert worker.jobs_complete == 1


@pytest.mark.parametrize(
    ("function", "name"),
    [(double, "double"), (func(double, name="twice"), "twice"), ("asyncio.sleep", "asyncio.sleep")],
    ids=["plain", "func", "import-path"],
)
async def test_functions_are_known_by_name(make_worker, function, name):
    assert list(make_worker([function]).functions) == [name]


async def test_what_a_job_is_told_of_itself(make_worker, arq_redis):
    seen = {}

    async def look(ctx):
        seen.update(ctx)

    job = await arq_redis.enqueue_job("look", _job_id="me")
    score = (await job.info()).score
    worker = make_worker([func(look, name="look")], ctx={"mine": 1})
    await worker.run_check()
    assert seen.keys() == {"mine", "redis", "job_id", "job_try", "enqueue_time", "score"}
    assert (seen["mine"], seen["job_id"], seen["job_try"], seen["score"]) == (1, "me", 1, score)
    assert seen["redis"] is worker.pool
    assert abs(datetime.now(UTC) - seen["enqueue_time"]).total_seconds() < 60


async def test_a_job_cannot_change_the_context_of_the_next(make_worker, arq_redis):
    leaked = []

    async def scribble(ctx):
        leaked.append("note" in ctx)
        ctx["note"] = True

    for _ in range(2):
        await arq_redis.enqueue_job("scribble")
    await make_worker([func(scribble, name="scribble")]).run_check()
    assert leaked == [False, False]


async def test_an_ordinary_exception_fails_the_job_at_once(make_worker, arq_redis):
    job = await arq_redis.enqueue_job("explode")
    worker = make_worker([explode])
    with pytest.raises(FailedJobs, match=r"1 job failed TypeError\('my type error'\)") as raised:
        await worker.run_check()
    assert raised.value.count == 1
    assert (worker.jobs_complete, worker.jobs_failed, worker.jobs_retried) == (0, 1, 0)
    with pytest.raises(TypeError, match="my type error"):
        await job.result()


async def test_run_check_lists_every_failed_job(make_worker, arq_redis):
    for _ in range(3):
        await arq_redis.enqueue_job("explode")
    await arq_redis.enqueue_job("double", 1)
    with pytest.raises(FailedJobs, match="3 jobs failed:\n") as raised:
        await make_worker([explode, double]).run_check()
    assert len(raised.value.job_results) == 3


async def test_a_function_the_worker_does_not_know_fails(make_worker, arq_redis):
    job = await arq_redis.enqueue_job("missing")
    worker = make_worker([double])
    await worker.async_run()
    assert worker.jobs_failed == 1
    with pytest.raises(JobExecutionFailed, match="function 'missing' not found"):
        await job.result()


async def test_one_that_a_running_worker_does_not_know_fails_in_arq_and_waits_in_barque(
    make_worker, running, arq_redis, engine, until
):
    async def missing(ctx):
        return "found"

    async def put_back():
        score = await arq_redis.zscore("arq:queue", job.job_id)
        return score is not None and score % 1 not in {0, 0.5}

    job = await arq_redis.enqueue_job("missing")
    async with running(make_worker([double])):
        if engine == "arq":
            with pytest.raises(JobExecutionFailed, match="function 'missing' not found"):
                await job.result(timeout=10, poll_delay=0.01)
            return
        await until(put_back)
        async with running(make_worker([func(missing, name="missing")])):
            assert await job.result(timeout=30, poll_delay=0.01) == "found"


async def test_arguments_that_do_not_fit_fail_the_job(make_worker, arq_redis):
    job = await arq_redis.enqueue_job("double")
    await make_worker([double]).async_run()
    with pytest.raises(TypeError, match=re.escape("missing 1 required positional argument: 'number'")):
        await job.result()


async def test_max_burst_jobs_is_a_limit_on_all_runs_of_a_worker(make_worker, arq_redis):
    for number in range(5):
        await arq_redis.enqueue_job("double", number)
    worker = make_worker([double])
    assert await worker.run_check(max_burst_jobs=2) == 2
    assert len(await arq_redis.queued_jobs()) == 3
    assert await worker.run_check(max_burst_jobs=2) == 2
    assert await worker.run_check(max_burst_jobs=0) == 2
    assert await worker.run_check(max_burst_jobs=-1) == 5


async def test_no_more_than_max_jobs_run_at_once(make_worker, arq_redis):
    now = most = 0
    full = asyncio.Event()

    async def crowd(ctx):
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        now -= 1

    for _ in range(12):
        await arq_redis.enqueue_job("crowd")
    assert await make_worker([func(crowd, name="crowd")], max_jobs=3).run_check() == 12
    assert most == 3


async def test_blocking_code_runs_in_an_executor(make_worker, arq_redis):
    async def start(ctx):
        ctx["threads"] = ThreadPoolExecutor(1)

    async def stop(ctx):
        ctx["threads"].shutdown()

    async def block(ctx, number):
        return await asyncio.get_running_loop().run_in_executor(ctx["threads"], sum, range(number))

    job = await arq_redis.enqueue_job("block", 10)
    await make_worker([func(block, name="block")], on_startup=start, on_shutdown=stop).run_check()
    assert await job.result() == 45


async def test_a_worker_needs_something_to_run(make_worker):
    with pytest.raises(RuntimeError, match="at least one function or cron_job"):
        make_worker([])


async def test_a_queue_name_can_come_from_the_pool(make_worker, arq_redis):
    arq_redis.default_queue_name = "from-the-pool"
    worker = make_worker([double], redis_pool=arq_redis, queue_name=None)
    await arq_redis.enqueue_job("double", 1)
    assert await worker.run_check() == 1
    with pytest.raises(ValueError, match="queue_name"):
        make_worker([double], queue_name=None)
