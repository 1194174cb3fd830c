"""The HTTP client that all tasks of one worker share.

Owns the one aiohttp session, the way every address is held against the guard, redirects, and the turning of
aiohttp's errors into ours. Knows no task and judges no status. aiohttp takes a quarter of a second to import,
so `http.py` imports this module only when a request is made.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from common.resources import lifespan
from common.settings import settings_for_process
from workers.tasks.address_guard import AddressGuard, refusal
from workers.tasks.http_errors import (
    BodyTooLarge,
    ForbiddenAddress,
    HttpConnectionError,
    HttpError,
    HttpTimeout,
    InvalidRequest,
    TooManyRedirects,
    masked,
)

__all__ = ["Answer", "HttpClient", "Request", "http_client"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Any header of a caller's own may be a credential (X-Api-Key, …), so that only these cross to another host.
_CROSSES_HOSTS = frozenset(
    {"accept", "accept-encoding", "accept-language", "content-type", "if-range", "range", "user-agent"}
)
# The client decides how a message is framed; a second opinion is how requests get smuggled.
_OURS_ALONE = frozenset({"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# The "bad ports" of the Fetch standard (https://fetch.spec.whatwg.org/#port-blocking): what listens there speaks
# another protocol, and may take a request's body for commands in it (mail, IRC, FTP, X11, SIP, …).
_OTHER_PROTOCOLS = frozenset(
    {
        0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
        110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530,
        531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190,
        5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
    }
)  # fmt: skip
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, before its redirects.

    Attributes:
        method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.
        url: http or https; a user and password in it are sent as Basic authorization.
        headers: sent as given.
        body: sent as given, or None.
        redirects: how many to follow; with 0 the redirect itself is the answer.
        total: seconds for everything, redirects and body included; None sets no end.
        stall: seconds to wait for a connection, and between any two pieces of the answer.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None
    redirects: int = 10
    total: float | None = None
    stall: float = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request, its body not read yet.

    Attributes:
        response: aiohttp's own.
        url: where it came from, after redirects; without user and password.
    """

    response: aiohttp.ClientResponse
    url: str

    async def chunks(self, limit: int) -> AsyncGenerator[bytes, None]:
        """Yield the body, decompressed, as it comes in.

        Raises:
            BodyTooLarge: it is over `limit` bytes, as announced or once decompressed.
        """
        announced = self.response.content_length
        if announced is not None and announced > limit and self.response.method != "HEAD":
            raise self._too_large(limit)
        size = 0
        # aiohttp decompresses a bounded piece at a time, so that a small bomb is never whole in memory.
        async for chunk in self.response.content.iter_chunked(256 * 1024):
            size += len(chunk)
            if size > limit:
                raise self._too_large(limit)
            yield chunk

    async def read(self, limit: int) -> bytes:
        """Return the whole body, decompressed.

        Raises:
            BodyTooLarge: it is over `limit` bytes.
        """
        body = bytearray()
        async with contextlib.aclosing(self.chunks(limit)) as chunks:
            async for chunk in chunks:
                body += chunk
        return bytes(body)

    def _too_large(self, limit: int) -> BodyTooLarge:
        return BodyTooLarge(f"{self.response.method} {masked(self.url)}: the body is over {limit} bytes")


class GuardedResolver(AbstractResolver):
    """Resolve names as another resolver does, and keep only addresses that the guard permits."""

    def __init__(self, guard: AddressGuard, resolver: AbstractResolver) -> None:
        self._guard = guard
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            ForbiddenAddress: it has addresses, and none may be reached.
            OSError: it cannot be resolved.
        """
        found = await self._resolver.resolve(host, port, family)
        permitted = [result for result in found if self._permits(result["host"])]
        if found and not permitted:
            raise refusal(host)
        return permitted

    async def close(self) -> None:
        """Close the resolver underneath."""
        await self._resolver.close()

    def _permits(self, address: str) -> bool:
        try:
            self._guard.check_address(address)
        except ForbiddenAddress:
            return False
        return True


class _SocketRefused(OSError):
    """An address out of bounds, as an error that aiohttp takes from a socket and hands on."""


class HttpClient:
    """One aiohttp session, and the rules every request of a task is held to.

    Args:
        guard: which addresses may be reached.
        resolver: turns names into addresses; the system's by default.
        connections: open at once; requests past that wait for one.
    """

    def __init__(
        self, guard: AddressGuard, *, resolver: AbstractResolver | None = None, connections: int = 100
    ) -> None:
        self._guard = guard
        self._resolver = GuardedResolver(guard, resolver or aiohttp.ThreadedResolver())
        connector = aiohttp.TCPConnector(limit=connections, resolver=self._resolver, socket_factory=self._make_socket)
        # No proxy from the environment: behind one, the address connected to would be the proxy's, and the
        # guard would guard nothing. No cookies: one job's must not travel with another's request.
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            headers={"User-Agent": "Barque"},
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
        await self._resolver.close()

    @contextlib.asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[Answer]:
        """Send a request, follow its redirects, and yield the answer, whatever its status.

        Leaving the block without having read the body closes the connection.

        Raises:
            InvalidRequest: the URL, the method or a header cannot be sent.
            ForbiddenAddress: the host, or one redirected to, is out of bounds.
            TooManyRedirects: they did not end.
            HttpTimeout: no complete answer in time.
            HttpConnectionError: no connection, or it broke.
        """
        _check(request)
        try:
            async with asyncio.timeout(request.total):
                async with self._follow(request) as answer:
                    yield answer
        except (aiohttp.ClientError, TimeoutError) as error:
            # Not `from error`: aiohttp puts the whole URL, secrets included, into some of its messages.
            raise _translated(error, request) from None

    @contextlib.asynccontextmanager
    async def _follow(self, request: Request) -> AsyncIterator[Answer]:
        url, hop = _without_userinfo(_parsed(request.url), request)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=request.stall, sock_read=request.stall)
        for _ in range(request.redirects + 1):
            self._guard.check_host(url.host or "")
            async with self._session.request(
                hop.method, url, headers=hop.headers, data=hop.body, allow_redirects=False, timeout=timeout
            ) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None or request.redirects == 0:
                    yield Answer(response, str(url))
                    return
                response.close()  # what a redirect says in its body interests nobody
            target = _target(url, location)
            hop = _redirected(hop, response.status, same_origin=target.origin() == url.origin())
            url = target
        raise TooManyRedirects(f"{request.method} {masked(request.url)}: over {request.redirects} redirects")

    def _make_socket(self, address: Any) -> socket.socket:
        """Make the socket for one connection: the last look at the address, with nothing after it."""
        family, kind, protocol, _, target = address
        try:
            self._guard.check_address(target[0])
        except ForbiddenAddress:
            raise _SocketRefused("address refused") from None
        return socket.socket(family=family, type=kind, proto=protocol)


@lifespan(lazy=True)
async def http_client() -> AsyncIterator[HttpClient]:
    """Make the worker's HTTP client, on its first use."""
    settings = settings_for_process()
    guard = AddressGuard(allow_private=settings.http_allow_private)
    client = HttpClient(guard, connections=max(100, settings.concurrency))
    try:
        yield client
    finally:
        await client.close()


