"""What doctor finds on real servers set up well, badly, and not at all; and its judgement of numbers."""

import asyncio
import contextlib
import socket

import pytest

from common.embedded import EmbeddedServer
from common.redis import diagnosis
from common.redis.connection import connect
from common.redis.diagnosis import diagnose
from common.secret import Secret
from common.server_binary import installed_servers
from common.settings import Settings

QUESTIONS = [
    "server", "version", "role", "cluster", "persistence", "eviction", "memory",
    "protection", "scripts", "clock", "latency",
]  # fmt: skip


async def examine(url, **settings):
    """Return the findings by name; every one that is not ok says what to do."""
    chosen = Settings(redis_url=url, **settings)
    client = connect(chosen)
    try:
        findings = await diagnose(client, chosen)
    finally:
        await client.aclose()
    assert all(bool(finding.advice) == (finding.status != "ok") for finding in findings)
    return {finding.name: finding for finding in findings}


@contextlib.asynccontextmanager
async def changed(url, *commands):
    client = connect(Settings(redis_url=url))
    try:
        for command in commands:
            await client.execute_command(*command)
        yield client
    finally:
        await client.aclose()


@pytest.mark.parametrize("binary", installed_servers(), ids=lambda binary: binary.kind)
async def test_a_server_set_up_well(binary, tmp_path):
    with EmbeddedServer(tmp_path, binary=binary.path, config={"maxmemory": "200mb"}) as server:
        found = await examine(server.url)
        assert list(found) == QUESTIONS
        # How fast a round trip is depends on what else the machine does; all the rest is as set up.
        assert {name: each.status for name, each in found.items() if name not in {"latency", "clock"}} == {
            name: "ok" for name in QUESTIONS if name not in {"latency", "clock"}
        }
        assert found["version"].detail == f"{binary.kind} {'.'.join(map(str, binary.version))}"
        assert "everysec" in found["persistence"].detail
        async with changed(server.url) as client:
            assert await client.dbsize() == 0


async def test_persistence_that_loses_jobs():
    with EmbeddedServer() as server:
        persistence = (await examine(server.url))["persistence"]
        assert (persistence.status, "loses every job" in persistence.detail) == ("warn", True)
        async with changed(server.url, ("CONFIG", "SET", "save", "900 1")):
            persistence = (await examine(server.url))["persistence"]
        assert (persistence.status, "snapshots only (save 900 1)" in persistence.detail) == ("warn", True)
        assert "CONFIG SET appendonly yes" in persistence.advice


async def test_an_append_only_file_that_is_not_synced(tmp_path):
    with EmbeddedServer(tmp_path, config={"appendfsync": "no"}) as server:
        persistence = (await examine(server.url))["persistence"]
    assert persistence.status == "warn"
    assert "CONFIG SET appendfsync everysec" in persistence.advice


async def test_eviction_that_deletes_jobs():
    with EmbeddedServer(config={"maxmemory": "200mb", "maxmemory-policy": "allkeys-lru"}) as server:
        eviction = (await examine(server.url))["eviction"]
    assert (eviction.status, "allkeys-lru" in eviction.detail) == ("fail", True)
    assert "CONFIG SET maxmemory-policy noeviction" in eviction.advice


async def test_a_replica_fails_and_names_its_primary():
    with (
        EmbeddedServer() as primary,
        EmbeddedServer(config={"replicaof": ("127.0.0.1", str(primary.port))}) as replica,
    ):
        role = (await examine(replica.url))["role"]
    assert role.status == "fail"
    assert f"127.0.0.1:{primary.port}" in role.advice


async def test_cluster_mode_fails():
    with socket.create_server(("127.0.0.1", 0)) as vacated:
        bus = str(vacated.getsockname()[1])  # by default the port + 10000, which may be past the last
    with EmbeddedServer(config={"cluster-enabled": "yes", "cluster-port": bus}) as server:
        found = await examine(server.url)
    assert (found["cluster"].status, "cluster-enabled no" in found["cluster"].advice) == ("fail", True)


@pytest.mark.parametrize(
    ("rules", "question", "said"),
    [
        (("+@all", "-eval", "~*"), "scripts", "eval"),
        (("+@all", "~other:*"), "scripts", "key"),
        (("+@all", "-info", "~*"), "state", "INFO is refused"),
        (("+@all", "-time", "~*"), "clock", "TIME is refused"),
        (("+@all", "-config", "~*"), "persistence", "CONFIG is refused"),
    ],
)
async def test_a_user_that_may_do_too_little(rules, question, said):
    with EmbeddedServer() as server:
        async with changed(server.url, ("ACL", "SETUSER", "weak", "on", ">s3cr3t", *rules)):
            found = await examine(server.url, redis_username="weak", redis_password=Secret("s3cr3t"))
    assert found[question].status == ("fail" if question == "scripts" else "warn")
    assert said in found[question].detail


