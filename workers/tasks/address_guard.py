"""Which addresses HTTP tasks may connect to.

Owns the decision, and nothing else: it resolves no name and opens no socket. `http_client` asks it for
every literal host before a request, for every address a name resolves to, and once more for the very
address a socket is made for, so that no second look-up can slip in between (DNS rebinding).

A job's URL may come from anybody. What it must not reach is what only this machine can: loopback, the
private network, the cloud's metadata service.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from workers.tasks.http_errors import ForbiddenAddress

__all__ = ["AddressGuard", "literal_address"]

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Spelled out rather than `is_global`, whose answer differs between patch releases of Python 3.11 and 3.12.
# From the IANA special-purpose registries.
_CLOSED_IPV4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, and Alibaba Cloud's metadata service
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform service: a public number, but not a public host
        "169.254.0.0/16",  # link-local, and most clouds' metadata service
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, withdrawn
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# In IPv6 only 2000::/3 is the public internet, so that everything else is closed without being listed.
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
_CLOSED_IPV6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments; Teredo among them carries an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries an IPv4 address, and nobody answers there any more (RFC 7526)
        "3fff::/20",  # documentation
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NUMERIC_HOST = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)(?:\.(?:0[xX][0-9a-fA-F]*|[0-9]+)){0,3}\.?")


def literal_address(host: str) -> IPAddress | None:
    """Return the address a host spells out, or None if it is a name.

    Also reads what the C library reads as an IPv4 address: `2130706433`, `0177.0.0.1`, `0x7f.1`, `127.1`.
    """
    bare = host.strip("[]")
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        pass
    if not _NUMERIC_HOST.fullmatch(bare):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(bare.removesuffix(".")))
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class AddressGuard:
    """Say which addresses may be connected to.

    Attributes:
        allow_private: let everything through (`BARQUE_HTTP_ALLOW_PRIVATE`).
    """

    allow_private: bool = False

    def permits(self, address: IPAddress) -> bool:
        """Return whether a connection to this address may be made."""
        return self.allow_private or _is_public(address)

    def check_host(self, host: str) -> None:
        """Refuse a host that spells out an address out of bounds; a name passes until it is resolved.

        Raises:
            ForbiddenAddress: it may not be reached.
        """
        address = literal_address(host)
        if address is not None and not self.permits(address):
            raise refusal(host)

    def check_address(self, address: str) -> None:
        """Refuse an address, as a resolver or `getaddrinfo` writes it, that is out of bounds.

        Raises:
            ForbiddenAddress: it may not be reached, or is no address at all.
        """
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            raise refusal(address) from None
        if not self.permits(parsed):
            raise refusal(address)


def refusal(host: str) -> ForbiddenAddress:
    """Return the error for a host; it never says which address a name resolved to."""
    # The address of an internal name would tell a stranger about the network behind the worker.
    return ForbiddenAddress(
        f"{host!r} is, or resolves to, an address that is not on the public internet (loopback, private, "
        "link-local or reserved). Set BARQUE_HTTP_ALLOW_PRIVATE=true if HTTP tasks may reach your own network."
    )


def _is_public(address: IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _CLOSED_IPV4)
    carried = address.ipv4_mapped
    if carried is None and address in _NAT64:
        # An IPv6-only network reaches every IPv4 host this way (DNS64), so what it leads to decides.
        carried = ipaddress.IPv4Address(address.packed[-4:])
    if carried is not None:
        return _is_public(carried)
    if address.scope_id is not None:
        return False
    return address in _PUBLIC_IPV6 and not any(address in network for network in _CLOSED_IPV6)
