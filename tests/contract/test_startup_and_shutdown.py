"""arq's chapter "Startup & shutdown": hooks, their order, what they see, and a worker that is used again."""

import asyncio

import pytest
from arq import func

pytestmark = pytest.mark.leaves_keys("arq:result:*")


@pytest.fixture
def told():
    return []


@pytest.fixture
def hooks(told):
    def hook(name):
        async def note(ctx):
            told.append((name, ctx))

        return note

    names = ("on_startup", "on_job_start", "on_job_end", "after_job_end", "on_shutdown")
    return {name: hook(name) for name in names}


async def greet(ctx):
    return "hello"


async def test_hooks_run_in_order(make_worker, arq_redis, hooks, told):
    async def act(ctx):
        told.append(("job", ctx))

    await arq_redis.enqueue_job("act", _job_id="one")
    worker = make_worker([func(act, name="act")], **hooks)
    await worker.async_run()
    await worker.close()
    assert [name for name, _ in told] == [
        "on_startup",
        "on_job_start",
        "job",
        "on_job_end",
        "after_job_end",
        "on_shutdown",
    ]
    contexts = dict(told)
    assert contexts["on_startup"].keys() == contexts["on_shutdown"].keys() == {"redis"}
    for name in ("on_job_start", "job", "on_job_end", "after_job_end"):
        assert contexts[name].keys() == {"redis", "job_id", "job_try", "enqueue_time", "score"}, name
        assert contexts[name] is contexts["job"], f"{name} sees what the job itself wrote"


async def test_the_result_is_there_after_job_end_and_not_before(make_worker, arq_redis):
    seen = {}

    def look(name):
        async def hook(ctx):
            seen[name] = await arq_redis.exists("arq:result:one")

        return hook

    await arq_redis.enqueue_job("greet", _job_id="one")
    await make_worker([greet], on_job_end=look("end"), after_job_end=look("after")).run_check()
    assert seen == {"end": 0, "after": 1}


async def test_jobs_see_what_startup_put_into_the_context(make_worker, arq_redis):
    async def start(ctx):
        ctx["session"] = "open"

    async def use(ctx):
        return ctx["session"]

    job = await arq_redis.enqueue_job("use")
    await make_worker([func(use, name="use")], on_startup=start).run_check()
    assert await job.result() == "open"


async def test_hooks_run_for_failures_and_retries_too(make_worker, arq_redis, hooks, told):
    from arq import Retry

    async def stumble(ctx):
        if ctx["job_try"] == 1:
            raise Retry
        raise ValueError

    await arq_redis.enqueue_job("stumble")
    await make_worker([func(stumble, name="stumble")], **hooks).async_run()
    tries = [(name, ctx["job_try"]) for name, ctx in told if "job" in name]
    assert tries == [(name, number) for number in (1, 2) for name in ("on_job_start", "on_job_end", "after_job_end")]


async def test_a_job_that_cannot_start_has_no_hooks(make_worker, arq_redis, hooks, told):
    await arq_redis.enqueue_job("missing")
    await arq_redis.zadd("arq:queue", {"no-payload": 1})
    worker = make_worker([greet], **hooks)
    await worker.async_run()
    assert worker.jobs_failed == 2
    assert [name for name, _ in told] == ["on_startup"]


async def test_an_error_at_startup_stops_the_worker(make_worker, arq_redis):
    async def start(ctx):
        raise RuntimeError("no database")

    await arq_redis.enqueue_job("greet", _job_id="one")
    with pytest.raises(RuntimeError, match="no database"):
        await make_worker([greet], on_startup=start).async_run()
    assert await arq_redis.zcard("arq:queue") == 1
    await arq_redis.delete("arq:queue", "arq:job:one")


async def test_a_closed_worker_can_be_run_again(make_worker, arq_redis, hooks, told):
    worker = make_worker([greet], **hooks)
    for number in (1, 2):
        await arq_redis.enqueue_job("greet")
        await worker.async_run()
        await worker.close()
        assert worker.jobs_complete == number
    assert [name for name, _ in told].count("on_startup") == 2
    assert [name for name, _ in told].count("on_shutdown") == 2


async def test_closing_twice_shuts_down_once(make_worker, hooks, told):
    worker = make_worker([greet], **hooks)
    await worker.async_run()
    await worker.close()
    await worker.close()
    assert [name for name, _ in told] == ["on_startup", "on_shutdown"]


async def test_closing_a_worker_that_never_ran_does_nothing(make_worker, hooks, told):
    await make_worker([greet], **hooks).close()
    assert told == []


@pytest.mark.parametrize("method", ["main", "async_run"])
async def test_closing_a_worker_that_is_still_starting_stops_it(make_worker_of, method):
    starting, go_on = asyncio.Event(), asyncio.Event()

    async def start(ctx):
        starting.set()
        await go_on.wait()

    worker = make_worker_of("barque", [greet], on_startup=start, burst=False)
    task = asyncio.create_task(getattr(worker, method)())
    await starting.wait()
    closing = asyncio.create_task(worker.close())
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait_for(closing, 10)
    await asyncio.wait({task}, timeout=10)
    assert task.done()


async def test_closing_a_worker_that_handles_signals_lets_its_jobs_end(make_worker_of, arq_redis):
    started, finish = asyncio.Event(), asyncio.Event()

    async def slow(ctx):
        started.set()
        await finish.wait()
        return "done"

    job = await arq_redis.enqueue_job("slow")
    worker = make_worker_of("barque", [func(slow, name="slow")], handle_signals=True, burst=False)
    task = asyncio.create_task(worker.async_run())
    await started.wait()
    closing = asyncio.create_task(worker.close())
    await asyncio.sleep(0)
    finish.set()
    await asyncio.wait_for(closing, 10)
    await task
    assert await job.result() == "done"


async def test_an_error_in_a_hook_before_the_job_fails_that_job_alone(make_worker_of, arq_redis):
    """arq's own worker ends on it, and leaves the job marked as running."""

    async def refuse(ctx):
        if ctx["job_id"] == "bad":
            raise RuntimeError("not this one")

    bad = await arq_redis.enqueue_job("greet", _job_id="bad")
    good = await arq_redis.enqueue_job("greet")
    worker = make_worker_of("barque", [greet], on_job_start=refuse)
    await worker.async_run()
    assert (worker.jobs_complete, worker.jobs_failed) == (1, 1)
    assert await good.result() == "hello"
    with pytest.raises(RuntimeError, match="not this one"):
        await bad.result()


@pytest.mark.parametrize("name", ["on_job_end", "after_job_end"])
async def test_an_error_in_a_hook_after_the_job_goes_to_the_event_loop(make_worker_of, arq_redis, name):
    """arq's own worker ends on it."""
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))

    async def stumble(ctx):
        raise RuntimeError("in the hook")

    jobs = [await arq_redis.enqueue_job("greet") for _ in range(2)]
    assert await make_worker_of("barque", [greet], **{name: stumble}).run_check() == 2
    assert [await job.result() for job in jobs] == ["hello", "hello"]
    assert [str(error) for error in told] == ["in the hook", "in the hook"]
