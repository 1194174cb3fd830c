"""Pages that stay new by themselves: what viewers look at, drawn anew for all of them at once, sent as it changes.

    viewer ──join──► topic ◄──render── loop ──one look at the server──► Redis

Owns who looks at what, and the stream of each. A topic is one address: whoever has that page open shares what is drawn
for it. The loop runs while somebody looks, and asks nothing of Redis when nobody does. What a page shows, and how it is
drawn, is pages/'s.

A stream is one of server-sent events, each of them what has changed since the one before:

    event: regions
    data: {"now": <Unix ms of the server>, "away": <why Redis is not there, or null>, "html": {<region>: <its HTML>}}
"""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog

from common.errors import BarqueError, RedisUnavailable

__all__ = ["Drawn", "Live", "TooManyViewers"]

log = structlog.get_logger("barque.dashboard")

_SHARE = 10
"""A page that took so long to draw is drawn again after ten times that: a search in very many jobs, say."""

_AT_ONCE = 4
"""Pages that are drawn at a time."""

_SAY_SOMETHING_EVERY = 10.0
"""Seconds: a viewer that is gone is noticed by writing to it."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The regions of one page at one moment.

    Attributes:
        now_ms: Unix ms by the server's clock, which the times on the page are told by.
        regions: name to HTML.
        compared: the same without what changes by itself, such as how long ago something was; what is equal in it is
            not sent again.
    """

    now_ms: int
    regions: Mapping[str, str]
    compared: Mapping[str, str]


Draw = Callable[[], Awaitable[Drawn]]


class TooManyViewers(BarqueError):
    """As many look on as this dashboard serves; pages work all the same, and are new when they are loaded again."""


@dataclass(slots=True)
class _Region:
    version: int
    html: str
    compared: str


@dataclass(slots=True)
class _Topic:
    """One address that somebody looks at.

    Attributes:
        due: when it is to be drawn again, by the loop's clock.
        version: how often it has changed.
        news: set when it has changed since; then there is another one.
    """

    draw: Draw
    viewers: int = 0
    due: float = 0.0
    version: int = 0
    now_ms: int = 0
    away: str | None = None
    regions: dict[str, _Region] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, drawn: Drawn) -> None:
        """Note what the page looks like now."""
        version = self.version + 1
        # Who came while the server was away was sent nothing, so all of it is sent when it is back.
        changed = afresh = self.away is not None or not self.regions
        for name, html in drawn.regions.items():
            known = self.regions.get(name)
            if afresh or known is None or known.compared != drawn.compared[name]:
                self.regions[name] = _Region(version, html, drawn.compared[name])
                changed = True
        self.away, self.now_ms = None, drawn.now_ms
        if changed:
            self._tell(version)

    def lose(self, why: str) -> None:
        """Note that the page cannot be drawn now."""
        if self.away != why:
            self.away = why
            self.now_ms = round(time.time() * 1000)
            self._tell(self.version + 1)

    def since(self, version: int) -> str:
        """Return what has changed since a version, as an event."""
        html = {name: region.html for name, region in self.regions.items() if region.version > version}
        told = {"now": self.now_ms, "away": self.away, "html": {} if self.away else html}
        return f"event: regions\ndata: {json.dumps(told, ensure_ascii=False)}\n\n"

    def _tell(self, version: int) -> None:
        self.version = version
        news, self.news = self.news, asyncio.Event()
        news.set()


class Live:
    """All viewers of one dashboard.

    Args:
        every: seconds between two looks.
        most: viewers at once.
    """

    def __init__(self, *, every: float = 2.0, most: int = 200) -> None:
        self.every = every
        self._most = most
        self._topics: dict[str, _Topic] = {}
        self._looking: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    @property
    def viewers(self) -> int:
        """How many look on."""
        return sum(topic.viewers for topic in self._topics.values())

    @property
    def is_looking(self) -> bool:
        """Whether the server is asked at all."""
        return self._looking is not None and not self._looking.done()

    def join(self, address: str, draw: Draw) -> AsyncIterator[str]:
        """Return the stream of a viewer: events as text, until it is closed or the dashboard ends.

        Args:
            address: viewers of one address share what is drawn.
            draw: draws it; of the viewers of an address, the first one's is used.

        Raises:
            TooManyViewers: there is no place for one more.
        """
        if self._closed.is_set():
            raise TooManyViewers("the dashboard is stopping")
        if self.viewers >= self._most:
            raise TooManyViewers(f"{self._most} viewers look on, which is the most there may be")
        return self._stream(address, draw)

    def close(self) -> None:
        """End all streams: a server that stops waits for its answers to end."""
        self._closed.set()
        for topic in self._topics.values():
            topic.news.set()

    async def aclose(self) -> None:
        """End all streams, and wait for the last look."""
        self.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _stream(self, address: str, draw: Draw) -> AsyncIterator[str]:
        topic = self._topics.setdefault(address, _Topic(draw))
        topic.viewers += 1
        try:
            if not self.is_looking:
                self._looking = asyncio.create_task(self._look())
            seen = 0
            while not self._closed.is_set():
                news = topic.news
                if topic.version > seen:
                    event, seen = topic.since(seen), topic.version
                    yield event
                    continue
                try:
                    async with asyncio.timeout(_SAY_SOMETHING_EVERY):
                        await news.wait()
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            topic.viewers -= 1
            if not topic.viewers and self._topics.get(address) is topic:
                del self._topics[address]

    async def _look(self) -> None:
        places = asyncio.Semaphore(_AT_ONCE)
        while self._topics:
            began = time.monotonic()
            await asyncio.gather(*(self._refresh(each, places) for each in self._topics.values() if each.due <= began))
            await asyncio.sleep(max(0.05, self.every - (time.monotonic() - began)))

    async def _refresh(self, topic: _Topic, places: asyncio.Semaphore) -> None:
        async with places:
            began = time.monotonic()
            await self._draw(topic)
            took = time.monotonic() - began
        # A page that is drawn as often as it may be is drawn at each turn, however late that is.
        topic.due = began + took * _SHARE if took * _SHARE > self.every else 0.0

    async def _draw(self, topic: _Topic) -> None:
        try:
            topic.take(await topic.draw())
        except RedisUnavailable as error:
            topic.lose(str(error))
        except BarqueError:
            pass  # nothing is kept of the job any more, say: what is shown stays, until the page is loaded again
        except Exception as error:  # one page that cannot be drawn is no reason for the others to stand still
            # Without its message, which may quote what a job was given.
            where = "".join(traceback.format_tb(error.__traceback__)[-3:])
            log.error("dashboard_error", error=type(error).__name__, where=where)  # noqa: TRY400
