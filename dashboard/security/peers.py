"""Where a request comes from: the address at the other end, or the one a proxy that is trusted says it had.

Owns the reading of `X-Forwarded-For` and `X-Forwarded-Proto`. They are believed of trusted proxies alone: anybody can
send them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import HTTPConnection

__all__ = ["Peer", "Peers", "is_loopback"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end.

    Attributes:
        address: of who asks; of an IPv6 address its /64, which one machine has to itself. "" where it is not known.
        through_proxy: whether a trusted proxy handed the request on.
        is_local: whether the connection itself comes from this machine.
    """

    address: str
    through_proxy: bool
    is_local: bool


class Peers:
    """Tells who is at the other end of requests.

    Args:
        trusted: addresses and networks of proxies.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted: list[_Network] = [ipaddress.ip_network(each, strict=False) for each in trusted]

    def of(self, request: HTTPConnection) -> Peer:
        """Return who is at the other end; a scheme that a trusted proxy tells of goes into the request."""
        host = request.client.host if request.client is not None else ""
        direct = _parsed(host)
        local = direct is not None and direct.is_loopback
        if direct is None or not self._trusts(direct):
            return Peer(_shown(direct, host), through_proxy=False, is_local=local)
        proto = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
        if proto in {"http", "https"}:
            request.scope["scheme"] = proto
        told = [each.strip() for line in request.headers.getlist("x-forwarded-for") for each in line.split(",")]
        for each in reversed([one for one in told if one]):
            came = _parsed(each)
            if came is None or not self._trusts(came):
                return Peer(_shown(came, each[:64]), through_proxy=True, is_local=local)
        return Peer(_shown(direct, host), through_proxy=True, is_local=local)

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def is_loopback(host: str) -> bool:
    """Whether what listens on this host is reached from this machine alone."""
    address = _parsed(host.strip("[]"))
    return host.lower() == "localhost" if address is None else address.is_loopback


def _parsed(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _shown(address: _Address | None, otherwise: str) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return otherwise if address is None else str(address)
