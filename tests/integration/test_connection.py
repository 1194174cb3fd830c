"""Clients made from settings, against real servers: plain, password, ACL, TLS, Unix socket, Sentinel, and none."""

import asyncio
import contextlib
import ssl

import arq
import arq.connections
import pytest
import redis.asyncio

from common.embedded import EmbeddedServer
from common.errors import RedisUnavailable
from common.redis.connection import blocking_twin, check, connect, open_client
from common.secret import Secret
from common.server_binary import find_server, installed_servers
from common.settings import Settings
from tests.support.tls import certificates, free_port, tls_server, tls_settings

__all__ = ["certificates", "tls_server"]

PASSWORD = "s3cr3t p@ss/#%"


@contextlib.asynccontextmanager
async def opened(settings, **options):
    client = await open_client(settings, **options)
    try:
        yield client
    finally:
        await client.aclose()


async def assert_works_both_ways(client):
    """The client and its twin reach the same database, as bytes."""
    await client.set("barque:connection", "here")
    with blocking_twin(client) as twin:
        assert await asyncio.to_thread(twin.get, "barque:connection") == b"here"
        assert await asyncio.to_thread(twin.delete, "barque:connection") == 1


async def refusal(settings):
    with pytest.raises(RedisUnavailable) as caught:
        await open_client(settings)
    message = str(caught.value)
    assert "\n" not in message
    assert PASSWORD not in message
    return message


@contextlib.asynccontextmanager
async def listener(answer):
    """Serve `answer` (bytes, or None for silence) to whoever says something; yield the port."""

    async def serve(reader, writer):
        while await reader.read(4096):
            if answer is not None:
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_plain_server(redis_url):
    async with opened(Settings(redis_url=redis_url), name="worker") as client:
        assert await client.client_getname() == "barque-worker"
        await assert_works_both_ways(client)


async def test_the_class_of_the_client_may_be_arqs(redis_url):
    async with opened(Settings(redis_url=redis_url), client_class=arq.ArqRedis) as client:
        assert type(client) is arq.ArqRedis
        job = await client.enqueue_job("task")
        assert [queued.function for queued in await client.queued_jobs()] == ["task"]
        await client.delete(f"arq:job:{job.job_id}", "arq:queue")


async def test_clients_made_by_others_have_twins(redis_url):
    by_url = redis.asyncio.from_url(redis_url)
    await assert_works_both_ways(by_url)
    await by_url.aclose()
    by_arq = await arq.create_pool(arq.connections.RedisSettings.from_dsn(redis_url))
    await assert_works_both_ways(by_arq)
    await by_arq.aclose()


async def test_a_twin_does_not_need_the_loop(redis, redis_url):
    with blocking_twin(redis) as twin:
        twin.set("barque:connection", "while the loop is blocked")  # called on the loop's own thread
        twin.delete("barque:connection")


async def test_a_server_that_hangs_costs_a_twin_its_timeout():
    async with listener(None) as port:
        client = connect(Settings(redis_url=f"redis://127.0.0.1:{port}"))
        with blocking_twin(client, timeout=0.05) as twin, pytest.raises(redis.exceptions.TimeoutError):
            await asyncio.to_thread(twin.get, "key")
        await client.aclose()


@pytest.mark.parametrize("binary", installed_servers(), ids=lambda binary: binary.kind)
async def test_a_password_in_the_url_or_in_the_settings(binary):
    with EmbeddedServer(password=PASSWORD, binary=binary.path) as server:
        bare = f"redis://127.0.0.1:{server.port}"
        for settings in (Settings(redis_url=server.url), Settings(redis_url=bare, redis_password=Secret(PASSWORD))):
            async with opened(settings) as client:
                await assert_works_both_ways(client)
        assert "wants a password" in await refusal(Settings(redis_url=bare))
        wrong = Settings(redis_url=bare, redis_password=Secret("wrong"))
        assert "does not accept this user and password" in await refusal(wrong)


async def test_a_password_the_server_does_not_have(redis_url):
    settings = Settings(redis_url=redis_url, redis_username="default", redis_password=Secret(PASSWORD))
    async with opened(settings):  # since 6.0 the default user takes any password while it has none
        pass
    assert "the server has none set" in await refusal(Settings(redis_url=redis_url, redis_password=Secret(PASSWORD)))


