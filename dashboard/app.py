"""The application: routes, what each request passes through before it is answered, and what they share.

Owns the order of these. Who may ask is decided in security/, what is answered in pages/ and api/.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from common.settings import Settings, load_settings
from common.tasks import import_tasks
from dashboard.api.routes import api_routes
from dashboard.context import Dashboard
from dashboard.fleet_watch import FleetWatch
from dashboard.live import Live
from dashboard.pages.routes import page_routes
from dashboard.problems import answer_to
from dashboard.routing import ExactRoute
from dashboard.security.access import Access, check_exposure
from dashboard.security.csrf import Csrf
from dashboard.security.gate import HEALTH, Gate
from dashboard.security.headers import SecurityHeaders
from dashboard.security.masking import Masking
from dashboard.settings import DashboardSettings, load_dashboard_settings
from dashboard.source import Source

__all__ = ["create_app"]

_STATIC = Path(__file__).parent / "static"


def create_app(settings: Settings | None = None, dashboard_settings: DashboardSettings | None = None) -> Starlette:
    """Return the dashboard as an ASGI application.

    It can be mounted nowhere but at the root of a server; a proxy may serve it under a path, which
    `BARQUE_DASHBOARD_ROOT_PATH` names.

    Args:
        settings: where the server is; read from the environment by default.
        dashboard_settings: who may see and do what; read from the environment by default.

    Raises:
        ConfigurationError: a setting is wrong, or it would be open to others without a credential.
    """
    given = dashboard_settings or load_dashboard_settings()
    access = Access(given)
    check_exposure(given, access)
    import_tasks(given.tasks)
    source, live = Source(settings or load_settings()), Live()
    shared = Dashboard(given, source, Csrf(), Masking(given), live, FleetWatch(source, every=live.every))
    app = Starlette(
        routes=_routes(),
        middleware=[Middleware(SecurityHeaders), Middleware(Gate, settings=given, access=access)],
        exception_handlers={HTTPException: _answer},
        lifespan=_lifespan,
    )
    app.state.dashboard = shared
    return app


def _routes() -> list[BaseRoute]:
    return [
        ExactRoute(HEALTH, _health, name="health"),
        *page_routes(),
        *api_routes(),
        Mount("/static", _Static(directory=_STATIC), name="static"),
    ]


class _Static(StaticFiles):
    """Styles and scripts, which hold no data: a browser may keep them, and asks whether they are still the same."""

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        response = super().file_response(*arguments, **named)
        response.headers["Cache-Control"] = "private, no-cache"
        return response


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    shared: Dashboard = app.state.dashboard
    try:
        yield
    finally:
        await shared.live.aclose()
        await shared.source.aclose()


async def _health(_: Request) -> Response:
    """Say to whoever asks that the dashboard runs. A Redis that is away is no fault of its own; pages tell of it."""
    return PlainTextResponse("ok\n")


async def _answer(request: Request, error: Exception) -> Response:
    return answer_to(request, error)
