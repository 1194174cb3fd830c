"""Streams: a task hands out items while it runs; whoever reads gets all of them, live and from the start."""

import asyncio
from dataclasses import dataclass

import pytest

from common import Context, RetryPolicy, fixed, task
from common.errors import (
    ArgumentMismatch,
    BarqueError,
    JobNotFound,
    NotSerializable,
    PayloadTooLarge,
    StreamFull,
    TaskFailed,
)
from common.progress import Collected, StreamLimits
from common.redis.keys import WAITERS
from producer import BlockingProducer

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:stream:*", "barque:watchers:*")


class Stage:
    """Lets a test say when a task goes on, and know when it has got there."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()


@pytest.fixture
def stage() -> Stage:
    return Stage()


@dataclass
class Row:
    number: int
    text: str


@task
async def say(ctx: Context, words: list[str]) -> int:
    for word in words:
        await ctx.emit(word)
    return len(words)


@task
async def say_in_two_parts(ctx: Context, first: list[str], second: list[str]) -> None:
    for word in first:
        await ctx.emit(word)
    ctx.state["stage"].reached.set()
    await ctx.state["stage"].go_on.wait()
    for word in second:
        await ctx.emit(word)


@task
async def count(ctx: Context, to: int) -> None:
    for number in range(1, to + 1):
        await ctx.emit(number)


@task
async def rows(ctx: Context) -> None:
    await ctx.emit(Row(1, "one"))
    await ctx.emit(Row(2, "two"))


@task(retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
async def breaks_off_once(ctx: Context) -> None:
    await ctx.emit("Once upon")
    if ctx.attempt == 1:
        await ctx.emit("a midnight")
        raise ConnectionError
    await ctx.emit("a time")


@task(retry=RetryPolicy(max_attempts=1))
async def fails_after_two(ctx: Context) -> None:
    await ctx.emit(1)
    await ctx.emit(2)
    raise ValueError("no three")


@task(retry=RetryPolicy(max_attempts=1))
async def emits(ctx: Context, sizes: list[int]) -> None:
    for size in sizes:
        await ctx.emit(b"x" * size)


@task
async def emits_nonsense(ctx: Context) -> str:
    try:
        await ctx.emit({"part": object()})
    except NotSerializable as error:
        return str(error)
    return ""


@task(keep_result=0)
async def keeps_nothing(ctx: Context) -> None:
    await ctx.emit("all the same")
    await ctx.state["stage"].go_on.wait()


async def values(job, kind=None) -> list:
    stream = job.stream() if kind is None else job.stream(kind)
    return [item.value async for item in stream]


async def read_into(seen: list, job) -> None:
    async for item in job.stream():
        seen.append(item.value)


async def test_a_stream_is_read_while_the_job_runs(producer, run_worker, stage):
    await run_worker(say_in_two_parts, ctx={"stage": stage})
    job = await producer.enqueue(say_in_two_parts(["a", "b"], ["c"]))
    reading = aiter(job.stream(str))
    assert [(await anext(reading)).value, (await anext(reading)).value] == ["a", "b"]
    stage.go_on.set()
    last = await anext(reading)
    assert (last.value, last.number, last.attempt) == ("c", 3, 1)
    assert await anext(reading, "over") == "over"


async def test_it_is_there_from_the_start_for_who_comes_later(producer, run_worker):
    await run_worker(say)
    job = await producer.enqueue(say(["x", "y", "z"]))
    assert await job.result(timeout=10) == 3
    assert await values(job) == ["x", "y", "z"]
    assert await values(producer.job(job.job_id)) == ["x", "y", "z"]


async def test_thousands_of_items_come_once_each_and_in_order(producer, run_worker):
    await run_worker(count)
    job = await producer.enqueue(count(5000))
    readers = [values(job, int) for _ in range(3)]
    for read in await asyncio.gather(*readers):
        assert read == list(range(1, 5001))


async def test_a_slow_reader_and_a_fast_one_each_get_all(producer, run_worker, stage):
    await run_worker(say_in_two_parts, ctx={"stage": stage})
    job = await producer.enqueue(say_in_two_parts(["a", "b"], ["c", "d"]))
    slow = aiter(job.stream())
    seen = [(await anext(slow)).value]
    fast = asyncio.create_task(values(job))
    await stage.reached.wait()
    stage.go_on.set()
    assert await fast == ["a", "b", "c", "d"]
    seen += [item.value async for item in slow]
    assert seen == ["a", "b", "c", "d"]


async def test_items_have_the_type_the_reader_asks_for(producer, run_worker):
    await run_worker(rows)
    job = await producer.enqueue(rows())
    assert await values(job, Row) == [Row(1, "one"), Row(2, "two")]
    assert await values(job) == [{"number": 1, "text": "one"}, {"number": 2, "text": "two"}]
    with pytest.raises(ArgumentMismatch, match=f"item 1 of job {job.job_id}"):
        await values(job, int)


async def test_another_attempt_begins_the_stream_anew(producer, run_worker):
    await run_worker(breaks_off_once)
    job = await producer.enqueue(breaks_off_once())
    text: list[str] = []
    async for item in job.stream(str):
        if item.number == 1:
            text.clear()
        text.append(item.value)
    assert text == ["Once upon", "a time"]
    assert [(item.attempt, item.number) async for item in job.stream()] == [(2, 1), (2, 2)]


async def test_who_was_reading_meanwhile_sees_where_it_begins_anew(producer, run_worker, stage):
    @task(name="restarts", retry=RetryPolicy(max_attempts=2, backoff=fixed(0)))
    async def restarts(ctx: Context) -> None:
        await ctx.emit("first try" if ctx.attempt == 1 else "second try")
        if ctx.attempt == 1:
            await stage.go_on.wait()
            raise ConnectionError

    await run_worker(restarts)
    job = await producer.enqueue(restarts())
    seen = []
    async for item in job.stream(str):
        seen.append((item.attempt, item.number, item.value))
        stage.go_on.set()
    assert seen == [(1, 1, "first try"), (2, 1, "second try")]


async def test_a_failure_is_raised_when_all_items_were_read(producer, run_worker):
    await run_worker(fails_after_two)
    job = await producer.enqueue(fails_after_two())
    seen: list[int] = []
    with pytest.raises(TaskFailed, match="no three"):
        await read_into(seen, job)
    assert seen == [1, 2]


async def test_a_stream_outlives_the_connections_over_which_it_is_read(producer, run_worker, stage, redis):
    await run_worker(say_in_two_parts, ctx={"stage": stage})
    job = await producer.enqueue(say_in_two_parts(["a", "b"], ["c", "d"]))
    reading = aiter(job.stream())
    assert [(await anext(reading)).value, (await anext(reading)).value] == ["a", "b"]
    for kind in ("pubsub", "normal"):
        await redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    stage.go_on.set()
    assert [item.value async for item in reading] == ["c", "d"]


async def test_a_job_without_items_has_an_empty_stream(producer, run_worker):
    await run_worker(say)
    job = await producer.enqueue(say([]))
    assert await values(job) == []


async def test_a_stream_of_no_job_says_so(producer):
    with pytest.raises(JobNotFound):
        await values(producer.job("no-such-job"))


async def test_it_is_kept_as_long_as_the_result_and_at_least_a_minute(producer, run_worker, redis, stage):
    await run_worker(say, keeps_nothing, keep_result=200, ctx={"stage": stage})
    kept = await producer.enqueue(say(["a"]))
    brief = await producer.enqueue(keeps_nothing())
    reading = asyncio.create_task(values(brief))
    async with asyncio.timeout(20):
        while not await redis.hexists(WAITERS, brief.job_id):  # else nobody would know how it ended
            await asyncio.sleep(0.001)
    stage.go_on.set()
    assert await reading == ["all the same"]
    await kept.wait(timeout=10)
    assert 60_000 < await redis.pttl(f"barque:stream:{kept.job_id}") <= 200_000
    assert 0 < await redis.pttl(f"barque:stream:{brief.job_id}") <= 60_000


async def test_what_has_no_form_on_the_wire_is_told_to_the_task(producer, run_worker):
    await run_worker(emits_nonsense)
    job = await producer.enqueue(emits_nonsense())
    assert "item['part'] is of type builtins.object" in await job.result(timeout=10)


@pytest.mark.parametrize(
    ("sizes", "setting"),
    [([10, 101], "STREAM_MAX_ITEM_BYTES"), ([1, 1, 1, 1], "STREAM_MAX_ITEMS"), ([90, 90, 90], "STREAM_MAX_BYTES")],
)
async def test_a_stream_has_limits_and_the_error_names_them(producer, run_worker, monkeypatch, sizes, setting):
    monkeypatch.setenv("BARQUE_STREAM_MAX_ITEMS", "3")
    monkeypatch.setenv("BARQUE_STREAM_MAX_BYTES", "200")
    monkeypatch.setenv("BARQUE_STREAM_MAX_ITEM_BYTES", "100")
    await run_worker(emits)
    job = await producer.enqueue(emits(sizes))
    seen: list[bytes] = []
    with pytest.raises(TaskFailed, match=f"BARQUE_{setting}") as raised:
        await read_into(seen, job)
    assert [len(value) for value in seen] == sizes[:-1]  # what was taken is there
    assert raised.value.remote_type in {"common.errors.StreamFull", "common.errors.PayloadTooLarge"}


async def test_a_task_waits_when_items_are_not_taken_as_fast_as_it_makes_them(producer, run_worker, redis):
    made = 0
    most_ahead = 0

    @task(name="floods")
    async def floods(ctx: Context) -> None:
        nonlocal made, most_ahead
        for number in range(5000):
            await ctx.emit(number)
            made = number + 1
            if made % 1000 == 0:
                stored = await redis.xlen(f"barque:stream:{ctx.job_id}")
                most_ahead = max(most_ahead, made - stored)

    await run_worker(floods)
    job = await producer.enqueue(floods())
    assert await values(job, int) == list(range(5000))
    assert made == 5000
    assert most_ahead <= 1000


async def test_from_synchronous_code(redis_url, run_worker):
    await run_worker(say)

    def read() -> list[str]:
        with BlockingProducer(redis_url) as producer:
            return [item.value for item in producer.enqueue(say(["a", "b"])).stream(str)]

    assert await asyncio.to_thread(read) == ["a", "b"]


async def test_in_a_test_of_your_own_the_context_keeps_the_items():
    ctx = Context()
    assert await say.function(ctx, ["a", "b"]) == 2
    assert ctx.emitted == ["a", "b"]


async def test_there_too_limits_hold():
    few = Collected(1, StreamLimits(items=1, size=100, item=10))
    await few.emit("a")
    with pytest.raises(StreamFull, match="has 1 items, which is the limit"):
        await few.emit("b")
    with pytest.raises(PayloadTooLarge, match="an item of 12 bytes, the limit is 10"):
        await few.emit("b" * 11)


async def test_who_emits_after_the_attempt_ended_is_told(producer, run_worker, stage):
    contexts: list[Context] = []

    @task(name="leaves_its_context")
    async def leaves_its_context(ctx: Context) -> None:
        await ctx.emit(1)
        contexts.append(ctx)

    await run_worker(leaves_its_context)
    job = await producer.enqueue(leaves_its_context())
    await job.wait(timeout=10)
    with pytest.raises(BarqueError, match=r"attempt 1 of job .* has ended"):
        await contexts[0].emit(2)
    assert await values(job) == [1]
