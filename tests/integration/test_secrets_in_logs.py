"""What a job carries reaches no log line, however the job ends; what a task writes into an error does."""

import asyncio
import io

import msgspec
import pytest

from common import NEVER, Call, Context, Retry, RetryPolicy, fixed, task
from common.errors import JobCancelled, TaskFailed
from common.logs import configure_logs
from common.settings import Settings
from producer import Producer
from tests.support.running import producer, run_worker

__all__ = ["producer", "run_worker"]

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:result:*")

SECRET = "hunter2-" + "s3cr3t"
HIDDEN = {"password": SECRET, "list": [SECRET]}


class Stream(io.BytesIO):
    def isatty(self) -> bool:
        return False


@pytest.fixture(params=["json", "console"])
def logged(request):
    """Log all there is to log; `logged()` is the text."""
    stream = Stream()
    configure_logs(Settings(log_level="DEBUG", log_format=request.param), stream)
    return lambda: stream.getvalue().decode()


class Login(msgspec.Struct):
    user: int
    password: str


@task(retry=NEVER)
async def echo(ctx: Context, value: dict, *, more: str = "") -> dict:
    return value


@task(retry=NEVER)
async def typed(ctx: Context, login: Login) -> None: ...


@task(retry=NEVER)
async def fails(ctx: Context, password: str) -> None:
    local = password * 2
    raise ValueError(len(local))


@task(retry=RetryPolicy(max_attempts=3, backoff=fixed(0)))
async def tries(ctx: Context, password: str) -> str:
    if ctx.attempt == 1:
        raise Retry(after=0)
    if ctx.attempt == 2:
        raise OSError("no")
    return password


@task(retry=NEVER)
async def unwritable(ctx: Context, password: str) -> object:
    return {"password": password, "object": object()}


@task(retry=NEVER, timeout=0.05)
async def slow(ctx: Context, password: str) -> None:
    await asyncio.sleep(60)


@task(retry=NEVER)
async def says_it(ctx: Context, password: str) -> None:
    raise ValueError(f"wrong password {password}")


async def ended(job) -> None:
    with pytest.raises((TaskFailed, JobCancelled)):
        await job.result(timeout=20)


async def text_with(logged, *events: str) -> str:
    """Return what is logged once these stand in it: an attempt's line is written after its result is pushed."""
    async with asyncio.timeout(20):
        while not all(event in logged() for event in events):
            await asyncio.sleep(0.001)
    return logged()


async def test_what_a_job_carries_is_in_no_log_line(logged, producer, run_worker, redis_url, monkeypatch):
    monkeypatch.setenv("BARQUE_UNKNOWN_TASK_WAIT", "0")  # else it would wait for a worker that knows it
    await run_worker(echo, typed, fails, tries, unwritable, slow)
    assert await (await producer.enqueue(echo(HIDDEN, more=SECRET), metadata=HIDDEN)).result(timeout=20) == HIDDEN
    assert await (await producer.enqueue(tries(SECRET))).result(timeout=20) == SECRET
    for call in (
        fails(SECRET),
        unwritable(SECRET),
        slow(SECRET),
        Call("typed", {"user": SECRET, "password": 1}),
        Call("typed", SECRET),
        Call("typed", Login(1, SECRET), SECRET),
        Call("echo", HIDDEN, nonsense=SECRET),
        Call("no_such_task", SECRET),
    ):
        await ended(await producer.enqueue(call, metadata=HIDDEN))
    async with Producer(settings=Settings(redis_url=redis_url, payload_format="pickle")) as pickling:
        job = await pickling.enqueue(echo(HIDDEN, more=SECRET))
        await job.wait(timeout=20)
    waiting = await producer.enqueue(echo(HIDDEN), delay=3600)
    await waiting.abort()
    assert SECRET not in await text_with(logged, "job_succeeded", "job_failed", "job_retried", "job_timed_out")


async def test_what_a_task_writes_into_an_error_is_logged(logged, producer, run_worker):
    """As docs/security.md says: the text of an exception is the task's own word."""
    await run_worker(says_it)
    await ended(await producer.enqueue(says_it(SECRET)))
    assert f"wrong password {SECRET}" in await text_with(logged, "job_failed")


async def test_a_traceback_has_source_lines_and_no_values(logged, producer, run_worker):
    await run_worker(fails)
    await ended(await producer.enqueue(fails(SECRET)))
    text = await text_with(logged, "job_failed")
    assert "raise ValueError(len(local))" in text
    assert SECRET not in text
