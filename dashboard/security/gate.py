"""What every request passes before anything answers it: its path, its name, who sends it, and whether it may.

Owns the order of the checks. Each of them stands in a module of its own.
"""

from __future__ import annotations

import math
from urllib.parse import parse_qs, quote

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.context import dashboard_of
from dashboard.problems import ProblemRaised, answer_to, is_for_programs, refusal, report
from dashboard.security.access import Access
from dashboard.security.attempts import Attempts
from dashboard.security.csrf import FIELD, HEADER, came_from_elsewhere, is_from_a_browser
from dashboard.security.hosts import Hosts
from dashboard.security.peers import Peer, Peers
from dashboard.settings import PREFIX, DashboardSettings
from dashboard.visitor import Visitor, set_visitor, visitor_of

__all__ = ["HEALTH", "CutShort", "Gate"]

HEALTH = "/healthz"
"""Answered to everybody: it says nothing."""

_OF_PROXIES = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""What proxies add: to a dashboard that nobody signs in to, all the world would be this machine."""

_SAFE = {"GET", "HEAD", "OPTIONS"}
_FORM = "application/x-www-form-urlencoded"

log = structlog.get_logger("barque.dashboard")


class CutShort(Exception):
    """An answer ended in the middle."""


class Gate:
    """Lets requests through, or answers why not.

    Args:
        app: what is behind it.
        settings, access: the rules.
    """

    def __init__(self, app: ASGIApp, settings: DashboardSettings, access: Access) -> None:
        self._app = app
        self._root = settings.root_path
        self._read_only = settings.read_only
        self._largest = settings.max_body_bytes
        self._access = access
        self._hosts = Hosts(settings)
        self._peers = Peers(settings.trusted_proxies)
        self._attempts = Attempts(settings.sign_in_attempts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = False

        async def note(message: Message) -> None:
            nonlocal began
            began = began or message["type"] == "http.response.start"
            await send(message)

        _enter(scope, self._root)
        request = Request(scope, _bounded(scope, receive, self._largest))
        try:
            refused = self._refused(request)
            if refused is None:
                receive = await self._checked(request)
                await self._app(scope, receive, note)
                return
        except ClientDisconnect:
            return
        except Exception as error:
            if began:  # half an answer cannot be taken back; the server closes the connection, and logs this one
                report(request, error)
                raise CutShort("an answer was cut short by an error; see dashboard_error") from None
            refused = answer_to(request, error)
        await refused(scope, receive, send)

    def _refused(self, request: Request) -> Response | None:
        """Return the answer to who may not ask at all; None where they may, and are noted."""
        if _path(request) == HEALTH:
            set_visitor(request, Visitor())
            return None
        complaint = self._hosts.complaint(request)
        if complaint is not None:
            return refusal(request, 400, complaint)
        peer = self._peers.of(request)
        if self._access.is_open and not peer.is_local:
            return refusal(
                request, 403, f"without a credential the dashboard answers this machine alone: set {PREFIX}PASSWORD"
            )
        if self._access.is_open and any(name in request.headers for name in _OF_PROXIES):
            return refusal(request, 403, f"it came through a proxy, where anybody may be behind: set {PREFIX}PASSWORD")
        visitor = self._signed_in(request, peer)
        if isinstance(visitor, Response):
            return visitor
        set_visitor(request, visitor)
        return None

    def _signed_in(self, request: Request, peer: Peer) -> Visitor | Response:
        shows = self._access.shows_credential(request)
        wait = self._attempts.wait(peer.address) if shows and not self._access.is_open else 0.0
        if wait:
            seconds = str(math.ceil(wait))
            detail = f"too many wrong credentials came from this address; try again in {seconds} s"
            return refusal(request, 429, detail, headers={"Retry-After": seconds})
        visitor = self._access.visitor(request, peer)
        if visitor is not None:
            return visitor
        if shows:
            self._attempts.failed(peer.address)
            log.warning("sign_in_refused", address=peer.address)
        asked = ", ".join(self._access.challenges)
        headers = {"WWW-Authenticate": asked} if asked else {}
        detail = "sign in to see this" if asked else "only a proxy that signs people in may ask"
        return refusal(request, 401, "that is no credential of this dashboard" if shows else detail, headers=headers)

    async def _checked(self, request: Request) -> Receive:
        """Return where the rest of a request comes from, once it is clear that it may change something, if it does.

        Raises:
            ProblemRaised: it may not.
        """
        if request.method in _SAFE:
            return request.receive
        if self._read_only:
            raise ProblemRaised(
                403, f"this dashboard is for reading only ({PREFIX}READ_ONLY): nothing was changed", kind="read-only"
            )
        visitor = visitor_of(request)
        for_programs = is_for_programs(request)
        receive, token = request.receive, request.headers.get(HEADER)
        needs_token = visitor.way != "token" and (not for_programs or is_from_a_browser(request))
        if needs_token:
            if token is None and not for_programs:
                receive, token = await _form_token(request)
            complaint = came_from_elsewhere(request, self._hosts) or dashboard_of(request).csrf.complaint(
                request, token
            )
            if complaint is not None:
                raise ProblemRaised(403, f"the request was refused: {complaint}", kind="forgery")
        path = request.scope["raw_path"].decode("ascii", errors="backslashreplace")
        log.info("dashboard_change", by=visitor.signature, method=request.method, path=path)
        return receive


def _enter(scope: Scope, root: str) -> None:
    """Have the path begin with the prefix of the proxy, whether the proxy left it there or took it off."""
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or quote(path).encode()
    scope["root_path"], scope["raw_path"] = root, raw
    if root and path != root and not path.startswith(f"{root}/"):
        scope["path"], scope["raw_path"] = root + path, root.encode() + raw


def _bounded(scope: Scope, receive: Receive, largest: int) -> Receive:
    """Return where a body comes from that is not larger than this.

    What it gives out raises a `ProblemRaised` once it is.
    """
    told = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    read = 0

    async def bounded() -> Message:
        nonlocal read
        if told.isdigit() and int(told) > largest:
            raise _too_large(largest)
        message = await receive()
        read += len(message.get("body", b""))
        if read > largest:
            raise _too_large(largest)
        return message

    return bounded


def _too_large(largest: int) -> ProblemRaised:
    # The rest of it is not read: the connection cannot be used again.
    headers = {"Connection": "close"}
    return ProblemRaised(413, f"the request has more than {largest:,} bytes ({PREFIX}MAX_BODY_BYTES)", headers=headers)


def _path(request: Request) -> str:
    return str(request.scope["path"]).removeprefix(request.scope["root_path"]) or "/"


async def _form_token(request: Request) -> tuple[Receive, str | None]:
    """Return the token in a form, and where the form can be read from again."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return request.receive, None
    body = await request.body()
    found = parse_qs(body.decode(errors="replace"), max_num_fields=10_000).get(FIELD)

    async def again() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return again, None if found is None else found[-1]
