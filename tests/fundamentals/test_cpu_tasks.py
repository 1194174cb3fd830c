"""`@task(cpu=True)` on a plain `def` runs in a process beside the worker's: it may compute, and it can be killed."""

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
import structlog
from arq.connections import RedisSettings

from common import NEVER, Context, RetryPolicy, fixed, task
from common.errors import JobCancelled, TaskFailed, TaskTimedOut
from common.tasks import registered_tasks
from workers.worker import Worker

# A process imports this file to find the tasks, and nothing of it is shared with the test: they meet in files.


@dataclass
class Sums:
    day: date
    total: int
    pid: int


@task(cpu=True)
def add_up(ctx: Context, day: date, numbers: list[int], *, times: int = 1) -> Sums:
    return Sums(day, sum(numbers) * times, os.getpid())


@task(cpu=True)
def pid(ctx: Context) -> int:
    return os.getpid()


@task(cpu=True, retry=RetryPolicy(max_attempts=3, backoff=fixed(0)))
def die(ctx: Context, how: str) -> str:
    if ctx.attempt == 3:
        return "lived"
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "crashed":
        ctypes.string_at(0)
    os._exit(9)


@task(cpu=True, retry=NEVER)
def die_at_once(ctx: Context) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task(cpu=True, retry=NEVER)
def fall(ctx: Context) -> None:
    raise ValueError("no such page")


@task(cpu=True, retry=RetryPolicy(max_attempts=5, backoff=fixed(0)))
def returns_what_cannot_travel(ctx: Context) -> object:
    return object()


@task(cpu=True, retry=NEVER)
def busy(ctx: Context, begun: Path, until: Path) -> str:
    begun.write_text(str(os.getpid()))
    while not until.exists():  # no await, no check: nothing but a signal ends it
        time.sleep(0.001)
    while not (said := until.read_text()):  # it is there, and not yet written
        time.sleep(0.001)
    return said


@task(cpu=True, retry=NEVER, timeout=1)
def endless(ctx: Context, begun: Path) -> None:
    begun.write_text(str(os.getpid()))
    while True:
        pass


@task(cpu=True)
def talks(ctx: Context) -> dict[str, object]:
    ctx.log.info("half_way", part=1)
    structlog.get_logger("elsewhere").warning("odd")
    for n in range(1, 101):
        ctx.progress(n, 100, "counting")
    ctx.emit_now({"n": 1})
    ctx.emit_now({"n": 2})
    assert not ctx.cancelled
    return {"job_id": ctx.job_id, "attempt": ctx.attempt, "meta": dict(ctx.metadata), "queue": ctx.queue}


@task(cpu=True, retry=NEVER)
def wants_the_workers_own(ctx: Context) -> None:
    ctx["redis"]


@task(cpu=True, retry=NEVER, timeout=60, soft_timeout=0.05)
def as_far_as_it_goes(ctx: Context) -> tuple[str, bool]:
    while not ctx.stopping:
        time.sleep(0.001)
    return ctx.stopping.why, 30 < ctx.time_left < 60


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.setenv("BARQUE_COMPUTE_PROCESSES", "1")


async def until(holds) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.005)


async def until_async(job, state) -> None:
    async with asyncio.timeout(30):
        while (await job.status()).value != state:
            await asyncio.sleep(0.005)


async def read(path: Path) -> str:
    await until(lambda: path.exists() and path.read_text())
    return path.read_text()


def runs(process_id) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def places_of(worker, its_task):
    return worker._engine.executor._runnables[its_task.name].places


async def test_it_runs_in_a_process_that_stays_for_the_next(producer, run_worker):
    await run_worker(add_up, pid)
    sums = await (await producer.enqueue(add_up(date(2026, 1, 2), [1, 2], times=2))).result(timeout=60)
    assert sums == Sums(date(2026, 1, 2), 6, sums.pid)
    assert sums.pid != os.getpid()
    assert await (await producer.enqueue(pid())).result(timeout=60) == sums.pid


async def test_its_function_is_called_directly_in_a_test():
    assert pid.function(Context()) == os.getpid()


async def test_what_fails_follows_its_policy_and_tells_where(producer, run_worker):
    await run_worker(fall, pid)
    with pytest.raises(TaskFailed, match="ValueError: no such page") as raised:
        await (await producer.enqueue(fall())).result(timeout=60)
    trace = raised.value.remote_traceback
    assert 'raise ValueError("no such page")' in trace
    assert "workers/" not in trace, "the traceback begins in the task"


