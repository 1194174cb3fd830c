"""Every way in which a server can be away, and what holds in each of them.

The producer raises a clear error within its time, never hangs, and leaves a whole job or none. The worker lets what
runs go on, holds what has ended, delivers it when it can, and goes on by itself.
"""

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path

import pytest
from arq.connections import RedisSettings

from common import Context, task
from common.embedded import EmbeddedServer
from common.errors import RedisUnavailable
from common.redis.connection import connect
from common.redis.store import Store
from common.server_binary import installed_servers
from common.settings import Settings
from producer import Producer
from tests.support.insisting import promised, result_of
from tests.support.proxy import Proxy
from workers.backoff import Backoff
from workers.worker import Worker

started: asyncio.Queue[int]
gate: asyncio.Event
ran: list[int] = []


@pytest.fixture(autouse=True)
async def nothing_ran_yet():
    global started, gate
    started, gate = asyncio.Queue(), asyncio.Event()
    ran.clear()


@task(name="held")
async def held(ctx: Context, n: int) -> int:
    started.put_nowait(n)
    await gate.wait()
    ran.append(n)
    return n


@task(name="quick")
async def quick(ctx: Context, n: int) -> int:
    ran.append(n)
    return n


class Site:
    """A server behind a stretch of network, and an administrator's own way to the server."""

    def __init__(self, folder: Path, server: EmbeddedServer, proxy: Proxy) -> None:
        self.folder, self.server, self.proxy = folder, server, proxy
        self.admin = connect(Settings(redis_url=server.url), name="admin")
        self.other: EmbeddedServer | None = None

    async def set(self, name: str, value: str | int) -> None:
        await self.admin.config_set(name, value)


class Killed:
    says = "may be there or not|did not take"

    async def begin(self, site: Site) -> None:
        await asyncio.to_thread(site.server.kill)

    async def end(self, site: Site) -> None:
        await asyncio.to_thread(site.server.start)


class Hung:
    says = "no answer within 0.5 s"

    async def begin(self, site: Site) -> None:
        os.kill(site.server.pid, signal.SIGSTOP)

    async def end(self, site: Site) -> None:
        os.kill(site.server.pid, signal.SIGCONT)


class Slow:
    """The server works, but what it says does not arrive."""

    says = "no answer within 0.5 s; 1 job.s. may be there or not"

    async def begin(self, site: Site) -> None:
        site.proxy.replies.clear()

    async def end(self, site: Site) -> None:
        site.proxy.replies.set()


class CutOff:
    """Every connection is lost, and so is every new one as soon as it says something."""

    says = "may be there or not|did not take"

    async def begin(self, site: Site) -> None:
        site.proxy.cut_at = b"*"
        site.proxy.cut_all()

    async def end(self, site: Site) -> None:
        site.proxy.cut_at = None


class Full:
    says = "did not take 1 job.s.: .*OOM|maxmemory"

    async def begin(self, site: Site) -> None:
        await site.set("maxmemory", 1)

    async def end(self, site: Site) -> None:
        await site.set("maxmemory", 0)


class TooFewReplicas:
    says = "did not take 1 job.s.: .*NOREPLICAS|Not enough good replicas"

    async def begin(self, site: Site) -> None:
        await site.set("min-replicas-to-write", 1)

    async def end(self, site: Site) -> None:
        await site.set("min-replicas-to-write", 0)


class Busy:
    """A script that does not end: the server says so to everyone else."""

    says = "did not take 1 job.s.: .*BUSY|busy"

    async def begin(self, site: Site) -> None:
        await site.set("busy-reply-threshold", 10)
        spinner = connect(Settings(redis_url=site.server.url), name="spinner")
        self.spinning = asyncio.create_task(spin(spinner))
        async with asyncio.timeout(20):
            with contextlib.suppress(Exception):
                while await site.admin.ping():
                    await asyncio.sleep(0)

    async def end(self, site: Site) -> None:
        await site.admin.execute_command("SCRIPT KILL")
        await self.spinning


async def spin(client) -> None:
    with contextlib.suppress(Exception):
        await client.eval("while true do end", 0)
    await client.aclose()


class Demoted:
    """A fail-over behind one name: old connections still end at what is a read-only replica now."""

    says = "read-only replica|read only replica"

    async def begin(self, site: Site) -> None:
        site.other = EmbeddedServer(site.folder / "other", config=replica_of(site.server))
        await asyncio.to_thread(site.other.start)
        await in_step(site.other, site.admin)
        promoted = connect(Settings(redis_url=site.other.url))
        await promoted.replicaof("NO", "ONE")
        await site.admin.replicaof("127.0.0.1", site.other.port)
        await promoted.aclose()

    async def end(self, site: Site) -> None:
        # Nobody cuts the old connections: whoever holds one must notice by itself.
        site.proxy.leads_to = site.other.port


