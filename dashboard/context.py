"""What every request finds: the settings, the producer, the tokens, what may be shown, and who asks.

Owns no behaviour: `app.py` puts it together, and handlers ask for it by `dashboard_of` and `visitor_of`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request

from dashboard.security.csrf import Csrf
from dashboard.security.masking import Masking
from dashboard.settings import DashboardSettings
from dashboard.source import Source

__all__ = ["VISITOR", "Dashboard", "Visitor", "dashboard_of", "visitor_of"]

VISITOR = "barque.visitor"
"""Where in the scope of a request stands who asks."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks.

    Attributes:
        name: as they signed in; "" where nobody has to.
        way: how: nobody has to on loopback without a credential, by password, by token, or a proxy said so.
    """

    name: str = ""
    way: Literal["open", "password", "token", "proxy"] = "open"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What the requests of one application share."""

    settings: DashboardSettings
    source: Source
    csrf: Csrf
    masking: Masking


def dashboard_of(request: Request) -> Dashboard:
    """Return what this request's application is made of."""
    found: Dashboard = request.app.state.dashboard
    return found


def visitor_of(request: Request) -> Visitor:
    """Return who asks."""
    found: Visitor = request.scope.get(VISITOR) or Visitor()
    return found
