"""The log of this process, line by line as it is written.

lines         `line = await lines.of("job_retried")` waits for the next line of that event
"""

import asyncio
from collections.abc import Callable

import pytest
import structlog

__all__ = ["Lines", "lines", "until"]


class Lines:
    """What has been logged so far; each event's lines are given out one by one, in order."""

    def __init__(self, captured: list) -> None:
        self._captured = captured
        self._given: dict[str, int] = {}

    def all(self, event: str) -> list[dict]:
        """Return the lines of this event that there are."""
        return [line for line in self._captured if line["event"] == event]

    async def of(self, event: str) -> dict:
        """Wait for the next line of this event."""
        given = self._given.get(event, 0)
        await until(lambda: len(self.all(event)) > given)
        self._given[event] = given + 1
        return self.all(event)[given]


async def until(condition: Callable[[], object]) -> None:
    """Wait until this is true."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def lines():
    with structlog.testing.capture_logs() as captured:
        yield Lines(captured)
