"""The fleet as it is now, for whoever looks on: reports of all workers, and asking for more of them; attempts, live.

Owns the reading, and asking again while somebody looks on; the words of that are looks.py's. What workers count then is
workers/observation.py's, what their reports say together common/fleet.py's.

Looking on leaves no key behind. Who does, says so again every few seconds; a worker that has not heard it for that long
counts no more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec
import redis.asyncio
from redis.exceptions import NoPermissionError

from common.attempt_filter import AttemptFilter
from common.fleet import FleetSnapshot
from common.redis import keys
from common.redis.looks import LONGEST_LOOK, Look, attempts_channel_of, observe_channel_of
from common.redis.push import listen
from common.redis.reasons import TROUBLE, reason
from common.values import MALFORMED
from common.worker_reports import AttemptLines, EndedAttempt, WorkerReport

__all__ = ["AttemptFeed", "FleetReader", "Gap"]

_LOOK = 15
"""Seconds for which they are told so by who looks on for longer."""

_RENEW_EVERY = 5.0

_LISTEN_AGAIN = 1.0
"""Seconds until a lost connection is opened again."""

_AT_ONCE = 100
"""Reports read in one command: one may have 50 KB."""

_MOST_KEPT = 10_000
"""Attempts kept for a reader that is slower than they come."""

_ANYTHING = AttemptFilter()


class FleetReader:
    """The fleet of one server, for people: nothing here changes what becomes of a job."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def snapshot(self) -> FleetSnapshot:
        """Return what the workers that live last reported; reports that cannot be read are left out.

        Workers report every five seconds, and every second, with figures by task, while they are observed.
        """
        pipeline = self._client.pipeline(transaction=False)
        pipeline.zrange(keys.WORKERS, 0, -1)
        pipeline.time()
        ids, (seconds, micros) = await pipeline.execute()
        reports: list[WorkerReport] = []
        for start in range(0, len(ids), _AT_ONCE):
            names = [keys.WORKER.encode() + worker for worker in ids[start : start + _AT_ONCE]]
            reports += _read(await self._client.mget(names))
        reports.sort(key=lambda report: report.worker)
        return FleetSnapshot(int(seconds) * 1000 + int(micros) // 1000, tuple(reports))

    async def observe(self, seconds: float = _LOOK) -> int:
        """Have workers count by task and report every second, for so many seconds; say it again to have it go on.

        Args:
            seconds: 60 at the most.

        Returns:
            How many workers heard it.
        """
        return await self._tell("figures", seconds)

    @contextlib.asynccontextmanager
    async def observing(self) -> AsyncIterator[bool]:
        """Have workers count by task and report every second while this is open.

        Yields:
            Whether this user may ask for that (see access.py); if not, workers report as ever.
        """
        try:
            await self.observe()
        except NoPermissionError:
            yield False
            return
        renewing = asyncio.create_task(self._renew("figures"), name="barque-observing")
        try:
            yield True
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})

    def follow(self, wanted: AttemptFilter = _ANYTHING) -> AttemptFeed:
        """Return the attempts that end from now on and are wanted: `async with … as feed: async for … in feed`."""
        return AttemptFeed(self._client, self._tell_followed, wanted)

    async def _tell_followed(self) -> None:
        await self._tell("attempts", _LOOK)

    async def _tell(self, what: Look, seconds: float) -> int:
        heard: int = await self._client.publish(
            observe_channel_of(self._client), f"{what} {max(1, min(round(seconds), LONGEST_LOOK))}"
        )
        return heard

    async def _renew(self, what: Look) -> None:
        while True:
            await asyncio.sleep(_RENEW_EVERY)
            with contextlib.suppress(*TROUBLE):  # whoever looks on notices by themselves
                await self._tell(what, _LOOK)


@dataclass(frozen=True, slots=True)
class Gap:
    """Attempts that were not shown.

    Attributes:
        missed: how many; None where that is not known.
        why: in words.
        worker: whose they were; "" where of many.
    """

    missed: int | None
    why: str
    worker: str = ""


class AttemptFeed:
    """Attempts as they end, and gaps: of so many a second that workers do not tell of all, or after a lost connection.

    `async with` it: from then on workers tell. A connection that is lost is opened again, for as long as this is open.
    """

    def __init__(self, client: redis.asyncio.Redis, tell: Callable[[], Awaitable[None]], wanted: AttemptFilter) -> None:
        self._client = client
        self._tell = tell
        self._wanted = wanted
        self._found: asyncio.Queue[EndedAttempt | Gap | None] = asyncio.Queue()
        self._overflowed = 0
        self._subscribed = asyncio.Event()
        self._again = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begin to listen.

        Raises:
            redis.exceptions.RedisError and the like: the server cannot be asked, or refuses.
        """
        listening = asyncio.create_task(self._listen(), name="barque-attempts")
        telling = asyncio.create_task(self._go_on_telling(), name="barque-attempts-asked")
        self._tasks = [listening, telling]
        listening.add_done_callback(self._ended)
        subscribed = asyncio.create_task(self._subscribed.wait())
        try:
            await asyncio.wait({listening, subscribed}, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()
            await self._tell()
        except BaseException:
            await self.__aexit__()
            raise
        finally:
            subscribed.cancel()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EndedAttempt | Gap:
        if self._overflowed and self._found.empty():
            missed, self._overflowed = self._overflowed, 0
            return Gap(missed, "they came faster than they were read")
        found = await self._found.get()
        if found is None:
            listening = self._tasks[0]
            if not listening.cancelled():
                listening.result()
            raise StopAsyncIteration
        return found

    async def _listen(self) -> None:
        while True:
            try:
                await listen(self._client, attempts_channel_of(self._client), self._receive, subscribed=self._begin)
            except TROUBLE as error:
                if not self._subscribed.is_set() or isinstance(error, NoPermissionError):
                    raise
                self._found.put_nowait(Gap(None, f"{reason(error)[0]}; trying again"))
            await asyncio.sleep(_LISTEN_AGAIN)

    async def _go_on_telling(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._again.wait(), _RENEW_EVERY)
            self._again.clear()
            with contextlib.suppress(*TROUBLE):  # the listening tells of it
                await self._tell()

    def _begin(self) -> None:
        if self._subscribed.is_set():
            self._again.set()  # workers that found nobody listening have stopped
        self._subscribed.set()

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._found.put_nowait(None)

    def _receive(self, message: bytes) -> None:
        try:
            told = msgspec.json.decode(message, type=AttemptLines)
        except MALFORMED:  # whatever a foreign program published there
            return
        for attempt in told.attempts:
            named = msgspec.structs.replace(attempt, worker=told.worker)
            if not self._wanted.fits(named):
                continue
            if self._found.qsize() >= _MOST_KEPT:
                self._overflowed += 1
            else:
                self._found.put_nowait(named)
        if told.left_out and self._found.qsize() < _MOST_KEPT:
            self._found.put_nowait(Gap(told.left_out, "more a second than a worker tells of", told.worker))


def _read(stored: Iterable[bytes | None]) -> Sequence[WorkerReport]:
    found = []
    for report in stored:
        with contextlib.suppress(*MALFORMED):  # whatever a foreign program wrote there
            if report is not None:
                found.append(msgspec.json.decode(report, type=WorkerReport))
    return found
