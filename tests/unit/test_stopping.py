"""common/stopping.py: a task is told to come to an end, and sees it in the way it likes."""

import asyncio

import pytest

from common import Context
from common.stopping import Lifetime, Stopping


async def test_nobody_is_told_anything_outside_a_worker():
    ctx = Context()
    assert ctx.time_left is None
    assert not ctx.stopping
    assert ctx.stopping.why == ""
    assert repr(ctx.stopping) == "<Stopping not yet>"


async def test_a_flag_that_stays_up_once_it_is():
    ctx = Context()
    ctx.stopping.tell()
    ctx.stopping.tell("shutdown")
    assert ctx.stopping
    assert ctx.stopping.why == "soft_timeout", "the first reason stands"
    assert repr(ctx.stopping) == "<Stopping soft_timeout>"


async def test_an_await_that_ends_for_all_who_wait():
    ctx = Context()

    async def wait() -> str:
        return await ctx.stopping

    waiting = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    ctx.stopping.tell("shutdown")
    async with asyncio.timeout(10):
        assert await asyncio.gather(*waiting) == ["shutdown"] * 3
        assert await ctx.stopping == "shutdown", "and for who comes later"


async def test_who_looks_only_afterwards_sees_it():
    lifetime = Lifetime()
    lifetime.tell("shutdown")
    assert lifetime.stopping
    assert await lifetime.stopping == "shutdown"


async def test_a_block_is_cancelled_and_what_comes_after_it_runs():
    ctx = Context()
    steps = []

    async def work() -> None:
        try:
            async with ctx.stopping.limit():
                await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # nothing is left of the cancellation
            steps.append("tidied up")

    asyncio.get_running_loop().call_soon(ctx.stopping.tell)
    with pytest.raises(TimeoutError):
        await work()
    assert steps == ["tidied up"]


async def test_a_block_that_begins_too_late_is_cancelled_at_its_first_await():
    ctx = Context()
    ctx.stopping.tell()
    with pytest.raises(TimeoutError):
        async with ctx.stopping.limit():
            await asyncio.Event().wait()


async def test_a_block_that_ended_in_time_hears_nothing():
    ctx = Context()
    async with ctx.stopping.limit():
        await asyncio.sleep(0)
    ctx.stopping.tell()
    await asyncio.sleep(0)


async def test_blocks_within_one_another_are_all_cancelled():
    ctx = Context()

    async def work() -> None:
        async with ctx.stopping.limit(), ctx.stopping.limit():
            await asyncio.Event().wait()

    asyncio.get_running_loop().call_soon(ctx.stopping.tell)
    with pytest.raises(TimeoutError):
        await work()
    await asyncio.sleep(0)


async def test_a_cancellation_from_elsewhere_stays_one():
    ctx = Context()

    async def work() -> None:
        async with ctx.stopping.limit():
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_thread_may_look_at_the_flag():
    ctx = Context()
    assert await asyncio.to_thread(lambda: bool(ctx.stopping)) is False
    ctx.stopping.tell()
    assert await asyncio.to_thread(lambda: bool(ctx.stopping)) is True


def test_the_view_is_one_and_the_same():
    lifetime = Lifetime()
    assert isinstance(lifetime.stopping, Stopping)
    assert lifetime.stopping is lifetime.stopping