def _check(request: Request) -> None:
    if request.method not in _METHODS:
        raise InvalidRequest(f"method {request.method!r}: give one of {', '.join(sorted(_METHODS))}")
    for name, value in request.headers.items():
        if not _TOKEN.fullmatch(name):
            raise InvalidRequest(f"header {name!r}: that is no header name")
        if name.lower() in _OURS_ALONE:
            raise InvalidRequest(f"header {name!r}: the client sets it itself")
        if _CONTROL.search(value):
            raise InvalidRequest(f"header {name!r}: its value holds a line break or control character")


def _parsed(url: str) -> URL:
    try:
        parsed = URL(url)
        host = parsed.host
    except ValueError:
        raise InvalidRequest(f"{masked(url)!r} is not a URL") from None
    if parsed.scheme not in {"http", "https"} or not host:
        raise InvalidRequest(f"{masked(url)!r}: give an http:// or https:// URL with a host")
    if parsed.port in _OTHER_PROTOCOLS:
        raise InvalidRequest(f"{masked(url)!r}: port {parsed.port} is for another protocol than HTTP")
    return parsed


def _without_userinfo(url: URL, request: Request) -> tuple[URL, Request]:
    """Move a user and password from the URL into a header, where a redirect to another host drops it."""
    if url.raw_user is None and url.raw_password is None:
        return url, request
    bare = url.with_user(None)
    if any(name.lower() == "authorization" for name in request.headers):
        raise InvalidRequest(f"{masked(request.url)!r}: give a user in the URL or an Authorization header, not both")
    pair = f"{unquote(url.raw_user or '')}:{unquote(url.raw_password or '')}"
    credentials = base64.b64encode(pair.encode()).decode()
    return bare, replace(request, headers={**request.headers, "Authorization": f"Basic {credentials}"})


def _target(url: URL, location: str) -> URL:
    try:
        target = url.join(URL(location))
    except ValueError:
        raise InvalidRequest(f"{masked(str(url))}: it redirects to something that is no URL") from None
    # A password the *server* put into the URL is not ours to send.
    return _parsed(str(target)).with_user(None)


def _redirected(hop: Request, status: int, *, same_origin: bool) -> Request:
    """Return the request that follows a redirect, as browsers do it (RFC 9110, 15.4)."""
    headers = CIMultiDict(hop.headers)
    method, body = hop.method, hop.body
    if (status == 303 and method != "HEAD") or (status in {301, 302} and method == "POST"):
        method, body = "GET", None
        for name in ("Content-Type", "Content-Encoding", "Content-Language", "Content-Location"):
            headers.popall(name, None)
    if not same_origin:
        headers = CIMultiDict({k: v for k, v in headers.items() if k.lower() in _CROSSES_HOSTS})
    return replace(hop, method=method, body=body, headers=headers)


def _translated(error: Exception, request: Request) -> HttpError:
    place = f"{request.method} {masked(request.url)}"
    if isinstance(error, TimeoutError):
        seconds = request.stall if request.total is None else request.total
        return HttpTimeout(f"{place}: no complete answer within {seconds:g} s (BARQUE_HTTP_TIMEOUT)")
    if isinstance(error, aiohttp.InvalidURL):
        return InvalidRequest(f"{masked(request.url)!r} is not a URL that can be requested")
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, _SocketRefused):
            return refusal(error.host)
        return HttpConnectionError(f"{place}: no connection: {error.os_error.strerror or error.os_error}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return HttpConnectionError(f"{place}: the body broke off, or could not be decompressed")
    return HttpConnectionError(f"{place}: the exchange failed ({type(error).__name__})")
