"""The settings of the dashboard: variables under `BARQUE_DASHBOARD_`, `.env`, or `[dashboard]` of barque.toml.

Owns names, defaults and the checks of single values. Whether they are safe together, an address with a credential say,
is security/access.py's. They stand apart from common/settings.py so that a worker holds no password of a page.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

from common.setting_sources import LayeredSettings, read_layered
from common.settings import check_modules, split_commas

__all__ = ["DEFAULT_MASK", "PREFIX", "DashboardSettings", "load_dashboard_settings"]

PREFIX = "BARQUE_DASHBOARD_"

DEFAULT_MASK = (
    r"passw|passphrase|\bpass\b|pwd|secret|token|authorization|api[-_]?key|private[-_]?key|access[-_]?key|credential|"
    r"cookie|session[-_]?id|signature|\botp\b|\bcvv\b|\biban\b|card[-_]?number|\bssn\b"
)

_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)]


def _check_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return pattern


def _check_header(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise ValueError("give the name of a header, such as X-Forwarded-User")
    return name


def _check_root_path(path: str) -> str:
    path = path.rstrip("/")
    if path and not _ROOT_PATH.fullmatch(path):
        raise ValueError("give a path such as /barque, of letters, digits and . _ ~ -")
    return path


def _check_networks(given: tuple[str, ...]) -> tuple[str, ...]:
    for each in given:
        try:
            ipaddress.ip_network(each, strict=False)
        except ValueError:
            raise ValueError(f"{each!r}: give addresses or networks, such as 10.0.0.7,172.16.0.0/12") from None
    return given


class DashboardSettings(LayeredSettings):
    """What one dashboard is given. Each field's variable is `BARQUE_DASHBOARD_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX)
    table: ClassVar[str | None] = "dashboard"
    what: ClassVar[str] = "setting of the dashboard"
    sections: ClassVar[Mapping[str, str]] = {
        "host": "The dashboard: where it listens",
        "user": "The dashboard: who may see it",
        "read_only": "The dashboard: what they see and may do",
    }

    # Where it listens
    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on; any but loopback needs a credential"
    )
    port: int = Field(9180, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    root_path: Annotated[str, AfterValidator(_check_root_path)] = Field(
        "", description="Path a reverse proxy serves it under, such as /barque"
    )
    allowed_hosts: Names = Field(
        (), description="Names it may be asked for by (Host); on loopback those of this machine, else any"
    )

    # Who may see it
    user: str = Field("barque", min_length=1, description="User that signs in with the password")
    password: SecretStr | None = Field(
        None, description="Password to sign in with, 8 characters or more", examples=["<8 characters or more>"]
    )
    password_file: Path | None = Field(None, description="File that holds the password")
    token: SecretStr | None = Field(
        None, description="Bearer token of programs, 16 characters or more", examples=["<openssl rand -hex 32>"]
    )
    token_file: Path | None = Field(None, description="File that holds the token")
    proxy_header: Annotated[str, AfterValidator(_check_header)] | None = Field(
        None, description="Header by which a reverse proxy says who signed in, such as X-Forwarded-User"
    )
    trusted_proxies: Annotated[Names, AfterValidator(_check_networks)] = Field(
        (), description="Addresses or networks of that proxy; nobody else's header counts"
    )
    sign_in_attempts: int = Field(10, ge=1, le=10_000, description="Wrong credentials an address may send a minute")

    # What they see and may do
    read_only: bool = Field(False, description="Refuse whatever changes something")
    arguments: Literal["masked", "all", "none"] = Field(
        "masked", description="Arguments, results and errors of jobs: masked by key, all as they are, or none shown"
    )
    mask: Annotated[str, AfterValidator(_check_pattern)] = Field(
        DEFAULT_MASK, description="What keys are masked, as a regular expression found anywhere in them, in any case"
    )
    tasks: Annotated[Names, AfterValidator(check_modules)] = Field(
        (), description="Modules to import, so that positional arguments are masked by their names, too"
    )
    longest_value: int = Field(4096, ge=16, le=16 * 1024 * 1024, description="Characters of one text that are shown")
    max_body_bytes: int = Field(4 * 1024 * 1024, ge=1024, description="Largest request in bytes it reads")


def load_dashboard_settings(**overrides: Any) -> DashboardSettings:
    """Read the settings from the environment, `.env` and barque.toml; the first of these that has one wins.

    Args:
        **overrides: fields to set whatever these say; None leaves a field alone.

    Raises:
        ConfigurationError: a value is wrong, or a file; the message names the place and what is right there.
    """
    return read_layered(DashboardSettings, {name: value for name, value in overrides.items() if value is not None})