async def test_what_no_retry_would_mend_fails_at_once(producer, run_worker):
    await run_worker(add_up, returns_what_cannot_travel)
    with pytest.raises(TaskFailed, match="ArgumentMismatch: add_up: argument numbers") as raised:
        await (await producer.enqueue(add_up(date(2026, 1, 2), ["a"]))).result(timeout=60)
    assert raised.value.attempts == 1
    with pytest.raises(TaskFailed, match=r"NotSerializable: .*builtins\.object") as raised:
        await (await producer.enqueue(returns_what_cannot_travel())).result(timeout=60)
    assert raised.value.attempts == 1


@pytest.mark.parametrize(
    ("how", "said"),
    [("killed", "out of memory is the usual cause"), ("crashed", "SIGSEGV"), ("left", "exit code 9")],
)
async def test_a_process_that_dies_fails_its_attempt_alone_which_is_tried_again(producer, run_worker, how, said):
    with structlog.testing.capture_logs() as lines:
        worker = await run_worker(die)
        assert await (await producer.enqueue(die(how))).result(timeout=60) == "lived"
        assert worker.jobs_retried == 2
    errors = [line["error"] for line in lines if line["event"] == "job_retried"]
    assert len(errors) == 2
    for error in errors:
        assert "ProcessLost: the process that ran the task die died" in error
        assert said in error


async def test_one_that_runs_past_its_timeout_is_killed_and_no_neighbour_is(
    producer, run_worker, tmp_path, monkeypatch
):
    monkeypatch.setenv("BARQUE_COMPUTE_PROCESSES", "2")
    await run_worker(busy, endless, pid)
    neighbour = await producer.enqueue(busy(tmp_path / "neighbour", tmp_path / "go"))
    beside = await read(tmp_path / "neighbour")
    with pytest.raises(TaskTimedOut, match=r"ran past its timeout of 1 s"):
        await (await producer.enqueue(endless(tmp_path / "endless"))).result(timeout=60)
    killed = await read(tmp_path / "endless")
    await until(lambda: not runs(killed))
    assert runs(beside)
    assert await (await producer.enqueue(pid())).result(timeout=60) not in {int(killed), int(beside)}
    (tmp_path / "go").write_text("well")
    assert await neighbour.result(timeout=60) == "well"


async def test_it_sees_that_its_soft_timeout_has_passed(producer, run_worker):
    await run_worker(as_far_as_it_goes)
    job = await producer.enqueue(as_far_as_it_goes())
    assert await job.result(timeout=60) == ("soft_timeout", True)


async def test_one_that_is_aborted_is_killed(producer, run_worker, tmp_path):
    await run_worker(busy)
    job = await producer.enqueue(busy(tmp_path / "begun", tmp_path / "never"))
    process = await read(tmp_path / "begun")
    await job.abort()
    with pytest.raises(JobCancelled):
        await job.result(timeout=60)
    await until(lambda: not runs(process))


async def test_a_worker_that_leaves_kills_it_and_gives_its_job_back(producer, run_worker, tmp_path):
    worker = await run_worker(busy)
    job = await producer.enqueue(busy(tmp_path / "begun", tmp_path / "go"))
    process = await read(tmp_path / "begun")
    await worker.close()
    assert not runs(process), "it had ended when the worker had"
    assert (await job.status()).value == "queued"
    (tmp_path / "go").write_text("again")
    await run_worker(busy)
    assert await job.result(timeout=60) == "again"


async def test_an_idle_process_ends_with_its_worker(producer, run_worker):
    worker = await run_worker(pid)
    process = await (await producer.enqueue(pid())).result(timeout=60)
    await worker.close()
    assert not runs(process)


async def test_a_worker_that_runs_again_before_it_is_closed_has_the_process_it_had(producer, redis_url):
    worker = Worker([pid], redis_settings=RedisSettings.from_dsn(redis_url), burst=True, handle_signals=False)
    pids = []
    for _ in range(2):
        job = await producer.enqueue(pid())
        await worker.async_run()
        pids.append(await job.result(timeout=30))
    await worker.close()
    assert pids[0] == pids[1]
    await until(lambda: not runs(pids[0]))


async def test_the_time_it_has_begins_when_a_process_is_ready(producer, run_worker, tmp_path):
    worker = await run_worker(busy, endless)
    first = await producer.enqueue(busy(tmp_path / "first", tmp_path / "go"))
    await read(tmp_path / "first")
    (tmp_path / "go 2").write_text("in time")
    second = await producer.enqueue(busy(tmp_path / "second", tmp_path / "go 2"), timeout=5)
    await until(lambda: places_of(worker, busy).waiting == 1)
    assert not (tmp_path / "second").exists()
    (tmp_path / "go").write_text("done")
    assert await first.result(timeout=60) == "done"
    assert await second.result(timeout=60) == "in time"


