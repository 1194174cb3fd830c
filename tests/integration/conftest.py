"""What tests against a real server may ask for besides the fixtures of tests/conftest.py.

keyspace    seed the database and compare all of it (tests/support/keyspace.py)
store       Barque's writes, over the client of the `redis` fixture
"""

import pytest

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
