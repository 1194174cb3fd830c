"""How long a task may still run, and being told to come to an end: what a Context says of its attempt's time.

Owns the telling, not the limits: those are workers/time_limits.py's. A task is told by a flag it looks at, by an await
that ends, or, in a block of its own choosing, by a TimeoutError.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Generator
from typing import Any, Literal

__all__ = ["Lifetime", "Stopping", "WhyStop"]

WhyStop = Literal["soft_timeout", "shutdown"]


class Lifetime:
    """The time of one attempt. A worker's attempts know more; this one is of a task that nobody runs, as in a test.

    Attributes:
        told: why the task is to come to an end, or "" while it is not.
    """

    __slots__ = ("_stopping", "told")

    def __init__(self) -> None:
        self.told: WhyStop | Literal[""] = ""
        self._stopping: Stopping | None = None

    @property
    def time_left(self) -> float | None:
        """Seconds until the attempt is stopped; None is no limit."""
        return None

    @property
    def stopping(self) -> Stopping:
        """The task's view of this."""
        if self._stopping is None:
            self._stopping = Stopping(self)
        return self._stopping

    def tell(self, why: WhyStop) -> None:
        """Have the task come to an end. The first reason given stands."""
        if self.told:
            return
        self.told = why
        if self._stopping is not None:
            self._stopping.wake()


class Stopping:
    """Whether a task is to come to an end: `if ctx.stopping:`, `await ctx.stopping`, `async with ctx.stopping.limit()`.

    True and over once the soft timeout has passed, or the worker has been asked to stop. Then there is some time left
    (`ctx.time_left`) to write down how far the task has come, and to return or raise as it likes.
    """

    __slots__ = ("_event", "_lifetime", "_limits")

    def __init__(self, lifetime: Lifetime) -> None:
        self._lifetime = lifetime
        self._event = asyncio.Event()
        self._limits: set[asyncio.Timeout] = set()
        if lifetime.told:
            self._event.set()

    def __bool__(self) -> bool:
        return bool(self._lifetime.told)

    def __repr__(self) -> str:
        return f"<Stopping {self.why or 'not yet'}>"

    def __await__(self) -> Generator[Any, None, WhyStop | Literal[""]]:
        """Wait until the task is to come to an end; return why."""
        yield from self._event.wait().__await__()
        return self._lifetime.told

    @property
    def why(self) -> WhyStop | Literal[""]:
        """Why the task is to come to an end: "soft_timeout", "shutdown", or "" while it is not."""
        return self._lifetime.told

    @contextlib.asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Cancel the block once the task is to come to an end, and raise TimeoutError out of it: an asyncio.timeout().

        Raises:
            TimeoutError: the block was cancelled for that.
        """
        async with asyncio.timeout(0 if self else None) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)

    def tell(self, why: WhyStop = "soft_timeout") -> None:
        """Say so, as a worker would: for a test of how a task comes to an end."""
        self._lifetime.tell(why)

    def wake(self) -> None:
        """Have all who wait for it go on."""
        self._event.set()
        for limit in self._limits:
            limit.reschedule(asyncio.get_running_loop().time())