async def test_an_acl_user_and_one_that_may_do_too_little():
    with EmbeddedServer() as server:
        async with opened(Settings(redis_url=server.url)) as admin:
            await admin.acl_setuser("able", enabled=True, passwords=[f"+{PASSWORD}"], categories=["+@all"], keys=["*"])
            await admin.acl_setuser("weak", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+client", "-ping"])
        secret = Secret(PASSWORD)
        async with opened(Settings(redis_url=server.url, redis_username="able", redis_password=secret)) as client:
            assert await client.acl_whoami() == "able"
            await assert_works_both_ways(client)
        weak = Settings(redis_url=server.url, redis_username="weak", redis_password=secret)
        message = await refusal(weak)
        assert "may not do this" in message
        assert "ping" in message


async def test_a_unix_socket():
    with EmbeddedServer(unix_socket=True) as server:
        async with opened(Settings(redis_url=server.url.replace("db=0", "db=3"))) as client:
            await assert_works_both_ways(client)
            assert (await client.client_info())["db"] == 3
        url = server.url
    assert "there is no such socket" in await refusal(Settings(redis_url=url))


async def test_sentinel_is_followed_to_the_primary(redis_url, server, tmp_path):
    if not isinstance(server, EmbeddedServer):
        pytest.skip("a sentinel may not reach the server that BARQUE_TEST_REDIS_URL names")
    port = free_port()
    # A sentinel rewrites its own configuration file, so the embedded server's stdin will not do.
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\nrequirepass watch\nsentinel monitor orders 127.0.0.1 {server.port} 1\n"
    )
    process = await asyncio.create_subprocess_exec(
        find_server().path, config, "--sentinel", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async for line in process.stdout:
            if b"+monitor" in line:
                break
        settings = Settings(
            redis_sentinels=f"127.0.0.1:{port}",
            redis_sentinel_service="orders",
            redis_sentinel_password=Secret("watch"),
        )
        async with opened(settings, client_class=arq.ArqRedis) as client:
            await assert_works_both_ways(client)
        other = settings.replace(redis_sentinel_service="other")
        assert "know no working primary" in await refusal(other)
        wrong = settings.replace(redis_sentinel_password=Secret(PASSWORD))
        assert "refuses our credentials" in await refusal(wrong)
        no_sentinel = settings.replace(redis_sentinels=(f"127.0.0.1:{server.port}",))
        no_sentinel = no_sentinel.replace(redis_sentinel_password=None)
        assert "not a sentinel" in await refusal(no_sentinel)
    finally:
        process.terminate()
        await process.communicate()


async def test_nothing_listens():
    message = await refusal(Settings(redis_url=f"redis://user:s3cr3t@127.0.0.1:{free_port()}"))
    assert "connection refused" in message
    assert "`barque redis`" in message
    assert "BARQUE_REDIS_URL" in message
    assert "s3cr3t" not in message
    assert "user" not in message


async def test_a_host_that_does_not_resolve():
    assert "does not resolve" in await refusal(Settings(redis_url="redis://no-such-host.invalid"))


async def test_something_that_is_not_a_redis_server():
    async with listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        message = await refusal(Settings(redis_url=f"redis://127.0.0.1:{port}"))
        assert "not a Redis server" in message
        assert "HTTP" not in message


async def test_something_that_never_answers():
    async with listener(None) as port:
        settings = Settings(redis_url=f"redis://127.0.0.1:{port}", redis_connect_timeout=0.05)
        assert "no answer in time" in await refusal(settings)


async def test_a_server_that_is_still_loading():
    async with listener(b"-LOADING Redis is loading the dataset in memory\r\n") as port:
        assert "still loading" in await refusal(Settings(redis_url=f"redis://127.0.0.1:{port}"))


async def test_a_database_the_server_does_not_have(redis_url):
    assert "no database of that number" in await refusal(Settings(redis_url=redis_url.rpartition("/")[0] + "/4711"))


async def test_check_leaves_the_client_open(redis):
    await check(redis, "the test's server")
    assert await redis.ping()


async def test_tls_with_a_client_certificate(certificates, tls_server):
    _, port = tls_server
    async with opened(tls_settings(certificates, port)) as client:
        await assert_works_both_ways(client)
        context = client.connection_pool._available_connections[0].ssl_context.get()
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


async def test_tls_to_another_host_name_than_the_certificates(certificates, tls_server):
    _, port = tls_server
    message = await refusal(tls_settings(certificates, port, redis_url=f"rediss://127.0.0.1:{port}"))
    assert "certificate is not accepted" in message
    assert "BARQUE_REDIS_TLS_CA" in message


async def test_tls_of_an_unknown_authority_unless_told_not_to_check(certificates, tls_server):
    _, port = tls_server
    message = await refusal(tls_settings(certificates, port, redis_tls_ca=None))
    assert "certificate is not accepted" in message
    unchecked = tls_settings(certificates, port, redis_tls_ca=None, redis_tls_verify=False)
    async with opened(unchecked) as client:
        await assert_works_both_ways(client)


async def test_tls_without_the_client_certificate_the_server_wants(certificates, tls_server):
    _, port = tls_server
    message = await refusal(tls_settings(certificates, port, redis_tls_cert=None, redis_tls_key=None))
    assert "TLS" in message


async def test_tls_to_a_plain_port_and_plain_to_a_tls_port(certificates, tls_server):
    server, port = tls_server
    to_plain = tls_settings(certificates, port, redis_url=f"rediss://localhost:{server.port}")
    assert "TLS" in await refusal(to_plain.replace(redis_connect_timeout=0.3))
    assert "rediss://" in await refusal(Settings(redis_url=f"redis://localhost:{port}", redis_connect_timeout=0.3))