class Loading:
    """Restarted, and not done with reading its data."""

    says = "did not take 1 job.s.: .*loading"

    async def begin(self, site: Site) -> None:
        await site.admin.mset({f"padding:{n}": os.urandom(4096) for n in range(500)})
        await site.admin.save()
        await site.admin.unlink(*(f"padding:{n}" for n in range(500)))
        await site.admin.config_set("appendonly", "no")
        await asyncio.to_thread(site.server.kill)
        loads_slowly = {
            "appendonly": "no",
            "key-load-delay": "20000",  # microseconds a key: ten seconds for all, unless told otherwise
            "loading-process-events-interval-bytes": "1024",
        }
        site.server._config |= loads_slowly
        self.starting = asyncio.create_task(asyncio.to_thread(site.server.start))
        async with asyncio.timeout(30):
            while not await is_loading(site.admin):
                await asyncio.sleep(0.01)

    async def end(self, site: Site) -> None:
        async with asyncio.timeout(30):
            await self.starting_without_delay(site)

    async def starting_without_delay(self, site: Site) -> None:
        while not self.starting.done():
            with contextlib.suppress(Exception):
                await site.admin.config_set("key-load-delay", 0)
            await asyncio.sleep(0.01)
        await self.starting


async def is_loading(admin) -> bool:
    try:
        await admin.ping()
    except Exception as error:
        return "loading" in str(error).lower()
    return False


class ScriptsForgotten:
    """No outage for anybody: the scripts are sent again."""

    says = None

    async def begin(self, site: Site) -> None:
        await site.admin.script_flush()

    async def end(self, site: Site) -> None:
        await site.admin.script_flush()


KINDS = (Killed, Hung, Slow, CutOff, Full, TooFewReplicas, Busy, Demoted, Loading, ScriptsForgotten)

TELLS_OF_WORKERS = (Killed, Slow, CutOff, TooFewReplicas, Busy, Demoted, Loading)
"""Those that reach a worker within the test, so that it says something: a full server still gives jobs out."""


def replica_of(server: EmbeddedServer) -> dict:
    return {"replicaof": ["127.0.0.1", str(server.port)], "repl-diskless-sync-delay": "0"}


async def in_step(replica: EmbeddedServer, primary) -> None:
    """Return when the replica has all that the primary has."""
    reader = connect(Settings(redis_url=replica.url))
    async with asyncio.timeout(30):
        while True:
            here, there = await reader.info("replication"), await primary.info("replication")
            if here["master_link_status"] == "up" and here["slave_repl_offset"] >= there["master_repl_offset"]:
                break
            await asyncio.sleep(0.01)
    await reader.aclose()


@pytest.fixture(params=installed_servers(), ids=lambda binary: binary.kind)
async def site(request, tmp_path):
    config = {"appendfsync": "always", "repl-diskless-sync-delay": "0"}
    with EmbeddedServer(tmp_path / "one", binary=request.param.path, config=config) as server:
        async with Proxy(server.port) as proxy:
            made = Site(tmp_path, server, proxy)
            yield made
            await made.admin.aclose()
        if made.other is not None:
            made.other.stop()


@pytest.fixture
async def worker(site):
    made = Worker(
        [held, quick],
        redis_settings=RedisSettings.from_dsn(site.proxy.url),
        handle_signals=False,
        poll_delay=0.1,
        lease=60,  # longer than any outage here: who keeps its lease runs its job once
        max_jobs=20,
    )
    running = asyncio.create_task(made.async_run())
    yield made
    running.cancel()
    await asyncio.wait({running})
    await made.close()


def be_impatient(worker: Worker) -> None:
    """Have the worker wait for half a second for an answer, instead of for as long as its lease is."""
    worker._engine._claimer._patience = worker._engine._completer._patience = 0.5


