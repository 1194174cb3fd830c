"""What the requests of one application share: the settings, the producer, the tokens, and what may be shown.

Owns no behaviour: `app.py` puts it together, and handlers ask for it by `dashboard_of`.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from dashboard.fleet_watch import FleetWatch
from dashboard.live import Live
from dashboard.security.csrf import Csrf
from dashboard.security.masking import Masking
from dashboard.settings import DashboardSettings
from dashboard.source import Source

__all__ = ["Dashboard", "dashboard_of"]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What handlers work with."""

    settings: DashboardSettings
    source: Source
    csrf: Csrf
    masking: Masking
    live: Live
    watch: FleetWatch


def dashboard_of(request: HTTPConnection) -> Dashboard:
    """Return what this request's application is made of."""
    found: Dashboard = request.app.state.dashboard
    return found
