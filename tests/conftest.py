"""What every test may ask for: a server, its URL, a client; and a process with nothing set up in it.

    server      session  the server of this pytest process
    redis_url   test     its URL. The keyspace is empty before the test, and must be after it
    redis       test     an asyncio client to it, closed after the test

A test that uses `redis_url` or `redis` fails when it leaves a key behind, for a key nobody deletes is
a leak in production. One that means to says which, and asserts on them itself:

    @pytest.mark.leaves_keys("arq:result:*")     these patterns (of fnmatch) may stay
    @pytest.mark.leaves_keys                     any may

Results handed over to who waited for them (`barque:result:*`), and the names of those who watched a job
(`barque:watchers:*`), may stay too: they go by themselves, within a minute.
So may the dead letters of jobs that fail (`barque:dead*`): they go by themselves, within `BARQUE_DEAD_KEEP`; and the
records of unique keys (`barque:unique*`), which have a time to live longer than their jobs wait.
So may the histories of jobs that have ended (`barque:attempts:*`): they go with their results and dead letters.
So may what limits leave (`barque:limit*`), with a TTL: it goes by itself once nobody uses it.

The server is an embedded one that keeps nothing, unless `BARQUE_TEST_REDIS_URL` names another: then
its database is **flushed** by each test (with pytest-xdist, worker n takes the database n higher).
"""

import fnmatch
import gc
import importlib
import logging
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import hypothesis
import pytest
import redis as redis_py
import redis.asyncio as redis_asyncio
import structlog

from common import logs, resources, tasks
from common.embedded import EmbeddedServer
from common.redis import keys
from common.redis.connection import connect
from common.settings import Settings, settings_for_process
from tests.support.parallel import pytest_report_to_serializable, pytest_xdist_auto_num_workers

__all__ = ["pytest_report_to_serializable", "pytest_xdist_auto_num_workers"]

# No timing decides a test, of one example neither. Of CI's own profile the rest stays: the same examples each time.
hypothesis.settings.register_profile("untimed", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("untimed")

_LONGEST_UNIQUE_MS = 200 * 24 * 3600 * 1000

_LIMITS = (keys.LIMIT, keys.LIMIT_HELD, keys.LIMIT_LANE, keys.LIMIT_WAIT)
_FAILED = pytest.StashKey[bool]()


@dataclass(frozen=True)
class GivenServer:
    """The server `BARQUE_TEST_REDIS_URL` names; unlike an `EmbeddedServer` it has only a URL."""

    url: str


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Take the tasks a test module defines, or imports of an example, out again: two modules may well use one name."""
    report = yield
    if isinstance(collector, pytest.Module):
        here = Path(__file__).parent
        own = (str(here), str(here.parent / "examples"))
        for name, made in tasks.registered_tasks().items():
            if made.place.startswith(own):
                del tasks._registry[name]
    return report


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    """Hide the developer's own settings: no BARQUE_ variable, no .env, no barque.toml, no settings kept from before."""
    for name in [name for name in os.environ if name.startswith("BARQUE_") and name != "BARQUE_TEST_REDIS_URL"]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("common.setting_names.ENV_FILE", None)
    monkeypatch.setattr("common.setting_names.CONFIG_FILE", None)
    settings_for_process.cache_clear()
    yield
    settings_for_process.cache_clear()


@pytest.fixture(autouse=True)
def bare_registries():
    """Take out the tasks and resources that a test defined: two tests may well use one name."""
    importlib.import_module("workers.tasks")  # else those that ship would go with the test that imported them first
    registries = (tasks._registry, resources._registry)
    before = [dict(registry) for registry in registries]
    yield
    for registry, as_it_was in zip(registries, before, strict=True):
        registry.clear()
        registry.update(as_it_was)


@pytest.fixture(autouse=True)
def bare_logging():
    """Leave neither structlog nor `logging` set up: workers, commands and `capture_logs` do so for the process."""
    loggers = [logging.getLogger(name) for name in (None, "arq")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logs._pipe = None
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def bare_collector():
    """Leave the garbage collector as it was: a worker that is its whole process sets it up (workers/garbage.py)."""
    thresholds, enabled, callbacks = gc.get_threshold(), gc.isenabled(), gc.callbacks[:]
    yield
    gc.callbacks[:] = callbacks
    gc.set_threshold(*thresholds)
    (gc.enable if enabled else gc.disable)()
    gc.unfreeze()


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer | GivenServer]:
    given = os.environ.get("BARQUE_TEST_REDIS_URL")
    if given:
        yield GivenServer(_with_own_database(given))
        return
    with EmbeddedServer() as embedded:
        yield embedded


@pytest.fixture
def no_keys_left(server, request) -> Iterator[None]:
    """Empty the keyspace before the test and hold the test to leave it so; see the top of this file."""
    with redis_py.Redis.from_url(server.url) as keyspace:
        _empty(server, keyspace)
        yield
        mark = request.node.get_closest_marker("leaves_keys")
        allowed = (mark.args or ("*",)) if mark is not None else ()
        found = [key for key in keyspace.scan_iter(count=1000) if not _goes_by_itself(keyspace, key)]
        left = sorted(key.decode(errors="backslashreplace") for key in found)
        _empty(server, keyspace)
    undeclared = [key for key in left if not any(fnmatch.fnmatchcase(key, pattern) for pattern in allowed)]
    # After a failure leftovers are its consequence, and would only hide it.
    if undeclared and not request.node.stash.get(_FAILED, True):
        pytest.fail(f"{len(undeclared)} keys left behind: {', '.join(undeclared[:20])}", pytrace=False)


@pytest.fixture
def redis_url(server, no_keys_left) -> str:
    return server.url


@pytest.fixture
async def redis(redis_url) -> AsyncIterator[redis_asyncio.Redis]:
    client = connect(Settings(redis_url=redis_url), name="test")
    yield client
    await client.aclose()


def _goes_by_itself(keyspace: redis_py.Redis, key: bytes) -> bool:
    of_the_dead = (keys.DEAD_LETTER.encode(), keys.ATTEMPTS.encode())  # a job that has not ended keeps them longer
    if key in {keys.DEAD.encode(), keys.DEAD_ABOUT.encode()} or key.startswith(of_the_dead):
        return 0 <= keyspace.pttl(key) <= Settings.dead_keep * 1000
    if key.startswith(keys.UNIQUES.encode()):
        return 0 <= keyspace.pttl(key) <= _LONGEST_UNIQUE_MS
    if key == keys.LIMITS.encode() or key.startswith(tuple(map(str.encode, _LIMITS))):
        return keyspace.pttl(key) >= 0
    passing = (keys.AWAITED.encode(), keys.WATCHERS.encode())
    return key.startswith(passing) and 0 <= keyspace.pttl(key) <= 60_000


def _empty(server: EmbeddedServer | GivenServer, keyspace: redis_py.Redis) -> None:
    if isinstance(server, EmbeddedServer):
        keyspace.flushall()
    else:
        keyspace.flushdb()


def _with_own_database(url: str) -> str:
    number = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    parts = urlsplit(url)
    if parts.scheme == "unix" or number == "0":
        return url
    database = int(parts.path.strip("/") or 0) + int(number)
    return urlunsplit(parts._replace(path=f"/{database}"))