async def wait_until(condition) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_jobs_and_outcomes_outlive_it(kind, site, worker, caplog):
    outage = kind()
    caplog.set_level(logging.WARNING)
    async with Producer(site.proxy.url, answer_within=0.5) as producer:
        running = [await promised(producer, held(n), f"held-{n}") for n in range(5)]
        for _ in running:
            await asyncio.wait_for(started.get(), 30)
        be_impatient(worker)

        await outage.begin(site)
        async with asyncio.timeout(20):
            if outage.says is None:
                await producer.enqueue(quick(10), job_id="during")
            else:
                with pytest.raises(RedisUnavailable, match=outage.says) as raised:
                    await producer.enqueue(quick(10), job_id="during")
                assert "\n" not in str(raised.value)
        gate.set()
        await wait_until(lambda: asyncio.sleep(0, sorted(ran)[:5] == [0, 1, 2, 3, 4]))
        if kind in TELLS_OF_WORKERS:
            await wait_until(lambda: asyncio.sleep(0, "outcomes_wait" in caplog.text or "claim_failed" in caplog.text))
        await outage.end(site)

        assert [await result_of(job) for job in running] == [0, 1, 2, 3, 4]
        assert [n for n in sorted(ran) if n < 5] == [0, 1, 2, 3, 4], "an outcome that is sent again ran once"

        # The job whose enqueue raised is there as a whole, and run, or not at all.
        await result_of(await promised(producer, quick(10), "during"))
        await wait_until(lambda: asyncio.sleep(0, worker.jobs_complete == 6))
        assert sorted(ran) == [0, 1, 2, 3, 4, 10]
        assert worker.jobs_failed == 0


async def test_a_worker_asks_an_absent_server_ever_more_rarely(tmp_path, monkeypatch, caplog):
    pauses: list[float] = []

    class Patient(Backoff):
        def next(self) -> float:
            pauses.append(super().next())
            return 3600

    monkeypatch.setattr("workers.heartbeat.Backoff", Patient)
    monkeypatch.setattr("workers.engine._LAST_CHANCE", 0.5)  # what ran cannot be given back at the end
    monkeypatch.setattr("workers.engine._RECORDING", 0.1)
    with EmbeddedServer(tmp_path) as server:
        worker = Worker(
            [held], redis_settings=RedisSettings.from_dsn(server.url), handle_signals=False, poll_delay=0.05,
            allow_abort_jobs=True, lease=60,
        )  # fmt: skip
        running = asyncio.create_task(worker.async_run())
        async with Producer(server.url) as producer:
            await producer.enqueue(held(1))
            await asyncio.wait_for(started.get(), 30)
        await asyncio.to_thread(server.kill)
        await wait_until(lambda: asyncio.sleep(0, caplog.text.count("claim_failed") >= 4))
        running.cancel()
        await asyncio.wait({running})
        await worker.close()
    assert len(pauses) == 1
    assert caplog.text.count("heartbeat_failed") == 1, "one beat, and then a pause: not one line every poll"


def test_pauses_grow_to_two_seconds_and_are_never_in_step():
    backoff = Backoff()
    pauses = [backoff.next() for _ in range(12)]
    for n, pause in enumerate(pauses):
        longest = min(0.05 * 2**n, 2.0)
        assert longest / 2 <= pause <= longest
    assert len(set(pauses)) == 12
    backoff.reset()
    assert backoff.next() <= 0.05


@task(name="bulky")
async def bulky(ctx: Context, n: int) -> bytes:
    ran.append(n)
    return b"x" * 10_000


@pytest.mark.parametrize("bound", ["outcomes", "bytes"])
async def test_what_is_held_back_is_bounded_and_all_of_it_is_delivered(bound, tmp_path, monkeypatch):
    let_through = asyncio.Event()
    complete = Store.complete

    async def held_up(self, *args, **kwargs):
        await let_through.wait()
        return await complete(self, *args, **kwargs)

    monkeypatch.setattr(Store, "complete", held_up)
    if bound == "bytes":
        monkeypatch.setattr("workers.completer._MOST_WAITING_BYTES", 500_000)
    with EmbeddedServer(tmp_path) as server:
        async with Producer(server.url) as producer:
            jobs = await producer.enqueue_many(bulky(n) for n in range(2000))
            worker = Worker(
                [bulky], redis_settings=RedisSettings.from_dsn(server.url), handle_signals=False, poll_delay=0.1,
                lease=60, max_jobs=10,
            )  # fmt: skip
            running = asyncio.create_task(worker.async_run())
            await wait_until(lambda: asyncio.sleep(0, worker._engine is not None))
            if bound == "outcomes":
                worker._engine._completer._most_waiting = 50
            engine = worker._engine
            await wait_until(lambda: asyncio.sleep(0, engine._room() == 0 and engine.executor.running == 0))
            # One call's worth is on its way, and what was claimed when the bound was reached ends as well.
            assert 50 <= len(ran) <= 100
            let_through.set()
            await wait_until(lambda: asyncio.sleep(0, worker.jobs_complete == len(jobs)))
            running.cancel()
            await asyncio.wait({running})
            await worker.close()
    assert sorted(ran) == list(range(2000)), "each of them once"
