"""workers/io_threads.py: a thread pool that runs what the standard one does, and that nobody waits for at an end."""

import asyncio
import threading

import pytest

from workers.io_threads import IoThreads


@pytest.fixture
def pool():
    threads = IoThreads(2)
    yield threads
    threads.shutdown()


def test_it_runs_calls_and_gives_back_what_they_return_or_raise(pool):
    assert pool.submit(divmod, 7, 2).result(timeout=20) == (3, 1)
    assert pool.submit(int, "11", base=2).result(timeout=20) == 3
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 7, 0).result(timeout=20)


async def test_an_event_loop_takes_it(pool):
    asyncio.get_running_loop().set_default_executor(pool)
    assert await asyncio.to_thread(threading.current_thread().__class__.__name__.upper)
    thread = await asyncio.to_thread(threading.current_thread)
    assert thread.daemon
    assert thread.name.startswith("barque-io-")


def test_no_more_threads_than_told_and_free_ones_are_used_again(pool):
    gate = threading.Event()
    held = [pool.submit(gate.wait, 20) for _ in range(5)]
    assert pool._started == 2
    gate.set()
    assert all(future.result(timeout=20) for future in held)


def test_shutdown_waits_for_nothing_and_cancels_what_has_not_begun():
    pool = IoThreads(1)
    gate, begun = threading.Event(), threading.Event()

    def hold() -> str:
        begun.set()
        gate.wait(20)
        return "done"

    held = pool.submit(hold)
    assert begun.wait(20)
    waiting = pool.submit(int)
    pool.shutdown(wait=True, cancel_futures=True)
    assert not held.done()
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(int)
    gate.set()
    assert held.result(timeout=20) == "done"
