"""Barque's fixtures for pytest, which finds them by itself where Barque is installed.

pytest loads this in each of its runs there, those of projects that have nothing to do with Barque among them. So it
stands beside Barque's packages and imports none of them before a fixture is asked for: a project with a package
`workers` of its own tests as it always did.

Owns their names, and what the mark `barque` says to them. What they give is workers/testing/sandbox.py's.

    @pytest.mark.barque(tasks=[remind], resources={mailer: fake})
    async def test_a_reminder_is_sent(barque_sandbox): ...

They are asynchronous: pytest-asyncio, in either of its modes, or anyio's plugin runs them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from common.jobs import JobInfo
    from producer import Producer
    from workers.testing.sandbox import Ran, Sandbox

_async_fixture: Callable[..., Any]
try:
    from pytest_asyncio import fixture as _async_fixture
except ModuleNotFoundError:  # anyio's plugin takes pytest's own
    _async_fixture = pytest.fixture

_MARK = "barque(**options): what the Sandbox of this test is made with: tasks, resources, queues and so on"


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", _MARK)


def _sandbox_class() -> type[Sandbox]:
    try:
        from workers.testing.sandbox import Sandbox  # noqa: PLC0415 - for the tests that use it
    except ModuleNotFoundError as error:
        if error.name not in {"workers.testing", "workers.testing.sandbox"}:
            raise
        import workers  # noqa: PLC0415 - one that is not ours

        raise pytest.UsageError(
            f"`workers` is {workers.__file__ or list(workers.__path__)} here, which is not Barque's: give that package "
            "another name, or put it behind the installed packages on sys.path"
        ) from None
    return Sandbox


@_async_fixture
async def barque_sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """Give a `Sandbox`: a server in memory, a worker that runs when it is told to, and a clock to move ahead."""
    sandbox_of = _sandbox_class()
    mark = request.node.get_closest_marker("barque")
    async with sandbox_of(**(mark.kwargs if mark is not None else {})) as sandbox:
        yield sandbox


@pytest.fixture
def barque_producer(barque_sandbox: Sandbox) -> Producer:
    """Give the producer of the sandbox."""
    return barque_sandbox.producer


@_async_fixture
async def barque_worker(barque_sandbox: Sandbox) -> AsyncIterator[Sandbox]:
    """Have a worker run beside the whole test, so that jobs run as they are enqueued; give its sandbox."""
    async with barque_sandbox.working():
        yield barque_sandbox


@pytest.fixture
def barque_drain(barque_sandbox: Sandbox) -> Callable[[], Awaitable[Ran]]:
    """Give what runs all jobs to their end, delays and retries included; it is awaited."""
    return barque_sandbox.drain


@pytest.fixture
def barque_jobs(barque_sandbox: Sandbox) -> Callable[..., Awaitable[list[JobInfo]]]:
    """Give what returns the jobs that the code under test has enqueued, of one task or of all; it is awaited."""
    return barque_sandbox.waiting
