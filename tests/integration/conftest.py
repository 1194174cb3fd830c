"""What tests against a real server may ask for besides the fixtures of tests/conftest.py.

keyspace    seed the database and compare all of it (tests/support/keyspace.py)
store       Barque's writes, over the client of the `redis` fixture
commands    `barque` commands that have imported all they need (tests/support/commands.py)
full        `await full()`: from then to the test's end the server has no memory left, and says so
"""

import pytest
from redis.exceptions import OutOfMemoryError

from common.redis.store import Store
from tests.support.commands import Commands
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


@pytest.fixture(scope="session")
def commands():
    with Commands() as forking:
        yield forking


@pytest.fixture
async def full(redis, keyspace):
    async def fill() -> None:
        await redis.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError):
            await redis.set("more", b"x")

    yield fill
    await redis.config_set("maxmemory", 0)
