"""That who changes something meant to: a page elsewhere must not have a browser do it in somebody's name.

Owns the tokens and the marks of a browser; which requests need what is gate.py's. A browser says where a request comes
from (`Sec-Fetch-Site`, `Origin`), and that is looked at first; besides, each form carries a token that is bound to a
cookie no other site can read.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

from dashboard.security.hosts import Hosts

__all__ = ["FIELD", "HEADER", "Csrf", "came_from_elsewhere", "is_from_a_browser"]

FIELD = "csrf"
"""The form's field that holds the token."""

HEADER = "X-CSRF-Token"
"""The header that holds it where there is no form."""

_COOKIE = "barque_csrf"
_NONCE = re.compile(r"[0-9a-f]{32}")
_PENDING = "barque.csrf"


class Csrf:
    """Makes tokens and checks them.

    Args:
        key: what tokens are made with; the same for all processes that serve one address.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or os.urandom(32)

    def token(self, request: HTTPConnection) -> str:
        """Return the token for the forms of this page; its answer then has to go through `remember`."""
        return self._token(self._nonce(request) or self._fresh(request))

    def remember(self, request: HTTPConnection, response: Response) -> None:
        """Give the browser the cookie that the tokens of this page are bound to, where it has none."""
        nonce = request.scope.get(_PENDING)
        if nonce is not None:
            path = request.scope.get("root_path") or "/"
            secure = request.url.scheme == "https"
            response.set_cookie(_COOKIE, nonce, path=path, secure=secure, httponly=True, samesite="strict")

    def complaint(self, request: HTTPConnection, token: str | None) -> str | None:
        """Return what is wrong with the token of a request that changes something; None if nothing is.

        Args:
            token: what its form, or its header, holds.
        """
        nonce = self._nonce(request)
        if nonce is None:
            return "the cookie that its token belongs to is missing: load the page again, with cookies allowed"
        if token is None:
            return f"it has no token: send the one of the page, as field {FIELD} of a form or as header {HEADER}"
        if not hmac.compare_digest(token.encode(), self._token(nonce).encode()):
            return "its token is not, or no longer, the right one: load the page again"
        return None

    def _token(self, nonce: str) -> str:
        return hmac.digest(self._key, nonce.encode(), hashlib.sha256).hex()

    def _nonce(self, request: HTTPConnection) -> str | None:
        pending: str | None = request.scope.get(_PENDING)
        if pending is not None:
            return pending
        found = _cookie(request)
        return found if found is not None and _NONCE.fullmatch(found) else None

    def _fresh(self, request: HTTPConnection) -> str:
        nonce = os.urandom(16).hex()
        request.scope[_PENDING] = nonce
        return nonce


def is_from_a_browser(request: HTTPConnection) -> bool:
    """Whether a request may come from a browser: each says where a change comes from, or has the cookie with it."""
    return any(name in request.headers for name in ("origin", "sec-fetch-site", "cookie"))


def came_from_elsewhere(request: HTTPConnection, hosts: Hosts) -> str | None:
    """Return why a request is taken for one of another site; None where nothing speaks for that.

    Args:
        hosts: behind a proxy the name that is asked for may be another than the one the browser knows.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return None if site == "same-origin" else "a page of another site sent it (Sec-Fetch-Site)"
    origin = request.headers.get("origin")
    if origin is None:
        return None
    try:
        came_from = urlsplit(origin.lower())
        name = came_from.hostname or ""
    except ValueError:
        return "its Origin is none"
    known = came_from.netloc == request.headers.get("host", "").lower() or hosts.allows(name)
    if came_from.scheme not in {"http", "https"} or not known:
        return "a page of another site sent it (Origin)"
    return None


def _cookie(request: HTTPConnection) -> str | None:
    try:
        found = SimpleCookie(request.headers.get("cookie", "")).get(_COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value
