"""workers/leases.py: the renewing thread goes on whatever happens, and lets go when the loop stands still too long."""

import asyncio
import threading

import pytest
import structlog

from common.redis.store import HeldLease, Renewal
from workers.leases import LeaseKeeper

LEASE = HeldLease(0, "j", "w:1:1", 1)


class Watch:
    def __init__(self) -> None:
        self.blocked = 0.0
        self.looks = 0

    def look(self, late: float = 0.0) -> float:
        self.looks += 1
        return self.blocked


class Store:
    """Answers every renewal, after the errors it is to raise."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.renewed = threading.Event()
        self.closed = 0

    def renew(self, queues, leases, *, lease_ms) -> Renewal:
        if self.errors:
            raise self.errors.pop(0)
        self.renewed.set()
        return Renewal([], [])

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def lines():
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
async def keep():
    started: list[LeaseKeeper] = []

    def start(store, watch, held=lambda: [LEASE]) -> LeaseKeeper:
        keeper = LeaseKeeper(
            connect=lambda: store,
            queues=["q"],
            lease_ms=20,
            held=held,
            changed=lambda _: None,
            watch=watch,
            block_limit=5,
        )
        keeper.start()
        started.append(keeper)
        return keeper

    yield start
    for keeper in started:
        await keeper.stop()


async def test_it_is_fenced_once_its_leases_may_have_run_out_and_no_longer_when_they_are_renewed(keep, lines):
    store = Store(*(ConnectionResetError("gone") for _ in range(1000)))
    keeper = keep(store, Watch())
    assert keeper.fenced == ""
    async with asyncio.timeout(30):
        while not keeper.fenced:
            await asyncio.sleep(0.001)
    assert "could not be renewed" in keeper.fenced
    assert "BARQUE_LEASE" in keeper.fenced
    store.errors.clear()
    await wait_for(store.renewed)
    async with asyncio.timeout(30):
        while keeper.fenced:
            await asyncio.sleep(0.001)


async def test_it_is_fenced_while_the_loop_stands_still_past_the_limit(keep, lines):
    watch = Watch()
    keeper = keep(Store(), watch)
    watch.blocked = 5.0
    async with asyncio.timeout(30):
        while not keeper.fenced:
            await asyncio.sleep(0.001)
    assert "BARQUE_BLOCK_LIMIT (5 s)" in keeper.fenced
    watch.blocked = 0.0
    async with asyncio.timeout(30):
        while keeper.fenced:
            await asyncio.sleep(0.001)


async def wait_for(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 20)


async def test_any_error_is_logged_and_the_next_renewal_made(keep, lines):
    store = Store(ValueError("unforeseen"), ConnectionResetError("gone"), RuntimeError("again"))
    keep(store, Watch())
    await wait_for(store.renewed)
    assert [line["error"] for line in lines if line["event"] == "leases_not_renewed"] == [
        "ValueError: unforeseen",
        "ConnectionResetError: gone",
        "RuntimeError: again",
    ]
    assert store.closed == 3, "after each the connection is a new one"


async def test_a_loop_that_stands_still_past_the_limit_loses_its_leases_until_it_turns_again(keep, lines):
    watch, store = Watch(), Store()
    watch.blocked = 5.5
    looked = threading.Event()

    def look(late: float = 0.0) -> float:
        watch.looks += 1
        if watch.looks == 10:
            looked.set()
        return watch.blocked

    watch.look = look
    keep(store, watch)
    await wait_for(looked)
    assert not store.renewed.is_set()
    (line,) = [line for line in lines if line["event"] == "leases_given_up"]
    assert (line["log_level"], line["seconds"], line["limit"], line["held"]) == ("error", 5.5, 5, 1)
    watch.blocked = 0.0
    await wait_for(store.renewed)


async def test_a_renewal_that_hangs_does_not_keep_the_stop(keep, monkeypatch):
    monkeypatch.setattr("workers.leases._LAST_RENEWAL", 0.01)
    hanging, let_go = threading.Event(), threading.Event()

    class Hanging(Store):
        def renew(self, queues, leases, *, lease_ms):
            hanging.set()
            let_go.wait(20)
            return Renewal([], [])

    keeper = keep(Hanging(), Watch())
    await wait_for(hanging)
    try:
        async with asyncio.timeout(10):
            await keeper.stop()
        assert keeper._thread.is_alive()
    finally:
        let_go.set()
    await asyncio.to_thread(keeper._thread.join, 20)
    assert not keeper._thread.is_alive()