async def test_a_worker_keeps_no_more_jobs_than_it_can_soon_run(producer, run_worker, tmp_path):
    worker = await run_worker(busy, pid, max_jobs=100)
    blocking = await producer.enqueue(busy(tmp_path / "begun", tmp_path / "go"))
    await read(tmp_path / "begun")
    jobs = await producer.enqueue_many(pid() for _ in range(50))
    await until(lambda: worker.jobs_complete == 0 and places_of(worker, pid).waiting == 1 and len(worker.tasks) <= 2)
    other = await run_worker(pid)
    elsewhere = {await job.result(timeout=60) for job in jobs[1:]}
    assert len(elsewhere) == 1, "the other worker's process ran what this one gave back"
    assert other.jobs_complete >= 40
    (tmp_path / "go").write_text("done")
    assert await blocking.result(timeout=60) == "done"
    await jobs[0].result(timeout=60)


@pytest.mark.leaves_keys("arq:result:*", "barque:progress:*", "barque:stream:*", "barque:watchers:*")
async def test_what_it_logs_and_tells_of_itself_comes_out_at_the_worker(producer, run_worker):
    with structlog.testing.capture_logs() as lines:
        await run_worker(talks)
        job = await producer.enqueue(talks(), metadata={"tenant": "acme"})
        assert [item.value async for item in job.stream()] == [{"n": 1}, {"n": 2}]
        told = await job.result(timeout=60)
    assert told == {"job_id": job.job_id, "attempt": 1, "meta": {"tenant": "acme"}, "queue": "arq:queue"}
    assert (await job.progress()).done == 100
    (line,) = [line for line in lines if line["event"] == "half_way"]
    assert (line["job_id"], line["task"], line["part"], line["log_level"]) == (job.job_id, "talks", 1, "info")
    (line,) = [line for line in lines if line["event"] == "odd"]
    assert line["log_level"] == "warning"


async def test_nothing_of_the_workers_own_is_in_a_process(producer, run_worker):
    await run_worker(wants_the_workers_own)
    with pytest.raises(TaskFailed, match="where nothing of the worker is"):
        await (await producer.enqueue(wants_the_workers_own())).result(timeout=60)


async def test_middleware_sees_its_arguments_and_its_result(producer, run_worker):
    seen = []

    async def look(attempt, proceed):
        seen.append((attempt.args, attempt.kwargs))
        result = await proceed()
        seen.append(result)
        return result

    await run_worker(add_up, middleware=[look])
    job = await producer.enqueue(add_up(date(2026, 1, 2), [1, 2]))
    sums = await job.result(timeout=60)
    assert seen == [((date(2026, 1, 2), [1, 2]), {"times": 1}), sums]


async def test_middleware_may_go_on_more_than_once_one_after_the_other(producer, run_worker):
    async def twice_at_once(attempt, proceed):
        return max(await asyncio.gather(proceed(), proceed()))

    await run_worker(pid, middleware=[twice_at_once])
    assert await (await producer.enqueue(pid())).result(timeout=60) != os.getpid()


async def test_middleware_that_gives_up_waiting_may_go_on_again_in_a_new_process(producer, run_worker, tmp_path):
    begun, go, seen = tmp_path / "begun", tmp_path / "go", []

    async def again(attempt, proceed):
        first = asyncio.create_task(proceed())
        seen.append(await read(begun))
        first.cancel()
        await asyncio.wait({first})
        begun.unlink()
        go.write_text("done")
        return await proceed()

    await run_worker(busy, middleware=[again])
    assert await (await producer.enqueue(busy(begun, go))).result(timeout=60) == "done"
    await until(lambda: not runs(seen[0]))
    assert begun.read_text() not in seen
    assert await (await producer.enqueue(busy(begun, go))).result(timeout=60) == "done", "the place came back"


async def test_one_that_waits_and_is_aborted_with_the_one_that_runs_costs_no_place(producer, run_worker, tmp_path):
    await run_worker(busy, pid)
    running = await producer.enqueue(busy(tmp_path / "begun", tmp_path / "never"))
    await read(tmp_path / "begun")
    waiting = await producer.enqueue(busy(tmp_path / "second", tmp_path / "never"))
    await until_async(waiting, "running")
    await asyncio.gather(running.abort(), waiting.abort())
    for job in (running, waiting):
        with pytest.raises(JobCancelled):
            await job.result(timeout=30)
    assert await (await producer.enqueue(pid())).result(timeout=60)


async def test_a_task_a_process_cannot_find_says_so(producer, run_worker, monkeypatch):
    found = registered_tasks().get("pid", pid)
    elsewhere = type(found)(found.function, "only_here", fall.options)
    await run_worker(elsewhere)
    with pytest.raises(TaskFailed, match="does not declare the task 'only_here', as it did in the worker"):
        await (await producer.enqueue(elsewhere())).result(timeout=60)
