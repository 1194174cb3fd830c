"""Durable enqueues: they return when the server's disk, or its replicas, have the job, and say so when not."""

import asyncio
import contextlib

import pytest

from common import Context, Unique, task
from common.embedded import EmbeddedServer
from common.errors import ConfigurationError, DuplicateJob, NotConfirmed, RedisUnavailable
from common.redis.connection import connect
from common.redis.diagnosis import diagnose
from common.server_binary import installed_servers
from common.settings import Settings
from producer import BlockingProducer, Producer
from tests.support.proxy import Proxy

CONFIRMS = [binary for binary in installed_servers() if binary.kind == "Valkey" or binary.version >= (7, 2)]
OLDER = [binary for binary in installed_servers() if binary not in CONFIRMS]

pytestmark = pytest.mark.skipif(not CONFIRMS, reason="no server here has WAITAOF (Valkey, or Redis 7.2)")


@task(name="durable")
async def durable(ctx: Context, n: int) -> int:
    return n


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """A server with an append-only file."""
    with EmbeddedServer(tmp_path_factory.mktemp("lasting"), binary=CONFIRMS[0].path) as server:
        yield server


@pytest.fixture
async def admin(lasting):
    client = connect(Settings(redis_url=lasting.url), name="admin")
    await client.flushall()  # what a test without this fixture left
    yield client
    await client.config_set("appendonly", "yes")
    await client.config_set("appendfsync", "everysec")
    await client.flushall()
    await client.config_resetstat()
    await client.aclose()


async def calls(admin, command: str) -> int:
    """Return how often the server ran a command since the last test."""
    stats = await admin.info("commandstats")
    return stats.get(f"cmdstat_{command}", {}).get("calls", 0)


async def said(admin, producer, enqueueing) -> list[tuple[str, str]]:
    """Return who sent which command meanwhile, as (connection, command)."""
    seen: list[tuple[str, str]] = []
    async with admin.monitor() as monitor:

        async def listen() -> None:
            while True:
                heard = await monitor.next_command()
                if heard["command"].split()[0] == "ECHO":
                    return
                if heard["client_type"] != "lua":
                    place = f"{heard['client_address']}:{heard['client_port']}"
                    seen.append((place, heard["command"].split()[0].upper()))

        listening = asyncio.create_task(listen())
        await enqueueing
        await admin.echo("enough")
        await listening
    return seen


async def test_the_disk_is_asked_over_the_connection_that_wrote(lasting, admin):
    async with Producer(lasting.url, durable=True) as producer:
        await producer.enqueue(durable(1))
        seen = await said(admin, producer, producer.enqueue(durable(2)))
    (wrote,) = [place for place, command in seen if command == "EVALSHA"]
    assert (wrote, "WAITAOF") in seen
    assert await admin.zcard("arq:queue") == 2


async def test_after_a_script_flush_it_is_asked_of_what_was_sent_the_second_time(lasting, admin):
    async with Producer(lasting.url, durable=True) as producer:
        await admin.script_flush()
        seen = await said(admin, producer, producer.enqueue(durable(1)))
    (wrote,) = [place for place, command in seen if command == "EVAL"]
    assert [command for place, command in seen if place == wrote] == ["EVALSHA", "EVAL", "WAITAOF"]


async def test_concurrent_enqueues_share_one_confirmation(lasting, admin):
    async with Producer(lasting.url, durable=True) as producer:
        before = await calls(admin, "waitaof")
        jobs = await asyncio.gather(*(producer.enqueue(durable(n)) for n in range(300)))
        await producer.enqueue_many(durable(n) for n in range(2500))
        # One alone while the others gathered, one for these, one for the 2,500; a few more where the loop is slow.
        assert await calls(admin, "waitaof") - before <= 10
    assert len({job.job_id for job in jobs}) == 300
    assert await admin.zcard("arq:queue") == 2800


async def test_one_call_may_ask_for_it_or_do_without(lasting, admin):
    async with Producer(lasting.url) as plain, Producer(lasting.url, durable=True) as producer:
        asked = await calls(admin, "waitaof")
        await plain.enqueue(durable(1))
        await producer.enqueue(durable(2), durable=False)
        await producer.enqueue_many([durable(3)], durable=False)
        assert await calls(admin, "waitaof") == asked
        await plain.enqueue(durable(4), durable=True)
        await plain.enqueue_many([durable(5)], durable=True)
        await plain.enqueue(durable(6), durable=True)
        # The first also asks whether the server can.
        assert await calls(admin, "waitaof") == asked + 4


