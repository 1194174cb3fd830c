"""Where the server is: `Settings` read into the options redis-py takes.

Owns the grammar of `BARQUE_REDIS_URL` and its neighbours, and every check on them; opens nothing. A
value that cannot work is a `ConfigurationError` here, before anything is dialled. redis-py's own
parser is not used: it takes `/abc` for database 0, passes an unknown option on until the first
command fails, and its errors quote the URL.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from common.errors import ConfigurationError
from common.secret import Secret
from common.settings import Settings

__all__ = ["MEMORY", "Address", "Sentinels", "connection_options", "describe", "parse_url", "sentinels"]

MEMORY = "memory://"
"""What the URL of a server inside the process begins with; see memory.py."""

_SENTINEL_PORT = 26379
# With an @ after the host's place, what looks like a port is part of a password.
_PORT = re.compile(r"\w+://(?:[^/?#@]*@)?[^/?#@]*:0*(\d+)(?:[/?#][^@]*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """A Redis URL, taken apart.

    Attributes:
        tls: whether the URL is `rediss://`.
        path: the Unix socket's path, or None for TCP; `host` and `port` then mean nothing.
        options: what the query says, under redis-py's names.
    """

    tls: bool
    host: str
    port: int
    path: str | None
    db: int
    username: str | None
    password: str | None = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the address without who or what opens it: fit for a log."""
        if self.path is not None:
            return f"unix://{self.path}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.db}"


@dataclass(frozen=True, slots=True)
class Sentinels:
    """The sentinels that know where the primary is.

    Attributes:
        nodes: host and port of each.
        service: the name they know the primary by.
        options: redis-py's options for a connection to a sentinel.
    """

    nodes: tuple[tuple[str, int], ...]
    service: str
    options: Mapping[str, Any] = field(repr=False)


