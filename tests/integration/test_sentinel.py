"""A fail-over with three real sentinels: producers and workers follow it, and no acknowledged job is lost.

Replication is asynchronous: what a primary acknowledged and had not passed on yet goes with it. The test of the frozen
primary therefore freezes it when the replicas are in step; the test of the killed one asks for `durable_replicas`.
"""

import asyncio
import logging
import os
import signal

import pytest
from arq.connections import ArqRedis

from common import Context, task
from common.errors import RedisUnavailable
from common.redis.connection import open_client
from common.server_binary import installed_servers
from producer import Producer
from tests.support.insisting import promised, result_of
from tests.support.sentinels import Sentinels, info_of
from workers.worker import Worker

started: asyncio.Queue[int]
gate: asyncio.Event
ran: set[int] = set()


@pytest.fixture(autouse=True)
async def nothing_ran_yet():
    global started, gate
    started, gate = asyncio.Queue(), asyncio.Event()
    ran.clear()


@task(name="noted")
async def noted(ctx: Context, n: int) -> int:
    ran.add(n)
    return n


@task(name="spanning")
async def spanning(ctx: Context, n: int) -> int:
    started.put_nowait(n)
    await gate.wait()
    return n


class Feed:
    """Enqueues one job after the other, whatever the server says, and keeps those it was promised."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self.jobs: dict[int, object] = {}
        self.refusals: list[str] = []
        self._going = asyncio.Event()
        self._going.set()
        self._resting = asyncio.Event()

    async def run(self) -> None:
        n = 0
        while True:
            if not self._going.is_set():
                self._resting.set()
                await self._going.wait()
            n += 1
            try:
                async with asyncio.timeout(10):  # an enqueue that hangs ends the test here
                    self.jobs[n] = await self._producer.enqueue(noted(n))
            except RedisUnavailable as error:
                self.refusals.append(str(error))
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.002)

    async def more(self, jobs: int) -> None:
        """Return when so many more were acknowledged."""
        enough = len(self.jobs) + jobs
        async with asyncio.timeout(40):
            while len(self.jobs) < enough:
                await asyncio.sleep(0.01)

    async def rest(self) -> None:
        self._resting.clear()
        self._going.clear()
        await self._resting.wait()

    def go_on(self) -> None:
        self._going.set()


@pytest.fixture(params=installed_servers(), ids=lambda binary: binary.kind)
async def site(request, tmp_path):
    async with Sentinels(tmp_path, request.param) as made:
        yield made


@pytest.fixture
async def worker(site):
    pool = await open_client(site.settings, client_class=ArqRedis, name="worker")
    made = Worker([noted, spanning], redis_pool=pool, handle_signals=False, poll_delay=0.1, lease=5, max_jobs=50)
    running = asyncio.create_task(made.async_run())
    yield made
    running.cancel()
    await asyncio.wait({running})
    await made.close()


async def until(told) -> None:
    async with asyncio.timeout(40):
        while not told():
            await asyncio.sleep(0.01)


async def begin(producer: Producer, worker: Worker) -> tuple[Feed, asyncio.Task, object]:
    """Have a job running and others coming."""
    job = await promised(producer, spanning(0), "spanning")
    await asyncio.wait_for(started.get(), 30)
    worker._engine._claimer._patience = worker._engine._completer._patience = 1.0
    feed = Feed(producer)
    feeding = asyncio.create_task(feed.run())
    await feed.more(50)
    return feed, feeding, job


async def ends_well(feed: Feed, feeding: asyncio.Task, job) -> None:
    """Assert that every acknowledged job has a result, and the one that spanned the fail-over too."""
    feeding.cancel()
    await asyncio.wait({feeding})
    gate.set()
    assert await result_of(job) == 0
    answers = await asyncio.gather(*(result_of(job) for job in feed.jobs.values()))
    assert answers == list(feed.jobs)
    assert set(feed.jobs) <= ran


async def test_a_killed_primary_with_a_promise_of_one_replica(site, worker, caplog):
    caplog.set_level(logging.WARNING)
    settings = site.settings.replace(durable_replicas=1)
    async with Producer(settings=settings, answer_within=1.0) as producer:
        feed, feeding, job = await begin(producer, worker)
        old = await site.primary()
        async with site.looking_away():  # a fail-over that is quicker than the patience of either needs nobody told
            await asyncio.to_thread(old.kill)  # in the middle of things
            await until(lambda: feed.refusals and "claim_failed" in caplog.text)
        new = await site.failed_over(old)
        await feed.more(100)
        assert new is not old
        assert all("\n" not in refusal for refusal in feed.refusals)
        await ends_well(feed, feeding, job)


async def test_a_frozen_primary_that_comes_back_as_a_stale_one(site, worker):
    async with Producer(settings=site.settings, answer_within=1.0) as producer:
        feed, feeding, job = await begin(producer, worker)
        old = await site.primary()
        await feed.rest()
        await site.in_step()
        os.kill(old.pid, signal.SIGSTOP)
        try:
            feed.go_on()
            new = await site.failed_over(old)
            await feed.more(100)
        finally:
            os.kill(old.pid, signal.SIGCONT)
        assert new is not old
        async with asyncio.timeout(40):
            while (await info_of(old)).get("role") != "slave":
                await asyncio.sleep(0.05)
        await feed.more(100)
        await ends_well(feed, feeding, job)


async def test_no_connection_to_a_sentinel_is_kept(site):
    async with Producer(settings=site.settings) as producer:
        await producer.enqueue(noted(1))
        async with asyncio.timeout(10):
            while await site.askers():
                await asyncio.sleep(0.01)


async def test_no_sentinel_and_no_primary_are_errors_in_time(site):
    async with Producer(settings=site.settings, answer_within=1.0) as producer:
        for server in site.servers:
            await asyncio.to_thread(server.kill)
        async with asyncio.timeout(30):
            with pytest.raises(RedisUnavailable) as raised:
                await producer.enqueue(noted(1))
        assert "orders" in str(raised.value)
        with pytest.raises(RedisUnavailable, match="orders"):
            await Producer(settings=site.settings).connect()
    for process in site._processes:
        process.kill()
        process.wait()
    with pytest.raises(RedisUnavailable, match="BARQUE_REDIS_SENTINELS"):
        await Producer(settings=site.settings).connect()
