"""A producer and workers for the pages of this folder; results stay, as they would in production.

So does the marker of a queue where a worker was closed before it took it: the next worker does.
"""

import pytest

from tests.support.running import producer, run_worker

__all__ = ["producer", "run_worker"]


def pytest_collection_modifyitems(items):
    for item in items:
        # A page that leaves more says what.
        if "tests/fundamentals" in item.path.as_posix() and item.get_closest_marker("leaves_keys") is None:
            item.add_marker(pytest.mark.leaves_keys("arq:result:*", "barque:wake:*"))