async def test_all_that_enqueues_is_durable_and_the_variable_says_it_too(lasting, admin, monkeypatch):
    monkeypatch.setenv("BARQUE_DURABLE", "true")
    async with Producer(lasting.url) as producer:
        asked = await calls(admin, "waitaof")
        gathering = asyncio.create_task(producer.gather(durable(1)))
        while not await admin.zcard("arq:queue"):
            await asyncio.sleep(0)
        while await calls(admin, "waitaof") == asked:
            await asyncio.sleep(0)
        gathering.cancel()
        await asyncio.wait({gathering})


def test_from_synchronous_code(lasting):
    with BlockingProducer(lasting.url, durable=True) as producer:
        assert producer.enqueue(durable(1)).is_new
        assert len(producer.enqueue_many([durable(2), durable(3)])) == 2
    with BlockingProducer(lasting.url) as producer:
        assert producer.enqueue(durable(4), durable=True).is_new


async def test_a_disk_that_does_not_confirm_in_time_is_said_so_and_the_job_is_there(lasting, admin):
    async with Producer(lasting.url, durable=True, answer_within=0.5) as producer:
        await admin.config_set("appendfsync", "no")
        with pytest.raises(NotConfirmed) as caught:
            await producer.enqueue(durable(1), job_id="unsure")
        assert "may be there" in str(caught.value)
        assert "on its disk" in str(caught.value)
        assert (await producer.job("unsure").status()).value == "queued"
        with pytest.raises(NotConfirmed):
            await producer.enqueue_many([durable(2)])
        await admin.config_set("appendfsync", "always")
        again = await producer.enqueue(durable(1), job_id="unsure")
    assert not again.is_new


async def test_what_was_there_already_is_confirmed_as_well(lasting, admin):
    async with Producer(lasting.url) as plain, Producer(lasting.url, durable=True, answer_within=0.5) as producer:
        await admin.config_set("appendfsync", "no")
        await plain.enqueue(durable(1), job_id="there")
        # The job was written by another, and is not on disk: over a connection that wrote nothing the server says yes.
        with pytest.raises(NotConfirmed):
            await producer.enqueue(durable(1), job_id="there")
        await admin.config_set("appendfsync", "always")
        assert not (await producer.enqueue(durable(1), job_id="there")).is_new
    async with asyncio.timeout(10):
        while await admin.exists("barque:confirmed"):  # it lives for a millisecond
            await asyncio.sleep(0)


async def test_a_file_switched_off_in_between_is_said_so(lasting, admin):
    async with Producer(lasting.url, durable=True) as producer:
        await admin.config_set("appendonly", "no")
        with pytest.raises(NotConfirmed, match="switched off"):
            await producer.enqueue(durable(1))


async def test_a_connection_lost_in_between_is_not_confirmed_over_a_new_one(lasting, admin):
    async with Proxy(lasting.port) as proxy, Producer(proxy.url, durable=True) as producer:
        proxy.cut_at = b"WAITAOF"
        with pytest.raises(NotConfirmed, match="connection was lost"):
            await producer.enqueue(durable(1), job_id="lost")
        assert proxy.cuts == 1
        assert (await producer.job("lost").status()).value == "queued"
        proxy.cut_at = None
        assert (await producer.enqueue(durable(2))).is_new


async def test_a_refused_job_is_refused_and_its_neighbours_are_confirmed(lasting, admin):
    await admin.set("not-a-queue", "text")
    async with Producer(lasting.url, durable=True) as producer:
        good, bad = await asyncio.gather(
            producer.enqueue(durable(1)), producer.enqueue(durable(2), queue="not-a-queue"), return_exceptions=True
        )
    assert good.is_new
    assert type(bad) is RedisUnavailable
    assert "WRONGTYPE" in str(bad)


async def test_unique_jobs_are_confirmed_be_they_added_replaced_or_found_and_none_that_is_rejected(lasting, admin):
    unique = {kind: Unique(key="n", on_conflict=kind) for kind in ("return", "replace", "reject")}
    async with Producer(lasting.url, durable=True) as producer:
        for kind in ("return", "return", "replace"):
            said = await calls(admin, "waitaof")
            await producer.enqueue(durable(1), unique=unique[kind])
            assert await calls(admin, "waitaof") == said + 1
        said = await calls(admin, "waitaof")
        with pytest.raises(DuplicateJob):
            await producer.enqueue(durable(1), unique=unique["reject"])
        assert await calls(admin, "waitaof") == said
        await producer.enqueue_many([durable(1), durable(2)], unique=unique["return"])
        assert await calls(admin, "waitaof") == said + 1
        await producer.enqueue(durable(3), unique=unique["return"], durable=False)
        assert await calls(admin, "waitaof") == said + 1
        await admin.config_set("appendonly", "no")
        with pytest.raises(NotConfirmed):
            await producer.enqueue(durable(1), unique=unique["return"])
        with pytest.raises(DuplicateJob):
            await producer.enqueue(durable(1), unique=unique["reject"])