def parse_url(url: str) -> Address:
    """Take a Redis URL apart.

    Args:
        url: `redis[s]://[user][:password@]host[:port][/db][?option=value]` or
            `unix://[user][:password@]/path[?db=0]`; user, password and path may be percent-encoded.

    Raises:
        ConfigurationError: the URL or one of its options is malformed. The URL is not quoted: a
            malformed one may show its password anywhere.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        found = _PORT.fullmatch(url)
        if found and int(found[1][:6]) > 65535:
            raise _wrong("has a port out of range: the port must be 0 to 65535") from None
        raise _wrong(
            "cannot be taken apart: give redis://user:password@host:port/db, and write the characters "
            "/ ? # @ : % of a password percent-encoded (%2F %3F %23 %40 %3A %25)"
        ) from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise _wrong("must begin with redis://, rediss:// (TLS) or unix://; memory:// is for tests in one process")
    if parts.fragment:
        raise _wrong("has a # in it; write it as %23")
    options = _read_options(query)
    on_socket = parts.scheme == "unix"
    if on_socket and not parts.path.strip("/"):
        raise _wrong("names no socket: give unix:///path/to/redis.sock")
    in_query = options.pop("db", None)
    in_path = None if on_socket else _read_db(parts.path)
    return Address(
        tls=parts.scheme == "rediss",
        host=unquote(parts.hostname or "localhost"),
        port=port or 6379,
        path=unquote(parts.path) if on_socket else None,
        db=in_query if in_query is not None else in_path or 0,
        username=unquote(parts.username or "") or options.pop("username", None),
        password=unquote(parts.password or "") or options.pop("password", None),
        options=options,
    )


def describe(settings: Settings) -> str:
    """Return where these settings lead, without user or password: `redis://db.example:6379/0`.

    Raises:
        ConfigurationError: the settings lead nowhere.
    """
    if settings.redis_url.startswith(MEMORY):
        return settings.redis_url
    address = parse_url(settings.redis_url)
    if not settings.redis_sentinels:
        return str(address)
    nodes = ", ".join(f"{host}:{port}" for host, port in _read_nodes(settings.redis_sentinels))
    tls = ", TLS" if address.tls else ""
    return f"{settings.redis_sentinel_service!r} at the sentinels {nodes} (db {address.db}{tls})"


def connection_options(settings: Settings) -> dict[str, Any]:
    """Return redis-py's options for a connection to the data server, as its connection classes take them.

    With sentinels the result has no `host`, `port` or `path`: they say where the server is. `ssl_…`
    options are there only for TLS. What the URL says wins over a setting that says the same thing.

    Raises:
        ConfigurationError: two settings contradict each other, or a TLS file is missing.
    """
    address = parse_url(settings.redis_url)
    options: dict[str, Any] = {
        "db": address.db,
        "username": address.username or settings.redis_username,
        "password": address.password or _reveal(settings.redis_password),
        **_socket_options(settings, address),
        **_tls_options(settings, address),
        "decode_responses": False,
    }
    if options["username"] and not options["password"]:
        raise ConfigurationError(
            "BARQUE_REDIS_USERNAME: a user is named but no password is; put it in BARQUE_REDIS_PASSWORD or in the URL"
        )
    if address.path is not None:
        options["path"] = address.path
    elif not settings.redis_sentinels:
        options |= {"host": address.host, "port": address.port}
    return options | {name: value for name, value in address.options.items() if not name.startswith("ssl_")}


def sentinels(settings: Settings) -> Sentinels | None:
    """Return the sentinels to ask, or None when the URL says where the server is.

    Raises:
        ConfigurationError: a sentinel is not `host:port`, or the URL is a Unix socket's.
    """
    if not settings.redis_sentinels:
        return None
    address = parse_url(settings.redis_url)
    if address.path is not None:
        raise ConfigurationError(
            "BARQUE_REDIS_SENTINELS: sentinels lead to a host and a port, but BARQUE_REDIS_URL is a Unix "
            "socket; give redis:// or rediss:// there"
        )
    timeout = settings.redis_connect_timeout
    tls = _tls_options(settings, address)
    options = {
        "username": settings.redis_sentinel_username,
        "password": _reveal(settings.redis_sentinel_password),
        **_socket_options(settings, address),
        # A sentinel answers from memory: one that does not answer in time is passed over for the next.
        "socket_timeout": timeout,
        **({"ssl": True} if tls else {}),
        **tls,
    }
    return Sentinels(_read_nodes(settings.redis_sentinels), settings.redis_sentinel_service, options)


def _socket_options(settings: Settings, address: Address) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_connect_timeout": settings.redis_connect_timeout,
        # A connection that was silent for this long is tried with a PING before it is used: a firewall
        # that dropped it costs one round trip, not a lost claim.
        "health_check_interval": 30,
    }
    if address.path is None:
        options |= {"socket_keepalive": True, "socket_keepalive_options": _keepalive()}
    return options


def _keepalive() -> dict[int, int]:
    """Return TCP options that end a connection whose peer has been gone for about a minute.

    There is no `socket_timeout` to do it: a worker's blocking pop is silent for as long as the queue is
    empty, and a command cut off half-way leaves it unknown whether the server ran it.
    """
    wanted = {
        "TCP_KEEPIDLE": 30,
        "TCP_KEEPALIVE": 30,  # the name of the same on macOS
        "TCP_KEEPINTVL": 10,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 60_000,
    }
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def _tls_options(settings: Settings, address: Address) -> dict[str, Any]:
    files = {
        "ssl_ca_certs": _file("BARQUE_REDIS_TLS_CA", settings.redis_tls_ca),
        "ssl_certfile": _file("BARQUE_REDIS_TLS_CERT", settings.redis_tls_cert),
        "ssl_keyfile": _file("BARQUE_REDIS_TLS_KEY", settings.redis_tls_key),
    }
    in_url = {name: value for name, value in address.options.items() if name.startswith("ssl_")}
    if not address.tls:
        if in_url or any(files.values()):
            # Going on would send the password in clear to someone who asked for TLS.
            raise ConfigurationError("BARQUE_REDIS_URL: TLS files or options are set, but the URL is not rediss://")
        return {}
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if name in in_url:
            _file(f"BARQUE_REDIS_URL: {name}", Path(in_url[name]))
    options = files | {"ssl_cert_reqs": "required" if settings.redis_tls_verify else "none"} | in_url
    if options["ssl_keyfile"] and not options["ssl_certfile"]:
        raise ConfigurationError("BARQUE_REDIS_TLS_KEY: a key without its certificate (BARQUE_REDIS_TLS_CERT)")
    # One PEM file may hold both; redis-py loads a certificate only when it is given a key too.
    options["ssl_keyfile"] = options["ssl_keyfile"] or options["ssl_certfile"]
    verified = options["ssl_cert_reqs"] == "required"
    options["ssl_check_hostname"] = verified and options.get("ssl_check_hostname", True)
    return options


def _file(variable: str, path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb"):
            return str(path)
    except OSError as error:
        raise ConfigurationError(f"{variable}: cannot read {path}: {error.strerror}") from None


def _read_nodes(given: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    nodes = []
    for node in given:
        try:
            parts = urlsplit(f"//{node}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or "@" in node or parts.path or parts.query:
            raise ConfigurationError(
                "BARQUE_REDIS_SENTINELS: give host:port,host:port (an IPv6 address in brackets); user and "
                "password have BARQUE_REDIS_SENTINEL_USERNAME and BARQUE_REDIS_SENTINEL_PASSWORD"
            )
        nodes.append((host, port or _SENTINEL_PORT))
    return tuple(nodes)


def _read_db(path: str) -> int | None:
    text = unquote(path).strip("/")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise _wrong("must end in a database number, such as /0")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError
    return int(text)


def _truth(text: str) -> bool:
    lowered = text.lower()
    if lowered in {"1", "true", "yes", "on", "t", "y"}:
        return True
    if lowered in {"0", "false", "no", "off", "f", "n"}:
        return False
    raise ValueError


def _requirement(text: str) -> str:
    # "optional" means to a client what "required" means, and redis-py 5 documents it so.
    choice = {"none": "none", "optional": "required", "required": "required"}.get(text.lower())
    if choice is None:
        raise ValueError
    return choice


_OPTIONS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "db": (_count, "a whole number"),
    "username": (str, "text"),
    "password": (str, "text"),
    "socket_timeout": (_number, "a number of seconds"),
    "socket_connect_timeout": (_number, "a number of seconds"),
    "socket_keepalive": (_truth, "true or false"),
    "health_check_interval": (_count, "a whole number of seconds"),
    "max_connections": (_count, "a whole number"),
    "ssl_cert_reqs": (_requirement, "required or none"),
    "ssl_check_hostname": (_truth, "true or false"),
    "ssl_ca_certs": (str, "a path"),
    "ssl_certfile": (str, "a path"),
    "ssl_keyfile": (str, "a path"),
}


def _read_options(query: list[tuple[str, str]]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, text in query:
        if name not in _OPTIONS:
            raise _wrong(f"has an unknown option {name!r}; it takes {', '.join(sorted(_OPTIONS))}")
        read, takes = _OPTIONS[name]
        try:
            options[name] = read(text)
        except ValueError:
            raise _wrong(f"option {name} takes {takes}") from None
    return options


def _reveal(secret: Secret | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def _wrong(what: str) -> ConfigurationError:
    return ConfigurationError(f"BARQUE_REDIS_URL {what}")