async def test_a_queue_outside_the_users_keys_is_noticed():
    with EmbeddedServer() as server:
        async with changed(server.url, ("ACL", "SETUSER", "u", "on", ">pw", "+@all", "~arq:*", "~barque:*")):
            who = {"redis_username": "u", "redis_password": Secret("pw")}
            assert (await examine(server.url, **who))["scripts"].status == "ok"
            assert (await examine(server.url, queues=("orders",), **who))["scripts"].status == "fail"


async def test_no_server_is_one_finding():
    with EmbeddedServer() as server:
        url = server.url
    found = await examine(url)
    assert list(found) == ["server"]
    assert found["server"].status == "fail"
    assert "nothing listens there" in found["server"].detail


async def test_a_server_lost_half_way_is_a_finding():
    async def answer_then_close(reader, writer):
        while said := await reader.read(4096):
            if b"\r\nINFO\r\n" in said:
                break
            writer.write(b"".join(b"+PONG\r\n" if b"PING" in part else b"+OK\r\n" for part in said.split(b"*")[1:]))
        writer.close()

    listening = await asyncio.start_server(answer_then_close, "127.0.0.1", 0)
    async with listening:
        found = await examine(f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    assert found["server"].status == "fail"
    assert "was lost while being asked" in found["server"].detail


@pytest.mark.parametrize(
    ("settings", "status", "said"),
    [
        ({"redis_url": "redis://db.example"}, "warn", "no password and no TLS"),
        ({"redis_url": "redis://:s3cr3t@db.example"}, "warn", "no TLS"),
        ({"redis_url": "rediss://db.example"}, "warn", "no password"),
        ({"redis_url": "rediss://:s3cr3t@db.example", "redis_tls_verify": False}, "warn", "without checking"),
        ({"redis_url": "rediss://:s3cr3t@db.example"}, "ok", "a password and TLS"),
        ({"redis_url": "redis://127.0.0.1"}, "ok", "loopback"),
        ({"redis_url": "redis://[::1]"}, "ok", "loopback"),
        ({"redis_url": "unix:///run/redis.sock"}, "ok", "Unix socket"),
    ],
)
def test_protection_is_judged_by_the_way_to_the_server(settings, status, said):
    chosen = Settings(**settings)
    finding = diagnosis._judge_protection(connect(chosen), chosen)
    assert (finding.status, said in finding.detail) == (status, True)
    assert "s3cr3t" not in str(finding)


@pytest.mark.parametrize(
    ("judge", "answers", "status"),
    [
        ("version", {"redis_version": "6.0.16"}, "fail"),
        ("version", {"redis_version": "6.2.0"}, "ok"),
        ("version", {"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "ok"),
        ("version", {}, "fail"),
        ("memory", {"used_memory": 74, "maxmemory": 100}, "ok"),
        ("memory", {"used_memory": 75, "maxmemory": 100}, "warn"),
        ("memory", {"used_memory": 95, "maxmemory": 100}, "fail"),
        ("memory", {"used_memory": 80, "maxmemory": 0, "total_system_memory": 100}, "warn"),
        ("memory", {"used_memory": 80}, "ok"),
        ("eviction", {"maxmemory": 0, "maxmemory_policy": "allkeys-lru"}, "ok"),
    ],
)
def test_what_info_says_is_judged(judge, answers, status):
    assert getattr(diagnosis, f"_judge_{judge}")(answers).status == status


@pytest.mark.parametrize(
    ("info", "config", "status"),
    [
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, {}, "fail"),
        ({"aof_enabled": 1}, {"appendfsync": "always"}, "ok"),
        ({"aof_enabled": 1}, {}, "ok"),
        ({"aof_enabled": 0, "rdb_last_bgsave_status": "err"}, {"save": "900 1"}, "fail"),
        ({"aof_enabled": 0}, {}, "warn"),
    ],
)
def test_persistence_is_judged(info, config, status):
    assert diagnosis._judge_persistence(info, config).status == status


def test_a_clock_is_judged_by_what_the_trip_cannot_explain():
    assert diagnosis._judge_skew(0.6, 0.01).status == "warn"
    assert diagnosis._judge_skew(-0.6, 0.01).status == "warn"
    assert "behind" in diagnosis._judge_skew(-0.6, 0.01).detail
    assert diagnosis._judge_skew(0.6, 0.3).status == "ok"


def test_latency_is_judged_in_milliseconds():
    assert diagnosis._judge_latency(0.2).status == "ok"
    assert diagnosis._judge_latency(20).status == "warn"
