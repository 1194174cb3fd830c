"""What tests against a real server may ask for besides the fixtures of tests/conftest.py.

keyspace    seed the database and compare all of it (tests/support/keyspace.py)
store       Barque's writes, over the client of the `redis` fixture
full        `await full()`: from then to the test's end the server has no memory left, and says so
"""

import pytest
from redis.exceptions import OutOfMemoryError

from common.redis.store import Store
from tests.support.keyspace import Keyspace


@pytest.fixture
async def keyspace(redis):
    """A keyspace that is emptied after the test: such tests assert on all of it themselves."""
    space = Keyspace(redis)
    yield space
    await space.clear()


@pytest.fixture
def store(redis) -> Store:
    return Store(redis)


@pytest.fixture
async def full(redis, keyspace):
    async def fill() -> None:
        await redis.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError):
            await redis.set("more", b"x")

    yield fill
    await redis.config_set("maxmemory", 0)
