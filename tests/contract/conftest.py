"""What arq documents, held to arq's own Worker and to Barque's: most bodies here run once on each.

    engine          "arq" or "barque"; a body that asks for it runs on both
    make_worker     makes a worker of that engine on the test's server; closed after the test
    make_worker_of  the same, of the engine named first
    running         runs such a worker in the background while a block runs
    arq_redis       a stock arq client with arq's defaults: it pickles
    msgpack_redis   a stock arq client that was given msgpack

Barque accepts pickles in these tests (`BARQUE_ACCEPT_PICKLE=true`), as a fleet that moves over does. What holds
for one of the two only, on purpose, stands in docs/arq_compatibility.md and in a test that names the engine.
"""

import asyncio
import functools
from contextlib import asynccontextmanager
from pathlib import Path

import arq.worker
import msgspec
import pytest
from arq.connections import RedisSettings, create_pool

from workers import Worker

CLASSES = {"arq": arq.worker.Worker, "barque": Worker}

MSGPACK = {"job_serializer": msgspec.msgpack.encode, "job_deserializer": msgspec.msgpack.decode}


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            # arq 0.28 closes its client by redis-py's old word.
            item.add_marker(pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning"))
            parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
            if item.path.stem == "test_mixed_fleet" or any(_names_arq(value) for value in parameters):
                # arq's own worker leaves a pipeline open when it is cancelled while it claims.
                item.add_marker(pytest.mark.filterwarnings("ignore:Unclosed client session:ResourceWarning"))


def _names_arq(value):
    return value == "arq" or (isinstance(value, tuple) and "arq" in value)


@pytest.fixture(params=["arq", "barque"])
def engine(request):
    return request.param


@pytest.fixture
def accepting_pickle(bare_environment, monkeypatch):
    monkeypatch.setenv("BARQUE_ACCEPT_PICKLE", "true")


@pytest.fixture
def redis_settings(redis_url):
    return RedisSettings.from_dsn(redis_url)


@pytest.fixture
async def arq_redis(redis_settings):
    pool = await create_pool(redis_settings)
    yield pool
    await pool.aclose(close_connection_pool=True)


@pytest.fixture
async def msgpack_redis(redis_settings):
    pool = await create_pool(redis_settings, **MSGPACK)
    yield pool
    await pool.aclose(close_connection_pool=True)


async def close(worker):
    try:
        await worker.close()
    except asyncio.CancelledError:
        # arq's own close() raises it when a job was cancelled as it began, and leaves its connections open.
        worker.tasks = {}
        await worker.close()


@pytest.fixture
async def make_worker_of(redis_settings, accepting_pickle):
    made = []

    def make(of, functions=(), **options):
        options = {"burst": True, "poll_delay": 0.02, "handle_signals": False, **options}
        if "redis_pool" not in options:
            options["redis_settings"] = redis_settings
        worker = CLASSES[of](functions, **options)
        made.append(worker)
        return worker

    yield make
    for worker in made:
        if worker.main_task is not None:  # a worker left running would take the next test's jobs
            worker.main_task.cancel()
            await asyncio.wait({worker.main_task})
        await close(worker)


@pytest.fixture
def make_worker(make_worker_of, engine):
    return functools.partial(make_worker_of, engine)


@pytest.fixture
def running():
    @asynccontextmanager
    async def run(worker):
        worker.burst = False
        task = asyncio.create_task(worker.async_run())
        try:
            yield task
        finally:
            await close(worker)
            await asyncio.gather(task, return_exceptions=True)

    return run


@pytest.fixture
def until():
    """Wait for what shows only in Redis; what a job can signal is awaited as an event instead."""

    async def wait(look, seconds=10):
        async with asyncio.timeout(seconds):
            while not (found := await look()):
                await asyncio.sleep(0.005)
        return found

    return wait
