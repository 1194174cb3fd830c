"""workers/stepping.py: each step's time is noted, and the coroutine sees nothing of it."""

import asyncio
import contextlib
import functools
import gc
import time
import weakref

import pytest

from common.redis.store import Claimed
from workers.attempt import Attempt
from workers.stepping import steppable, stepped


@pytest.fixture
def attempt():
    return Attempt(Claimed("j", b"", 1, 0, aborted=False, queue=0, token="w:1:1"), "q")


@pytest.fixture
def clock(monkeypatch):
    """Time passes only where a coroutine says so."""
    now = [0.0]
    monkeypatch.setattr("workers.stepping.perf_counter", lambda: now[0])

    def work(seconds: float) -> None:
        now[0] += seconds

    return work


async def drive(coroutine, attempt):
    """Take the first step, as the executor does, and go on from there."""
    try:
        yielded = coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    return await stepped(coroutine, attempt, yielded, 0.0)


async def test_steps_are_added_up_and_waits_are_not(attempt, clock):
    async def task() -> str:
        clock(0.25)
        await asyncio.sleep(0)
        clock(0.5)
        await asyncio.sleep(0.001)
        clock(0.125)
        return "done"

    async def neighbour() -> None:
        clock(100)

    result, _ = await asyncio.gather(drive(task(), attempt), neighbour())
    assert result == "done"
    assert (attempt.busy, attempt.longest_block, attempt.steps) == (0.875, 0.5, 3)


async def test_what_is_awaited_raises_where_it_is_awaited(attempt, clock):
    async def task() -> str:
        failing = asyncio.get_running_loop().create_future()
        failing.set_exception(OSError("no"))
        await asyncio.sleep(0)
        try:
            await failing
        except OSError as error:
            clock(0.5)
            return f"caught {error}"
        return "missed"

    assert await drive(task(), attempt) == "caught no"
    assert attempt.busy == 0.5


async def test_an_error_keeps_the_time_until_it(attempt, clock):
    async def task() -> None:
        await asyncio.sleep(0)
        clock(0.5)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await drive(task(), attempt)
    assert (attempt.busy, attempt.steps) == (0.5, 2)


async def test_a_cancellation_is_the_coroutines_to_handle(attempt, clock):
    waiting, tidied = asyncio.Event(), asyncio.Event()

    async def task() -> str:
        try:
            waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            clock(0.5)
            tidied.set()
            raise
        return "never"

    running = asyncio.create_task(drive(task(), attempt))
    await waiting.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert tidied.is_set()
    assert attempt.busy == 0.5


async def test_timeouts_and_groups_inside_work_as_ever(attempt):
    async def task() -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            one = group.create_task(asyncio.sleep(0, "one"))
        return one.result()

    assert await drive(task(), attempt) == "one"
    assert asyncio.current_task().cancelling() == 0


async def test_closing_closes_the_coroutine(attempt):
    closed = []

    async def task() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    driving = drive(task(), attempt)
    driving.send(None)
    driving.close()
    assert closed == [True]


async def test_a_long_step_is_seen_by_the_real_clock(attempt):
    async def task() -> None:
        await asyncio.sleep(0)
        began = time.perf_counter()
        while time.perf_counter() - began < 0.002:
            pass

    await drive(task(), attempt)
    assert attempt.longest_block >= 0.002


def gives(awaitable):
    """A decorator as some libraries have it: its own `def` returns what `awaitable` makes of the coroutine."""

    def decorator(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            return awaitable(function(*args, **kwargs))

        return inner

    return decorator


class Later:
    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        return self.coroutine.__await__()


async def double(number, *, by=2):
    await asyncio.sleep(0)
    return number * by


def test_a_coroutine_function_is_stepped_as_it_is():
    assert steppable(double) is double


@pytest.mark.parametrize("awaitable", [asyncio.ensure_future, asyncio.shield, Later, lambda coroutine: coroutine])
async def test_what_a_decorator_returns_is_awaited_whatever_it_is(attempt, awaitable):
    function = steppable(gives(awaitable)(double))
    assert await drive(function(3, by=5), attempt) == 15
    assert attempt.steps > 1


async def test_what_cannot_be_awaited_says_so(attempt):
    async def nothing():
        raise AssertionError("it is not called")

    def number(coroutine):
        coroutine.close()
        return 5

    with pytest.raises(TypeError, match="int"):
        await drive(steppable(gives(number)(nothing))(), attempt)


class Body:
    """What a task has at hand."""


@pytest.mark.parametrize("goes_on", [False, True])
async def test_what_a_task_had_at_hand_when_it_was_cancelled_goes_with_it(goes_on, attempt):
    bodies: list[weakref.ref[Body]] = []
    later = asyncio.Event()

    async def fetch() -> None:
        body = Body()
        bodies.append(weakref.ref(body))
        await asyncio.sleep(3600)

    async def task() -> None:
        try:
            await fetch()
        except asyncio.CancelledError:
            if not goes_on:
                raise
        await later.wait()

    async def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await drive(task(), attempt)

    enabled = gc.isenabled()
    gc.disable()  # nothing waits for the collector
    try:
        running = asyncio.create_task(run())
        while not bodies:
            await asyncio.sleep(0)
        running.cancel()
        while attempt.steps < 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert bodies[0]() is None
        assert running.done() is not goes_on
        later.set()
        await running
    finally:
        if enabled:
            gc.enable()
