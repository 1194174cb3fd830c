"""The heartbeat: again and again, until its end, which waits for the beat under way."""

import asyncio

from workers.heartbeat import Heartbeat


async def test_the_end_waits_for_the_beat_under_way_and_none_follows():
    begun, gate, ended = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        begun.set()
        await gate.wait()
        ended.append(True)

    heartbeat = Heartbeat(work, every=0, patience=30)
    running = asyncio.create_task(heartbeat.run())
    await begun.wait()
    ending = asyncio.create_task(heartbeat.end(within=30))
    await asyncio.sleep(0)
    assert not ending.done()
    gate.set()
    await ending
    assert ended == [True]
    assert await heartbeat.beat()
    assert ended == [True]
    running.cancel()


async def test_the_end_of_a_beat_that_hangs_is_waited_for_so_long_alone():
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    heartbeat = Heartbeat(work, every=0, patience=30)
    running = asyncio.create_task(heartbeat.run())
    await begun.wait()
    async with asyncio.timeout(10):
        await heartbeat.end(within=0.01)
    running.cancel()
