"""A page that people look at: read once for who loads it, and again and again for who has it open.

Owns how one address answers both: with the page, or, to who accepts server-sent events, with the stream of its regions.
A region is a block of the page's template called `live_…`. What a page shows is its own module's.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from common.errors import RedisUnavailable
from dashboard.context import Dashboard, dashboard_of
from dashboard.fleet_watch import Look
from dashboard.live import Drawn, TooManyViewers
from dashboard.pages.rendering import TOKEN, address_of, page, regions, request_address
from producer import Producer

__all__ = ["Page", "View", "live_page"]

T = TypeVar("T")

_BY_ITSELF = re.compile(r"(<time [^>]*>)[^<]*|<!--.*?-->", re.DOTALL)
"""What changes though nothing has happened: how long ago something was."""


@dataclass(frozen=True, slots=True)
class View:
    """What a page is asked to show.

    Attributes:
        path: the parameters of its route.
        query: those behind the question mark, the last of each name; what is empty is left out.
        root: the path that a proxy serves the dashboard under, or "".
    """

    dashboard: Dashboard
    path: Mapping[str, str]
    query: Mapping[str, str]
    root: str = ""

    @classmethod
    def of(cls, request: Request) -> View:
        """Return what a request asks for."""
        root = request.scope.get("root_path", "")
        return cls(dashboard_of(request), dict(request.path_params), read_query(request), root)

    async def ask(self, asked: str, question: Callable[[Producer], Awaitable[T]]) -> T:
        """Return what is asked of the producer; see `Source.ask`."""
        return await self.dashboard.source.ask(asked, question)

    def link(self, path: str, query: Mapping[str, Any] | None = None, **parameters: str) -> Markup:
        """Return an address of this dashboard; see `rendering.address_of`."""
        return address_of(self.root, path, query, **parameters)

    async def look(self) -> Look:
        """Return how the fleet stands."""
        return await self.dashboard.watch.look()


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Attributes:
        template: its name below `templates/`.
        here: which entry of the navigation it belongs to.
        read: returns what the template shows.
        is_live: whether it stays new by itself.
    """

    template: str
    here: str
    read: Callable[[View], Awaitable[Mapping[str, Any]]]
    is_live: bool = True


def read_query(request: Request) -> dict[str, str]:
    """Return the parameters of an address, whatever bytes they are of."""
    text = request.scope["query_string"].decode("latin-1")
    return {name: value for name, value in parse_qsl(text, errors="surrogateescape") if value}


def live_page(shown: Page) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a page."""

    async def endpoint(request: Request) -> Response:
        view = View.of(request)
        if shown.is_live and "text/event-stream" in request.headers.get("accept", ""):
            return _stream(request, shown, view)
        each = {"here": shown.here, "stream": request_address(request) if shown.is_live else ""}
        try:
            context = {"look": await view.look(), **await shown.read(view)}
        except RedisUnavailable as error:
            return page(request, "away.html", {**each, "away": str(error)}, status=503)
        return page(request, shown.template, {**each, **context}, status=context.get("status", 200))

    return endpoint


def _stream(request: Request, shown: Page, view: View) -> Response:
    async def draw() -> Drawn:
        look = await view.look()
        context = {"look": look, "now_ms": look.now_ms, "here": shown.here, **await shown.read(view)}
        found = regions(request, shown.template, context)
        return Drawn(look.now_ms, found, {name: _BY_ITSELF.sub(r"\1", html) for name, html in found.items()})

    address = request_address(request)
    token = view.dashboard.csrf.token(request)
    try:
        events = view.dashboard.live.join(address, draw)
    except TooManyViewers as error:
        return PlainTextResponse(f"{error}\n", 503, {"Retry-After": "5"})

    async def of_this_viewer() -> Any:
        async for event in events:
            yield event.replace(TOKEN, token)

    response = StreamingResponse(of_this_viewer(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
    view.dashboard.csrf.remember(request, response)
    return response