async def connecting_says(kind: type[Exception], **options) -> str:
    with pytest.raises(kind) as caught:
        await Producer(**options).connect()
    message = str(caught.value)
    assert "\n" not in message
    return message


async def test_no_append_only_file_is_one_error_at_connect(server):
    message = await connecting_says(ConfigurationError, redis_url=server.url, durable=True)
    assert "keeps no append-only file" in message
    assert "CONFIG SET appendonly yes" in message
    async with Producer(server.url) as plain:
        with pytest.raises(ConfigurationError, match="append-only"):
            await plain.enqueue(durable(1), durable=True)
        assert (await plain.inspector.queue("arq:queue")).queued == 0


async def test_a_file_that_is_never_synchronised_is_one_error_at_connect(lasting, admin):
    await admin.config_set("appendfsync", "no")
    assert "appendfsync" in await connecting_says(ConfigurationError, redis_url=lasting.url, durable=True)


@pytest.mark.skipif(not OLDER, reason="every server here has WAITAOF")
async def test_a_server_too_old_is_one_error_at_connect_that_says_what_is_possible(tmp_path):
    with EmbeddedServer(tmp_path, binary=OLDER[0].path) as old:
        message = await connecting_says(ConfigurationError, redis_url=old.url, durable=True)
    assert "WAITAOF" in message
    assert "appendfsync always" in message


async def test_a_missing_right_is_named(lasting, admin):
    await admin.acl_setuser("weak", enabled=True, nopass=True, categories=["+@all"], commands=["-waitaof"], keys=["*"])
    try:
        url = lasting.url.replace("redis://", "redis://weak:any@")
        message = await connecting_says(RedisUnavailable, redis_url=url, durable=True)
        assert "ACL SETUSER <user> +waitaof" in message
    finally:
        await admin.acl_deluser("weak")


async def test_a_user_without_config_may_enqueue_durably(lasting, admin):
    rights = {"categories": ["+@all"], "commands": ["-config"], "keys": ["*"], "channels": ["*"]}
    await admin.acl_setuser("tenant", enabled=True, nopass=True, **rights)
    try:
        async with Producer(lasting.url.replace("redis://", "redis://tenant:any@"), durable=True) as producer:
            assert (await producer.enqueue(durable(1))).is_new
    finally:
        await admin.acl_deluser("tenant")


@contextlib.asynccontextmanager
async def a_replica(of, binary):
    with EmbeddedServer(binary=binary.path, config={"replicaof": ["127.0.0.1", str(of.port)]}) as replica:
        client = connect(Settings(redis_url=replica.url))
        try:
            async with asyncio.timeout(30):
                while (await client.info("replication"))["master_link_status"] != "up":
                    await asyncio.sleep(0.02)
            yield replica
        finally:
            await client.aclose()


@pytest.mark.parametrize("binary", installed_servers(), ids=lambda binary: binary.kind)
async def test_replicas_confirm_too_on_servers_of_any_age(binary):
    with EmbeddedServer(binary=binary.path, config={"repl-diskless-sync-delay": "0"}) as primary:
        settings = Settings(redis_url=primary.url, durable_replicas=1)
        async with Producer(settings=settings, answer_within=1) as producer:
            with pytest.raises(NotConfirmed, match="on 1 replica: 0 confirmed"):
                await producer.enqueue(durable(1))
        async with a_replica(primary, binary) as replica, Producer(settings=settings) as producer:
            assert (await producer.enqueue(durable(2), job_id="two")).is_new
            reader = connect(Settings(redis_url=replica.url))
            assert await reader.exists("arq:job:two")
            await reader.aclose()
            if binary in CONFIRMS:
                assert "replica" in await connecting_says(RedisUnavailable, redis_url=replica.url, durable=True)


async def finding(url: str, **settings):
    client = connect(Settings(redis_url=url))
    try:
        found = await diagnose(client, Settings(redis_url=url, **settings))
    finally:
        await client.aclose()
    return next((one for one in found if one.name == "durability"), None)


async def test_the_doctor_looks_at_it_where_it_is_asked_for(lasting, server):
    assert await finding(lasting.url) is None
    assert (await finding(lasting.url, durable=True)).status == "ok"
    none = await finding(server.url, durable=True)
    assert (none.status, "append-only" in none.detail) == ("fail", True)
    few = await finding(lasting.url, durable_replicas=2)
    assert (few.status, few.detail) == ("fail", "enqueues wait for 2 replicas, and there are 0: each one fails")
