"""By which names the dashboard may be asked for.

Owns the check of `Host`. Without it a page elsewhere could have its own name point to 127.0.0.1 (DNS rebinding), and
then read and do everything: to the browser it would be one site.
"""

from __future__ import annotations

import re

from starlette.requests import HTTPConnection

from dashboard.security.peers import is_loopback
from dashboard.settings import PREFIX, DashboardSettings

__all__ = ["Hosts"]

_HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[a-z0-9._~-]+)(?::\d{1,5})?")
_OF_THIS_MACHINE = ("localhost", "127.0.0.1", "[::1]", ".localhost")


class Hosts:
    """Knows the names.

    Args:
        settings: name them, or say where it listens.
    """

    def __init__(self, settings: DashboardSettings) -> None:
        names = self._given = tuple(name.lower() for name in settings.allowed_hosts)
        if not names and is_loopback(settings.host):
            own = settings.host.lower().strip("[]")
            names = (*_OF_THIS_MACHINE, f"[{own}]" if ":" in own else own)
        self._names = names or ("*",)

    def complaint(self, request: HTTPConnection) -> str | None:
        """Return what is wrong with the name a request asks for; None if nothing is."""
        given = request.headers.getlist("host")
        found = _HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
        if found is None:
            return "its Host header is missing, there twice, or no name"
        name = found[1].rstrip(".")
        if any(_fits(name, allowed) for allowed in self._names):
            return None
        return f"the dashboard is not asked for by this name; those it may be are set with {PREFIX}ALLOWED_HOSTS"

    def allows(self, name: str) -> bool:
        """Whether the settings name it: not merely one of this machine, whose other ports belong to others."""
        return any(allowed != "*" and _fits(name, allowed) for allowed in self._given)


def _fits(name: str, allowed: str) -> bool:
    if allowed == "*":
        return True
    return name.endswith(allowed) if allowed.startswith(".") else name == allowed
