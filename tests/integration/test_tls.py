"""Jobs over TLS with certificates on both sides: each of the connections that a producer and a worker have."""

import asyncio

import pytest
from arq.connections import ArqRedis

from common import Context, task
from common.errors import RedisUnavailable
from common.redis.connection import connect, open_client
from common.settings import Settings
from producer import BlockingProducer, Producer
from tests.support.tls import certificates, tls_server, tls_settings
from workers.worker import Worker

__all__ = ["certificates", "tls_server"]


@task(name="over_tls")
async def over_tls(ctx: Context, n: int) -> int:
    await gates["open"].wait()
    return n + ctx.attempt


gates: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
async def closed_gate():
    gates["open"] = asyncio.Event()


async def test_enqueue_claim_renew_complete_push_and_abort(certificates, tls_server):
    server, port = tls_server
    settings = tls_settings(certificates, port)
    admin = connect(Settings(redis_url=f"redis://127.0.0.1:{server.port}/1"), name="admin")
    pool = await open_client(settings, client_class=ArqRedis, name="worker")
    worker = Worker([over_tls], redis_pool=pool, handle_signals=False, poll_delay=0.1, lease=1, allow_abort_jobs=True)
    running = asyncio.create_task(worker.async_run())
    async with Producer(settings=settings) as producer:
        job, unwanted = await producer.enqueue_many([over_tls(1), over_tls(2)])
        async with asyncio.timeout(30):
            # The thread that renews leases has a connection of its own, in clear to nobody either.
            while not any(client["name"].endswith("-thread") for client in await admin.client_list()):
                await asyncio.sleep(0.01)
            assert await unwanted.abort()
            gates["open"].set()
            assert await job.result() == 2
    ports = {
        client["laddr"].rpartition(":")[2] for client in await admin.client_list() if client["name"] != "barque-admin"
    }
    assert ports == {str(port)}
    running.cancel()
    await asyncio.wait({running})
    await worker.close()
    await admin.flushdb()
    await admin.aclose()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"redis_url": "rediss://127.0.0.1:{port}"}, "not valid for '127.0.0.1'"),
        ({"redis_tls_ca": None}, "BARQUE_REDIS_TLS_CA"),
        ({"redis_tls_cert": None, "redis_tls_key": None}, "TLS"),
    ],
    ids=["another host name", "an unknown authority", "no certificate of ours"],
)
async def test_what_is_wrong_is_one_line(certificates, tls_server, changes, says):
    _, port = tls_server
    changes = {name: value.format(port=port) if isinstance(value, str) else value for name, value in changes.items()}
    settings = tls_settings(certificates, port, **changes)
    for connecting in (Producer(settings=settings).connect, lambda: asyncio.to_thread(open_blocking, settings)):
        with pytest.raises(RedisUnavailable) as raised:
            await connecting()
        assert says in str(raised.value)
        assert "\n" not in str(raised.value)


def open_blocking(settings: Settings) -> None:
    with BlockingProducer(settings=settings):
        pass
