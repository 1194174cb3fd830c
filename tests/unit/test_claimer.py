"""workers/claimer.py without a server: what is done with a claim that arrives when its leases have ended."""

import asyncio

import pytest

from common.redis.store import Claim, Claimed
from workers import claimer, clock
from workers.claimer import Claimer
from workers.clock import ServerClock

LEASE_MS = 10_000


class Time:
    """This host's clock and the server's, which is an hour ahead."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def perf_counter(self) -> float:
        return self.seconds

    @staticmethod
    def time() -> float:
        return 1_000_000.0

    @property
    def server_ms(self) -> int:
        return round(1_003_600_000 + self.seconds * 1000)


class ScriptedStore:
    """Answers each claim with the next of these: how long the reply was on its way, and how many jobs it brings."""

    def __init__(self, time: Time, *replies: tuple[float, int]) -> None:
        self.time = time
        self.replies = list(replies)
        self.client = None
        self.unanswered: list[int] = []
        self.ends_wait_with: Exception | None = None

    async def claim(self, queues, *, unanswered=0, **_) -> Claim:
        self.unanswered.append(unanswered)
        if not self.replies:
            raise asyncio.CancelledError
        on_its_way, count = self.replies.pop(0)
        jobs = [Claimed(f"{len(self.replies)}-{n}", b"", 1, 0, False, 0, "token") for n in range(count)]
        claim = Claim(self.time.server_ms, None, count, jobs)
        self.time.seconds += on_its_way
        return claim

    async def claim_when_woken(self, queues, seconds, *, taken, **_) -> Claim:
        self.time.seconds += seconds
        claim = await self.claim(queues)
        if self.ends_wait_with is not None:
            taken(claim)
            error, self.ends_wait_with = self.ends_wait_with, None
            raise error
        return claim

    async def nudge(self, worker) -> None: ...


@pytest.fixture
def time(monkeypatch) -> Time:
    fake = Time()
    monkeypatch.setattr(claimer, "time", fake)
    monkeypatch.setattr(clock, "time", fake)
    return fake


async def started(time: Time, *replies: tuple[float, int], poll_delay: float = 0.5) -> tuple[list[int], ServerClock]:
    brought: list[int] = []
    server_clock = ServerClock()
    claiming = Claimer(
        ScriptedStore(time, *replies),
        ["q"],
        worker="w",
        lease_ms=LEASE_MS,
        poll_delay=poll_delay,
        patience=60,
        clock=server_clock,
        room=lambda: 100,
        start=lambda claim: brought.append(len(claim.jobs)),
    )
    with pytest.raises(asyncio.CancelledError):
        await claiming.run()
    return brought, server_clock


async def test_jobs_whose_leases_ended_on_the_way_are_not_started(time):
    brought, server_clock = await started(time, (0.0, 1), (10.1, 2), (0.0, 3))
    assert brought == [1, 3]
    assert server_clock.now_ms() == time.server_ms


async def test_a_slow_reply_is_no_late_one(time):
    assert (await started(time, (0.0, 1), (9.9, 2)))[0] == [1, 2]


async def test_a_long_wait_for_work_is_no_late_reply(time):
    assert (await started(time, (0.0, 0), (0.0, 2), poll_delay=3600))[0] == [2]


async def test_a_late_reply_after_a_long_wait_is_one(time):
    assert (await started(time, (0.0, 0), (11.0, 2), poll_delay=3600))[0] == []


async def test_before_the_servers_clock_is_known_no_reply_is_called_late(time):
    assert (await started(time, (20.0, 1)))[0] == [1]


async def test_jobs_that_came_with_the_end_of_its_patience_are_not_asked_for_again(time):
    brought: list[int] = []
    store = ScriptedStore(time, (0.0, 0), (0.0, 2), (0.0, 3))
    store.ends_wait_with = TimeoutError()
    claiming = Claimer(
        store,
        ["q"],
        worker="w",
        lease_ms=LEASE_MS,
        poll_delay=0.5,
        patience=60,
        clock=ServerClock(),
        room=lambda: 100,
        start=lambda claim: brought.append(len(claim.jobs)),
    )
    with pytest.raises(asyncio.CancelledError):
        await claiming.run()
    assert brought == [2, 3]
    assert set(store.unanswered) == {0}


async def test_a_burst_hears_of_the_last_outcome_though_it_comes_while_a_claim_is_on_its_way(time, monkeypatch):
    monkeypatch.setattr(asyncio, "wait_for", lambda awaited, _: awaited)  # who does not hear of it waits for ever

    class Store(ScriptedStore):
        async def claim(self, queues, **_) -> Claim:
            self.replies.append((0.0, 0))
            running = 1 if len(self.replies) == 1 else 0
            if running and claiming.wants_room:  # its outcome is recorded behind the claim's back
                claiming.slot_freed()
            return Claim(self.time.server_ms, None, running, [])

    store = Store(time)
    claiming = Claimer(
        store, ["q"], worker="w", lease_ms=LEASE_MS, poll_delay=0.5, patience=60, clock=ServerClock(),
        room=lambda: 100, start=lambda _: None, burst=True,
    )  # fmt: skip
    async with asyncio.timeout(5):
        await claiming.run()
    assert len(store.replies) == 2
