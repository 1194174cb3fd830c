"""Who may see the dashboard, and how they show who they are.

Owns the credentials and what has to be there before it listens on an address that others reach. How often one may be
wrong is attempts.py's, what a browser may be made to do csrf.py's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path

from pydantic import SecretStr
from starlette.requests import HTTPConnection

from common.errors import ConfigurationError
from dashboard.security.peers import Peer, is_loopback
from dashboard.settings import PREFIX, DashboardSettings
from dashboard.visitor import Visitor

__all__ = ["SHORTEST_PASSWORD", "SHORTEST_TOKEN", "Access", "check_exposure"]

SHORTEST_PASSWORD = 8
SHORTEST_TOKEN = 16

_LONGEST_SECRET_FILE = 64 * 1024


class Access:
    """Knows the credentials.

    Args:
        settings: hold them, or name the files that do.

    Attributes:
        is_open: whether there is no credential, so that everybody on this machine may see and do everything.
        challenges: what is asked for in `WWW-Authenticate`.

    Raises:
        ConfigurationError: a credential is too short, given twice, or its file cannot be read.
    """

    def __init__(self, settings: DashboardSettings) -> None:
        password = _secret("password", settings.password, settings.password_file, SHORTEST_PASSWORD)
        token = _secret("token", settings.token, settings.token_file, SHORTEST_TOKEN)
        if settings.proxy_header is not None and not settings.trusted_proxies:
            raise ConfigurationError(
                f"{PREFIX}PROXY_HEADER is believed of a proxy only: say which with {PREFIX}TRUSTED_PROXIES, "
                "its address or network"
            )
        if ":" in settings.user:
            raise ConfigurationError(f"{PREFIX}USER has a colon in it, which no browser can send as part of a name")
        self._user = _digest(settings.user)
        self._name = settings.user
        self._password = None if password is None else _digest(password)
        self._token = None if token is None else _digest(token)
        self._header = settings.proxy_header
        self.is_open = password is None and token is None and settings.proxy_header is None
        self.challenges = [
            challenge
            for challenge, asked in (
                ('Basic realm="Barque", charset="UTF-8"', password is not None),
                ('Bearer realm="Barque"', token is not None),
            )
            if asked
        ]

    def visitor(self, request: HTTPConnection, peer: Peer) -> Visitor | None:
        """Return who asks; None where they show no credential, or a wrong one."""
        if self.is_open:
            return Visitor()
        if self._header is not None and peer.through_proxy:
            named = request.headers.getlist(self._header)
            if len(named) == 1 and named[0].strip():
                return Visitor(_readable(named[0].strip()), "proxy")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic" and self._password is not None:
            return self._by_password(given.strip())
        if scheme.lower() == "bearer" and self._token is not None:
            return Visitor("token", "token") if hmac.compare_digest(_digest(given.strip()), self._token) else None
        return None

    def shows_credential(self, request: HTTPConnection) -> bool:
        """Whether a request has a credential with it, right or wrong."""
        return "authorization" in request.headers

    def _by_password(self, given: str) -> Visitor | None:
        assert self._password is not None
        try:
            user, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        # Both, whatever the first says: how long it takes tells nothing.
        right_user = hmac.compare_digest(_digest(user), self._user)
        right_password = hmac.compare_digest(_digest(password), self._password)
        return Visitor(self._name, "password") if right_user and right_password else None


def check_exposure(settings: DashboardSettings, access: Access) -> None:
    """Return if the dashboard may listen where the settings say.

    Raises:
        ConfigurationError: others reach that address, and nobody would have to show who they are.
    """
    if access.is_open and not is_loopback(settings.host):
        raise ConfigurationError(
            f"the dashboard listens on {settings.host} only with a credential, since others reach it there: set "
            f"{PREFIX}PASSWORD (or …_PASSWORD_FILE) for people, {PREFIX}TOKEN (or …_TOKEN_FILE) for programs, or "
            f"{PREFIX}PROXY_HEADER with {PREFIX}TRUSTED_PROXIES where a proxy signs people in; "
            f"or leave {PREFIX}HOST at 127.0.0.1"
        )


def _secret(name: str, given: SecretStr | None, file: Path | None, shortest: int) -> str | None:
    variable = f"{PREFIX}{name.upper()}"
    if given is not None and file is not None:
        raise ConfigurationError(f"{variable} and {variable}_FILE are both set: keep one of them")
    if given is not None:
        secret = given.get_secret_value()
    elif file is not None:
        secret, variable = _read(file, f"{variable}_FILE"), f"{variable}_FILE"
    else:
        return None
    if not secret:
        raise ConfigurationError(f"{variable} is empty: unset it, or give {shortest} characters or more")
    if len(secret) < shortest:
        raise ConfigurationError(
            f"{variable} has {len(secret)} characters: give {shortest} or more (openssl rand -hex 32)"
        )
    return secret


def _read(file: Path, variable: str) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(_LONGEST_SECRET_FILE).strip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"{variable}: {file} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{variable}: {file} is not UTF-8") from None


def _digest(text: str) -> bytes:
    """Return what is compared instead of a secret: of one length, so that not even that shows in the time it takes."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def _readable(header: str) -> str:
    """Return a header's value as text: what a proxy sends is UTF-8 more often than the Latin-1 of the standard."""
    try:
        text = header.encode("latin-1").decode()
    except (UnicodeEncodeError, UnicodeDecodeError):
        text = header
    return "".join(character for character in text if character.isprintable())[:200]
