"""Every setting of Barque: environment variables under `BARQUE_`, or a `.env` file beside the process.

Owns names, defaults and checks; reads nothing but the environment. A bad value is one
`ConfigurationError` that names the variable.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from common.errors import ConfigurationError

__all__ = ["DEFAULT_QUEUE", "Settings", "load_settings", "mask_url", "settings_for_process"]

DEFAULT_QUEUE = "arq:queue"
"""arq's own default (arq.constants.default_queue_name): a stock arq producer finds the same queue."""


def _split_commas(value: Any) -> Any:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _check_url(value: str) -> str:
    scheme = urlsplit(value).scheme
    if scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("give a URL such as redis://host:6379/0, rediss://… (TLS) or unix:///path/to.sock")
    return value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
Seconds = Annotated[float, Field(gt=0, le=365 * 24 * 3600)]


class Settings(BaseSettings):
    """The settings of one process. Each field's variable is `BARQUE_` and its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="BARQUE_",
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    # Where the server is
    redis_url: Annotated[str, AfterValidator(_check_url)] = Field(
        "redis://localhost:6379/0",
        description="Server: redis://[user:password@]host:port/db, rediss:// for TLS, unix:///path?db=0",
    )
    redis_username: str | None = Field(None, description="ACL user, if the URL names none")
    redis_password: SecretStr | None = Field(None, description="Password, if the URL holds none")
    redis_sentinels: Names = Field((), description="Sentinels as host:port,host:port; the URL gives db and TLS")
    redis_sentinel_service: str = Field("mymaster", description="The name Sentinel knows the primary by")
    redis_sentinel_username: str | None = Field(None, description="ACL user at the sentinels")
    redis_sentinel_password: SecretStr | None = Field(None, description="Password at the sentinels")
    redis_tls_ca: Path | None = Field(None, description="PEM file of the authority that signed the server")
    redis_tls_cert: Path | None = Field(None, description="PEM file of this client's certificate")
    redis_tls_key: Path | None = Field(None, description="PEM file of this client's key")
    redis_tls_verify: bool = Field(True, description="Check the server's certificate and host name")
    redis_connect_timeout: Seconds = Field(5.0, description="Seconds to wait for a connection")

    # What this worker runs
    queues: Names = Field((DEFAULT_QUEUE,), min_length=1, description="Queues to serve, first one first")
    tasks: Names = Field(("workers.tasks",), description="Modules to import; importing registers their tasks")
    concurrency: int = Field(100, ge=1, le=1_000_000, description="Jobs at once in one process")
    job_timeout: Seconds = Field(300.0, description="Seconds one attempt may take, unless its task says")
    max_attempts: int = Field(5, ge=1, description="Attempts a job has, unless its task says")
    keep_result: float = Field(3600.0, ge=0, le=365 * 24 * 3600, description="Seconds to keep a result; 0 keeps none")
    lease: Annotated[float, Field(ge=1, le=3600)] = Field(
        10.0, description="Seconds until a dead worker's jobs are taken over"
    )
    shutdown_grace: float = Field(
        25.0, ge=0, le=365 * 24 * 3600, description="Seconds running jobs get to finish on SIGTERM"
    )
    poll_delay: Seconds = Field(0.5, description="Seconds between looks where no wake-up reaches (arq producers)")

    # What travels
    accept_pickle: bool = Field(False, description="Decode pickled payloads (arq's default). Trust your Redis")
    payload_format: Literal["msgpack", "pickle"] = Field(
        "msgpack", description="What producers write; pickle only for stock arq workers with default settings"
    )
    max_payload_bytes: int = Field(1024 * 1024, ge=1, description="Largest payload a producer enqueues")

    # What is logged
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field("INFO", description="Least level")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json, console, or auto: console on a terminal, else json"
    )
    log_file: Path | None = Field(None, description="Append log lines to this file instead of stderr")

    # What the tasks that ship may touch
    data_root: Path = Field(Path("barque-data/files"), description="Folder no file task can leave")
    http_allow_private: bool = Field(False, description="Let HTTP tasks reach private and loopback addresses")
    http_max_bytes: int = Field(64 * 1024 * 1024, ge=1, description="Largest body fetch_url keeps in memory")
    http_download_max_bytes: int = Field(8 * 1024**3, ge=1, description="Largest file download_file writes")
    http_timeout: Seconds = Field(60.0, description="Seconds one HTTP request may take")
    webhook_secret: SecretStr | None = Field(None, description="Standard Webhooks signing secret (whsec_…)")
    database_url: SecretStr = Field(
        SecretStr("sqlite+aiosqlite:///barque-data/barque.sqlite3"),
        description="SQLAlchemy URL the database tasks use unless a call names another",
    )
    compute_processes: int = Field(0, ge=0, description="Processes for CPU-bound work; 0 means one a core")

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show everything but what opens the server: pydantic hides a SecretStr, and a URL is a str."""
        for name, value in super().__repr_args__():
            yield name, mask_url(value) if name == "redis_url" else value


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment.

    Args:
        **overrides: fields to set whatever the environment says; None leaves a field alone.

    Raises:
        ConfigurationError: a value is wrong; the message names the variable and what it takes.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    unknown = given.keys() - Settings.model_fields.keys()
    if unknown:
        raise ConfigurationError(f"no such setting: {', '.join(sorted(unknown))}")
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = [
            f"BARQUE_{str(problem['loc'][0]).upper() if problem['loc'] else '?'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise ConfigurationError("; ".join(lines)) from None


@functools.cache
def settings_for_process() -> Settings:
    """Return the settings of this process, read once: for tasks that ship, which have no other way."""
    return load_settings()


def mask_url(url: str) -> str:
    """Return the URL without what opens it, fit for a log or a screen.

    All before the last @ goes: a password with an unescaped / or @ in it must not show either.
    """
    scheme, separator, rest = url.partition("://")
    secret, at, place = rest.rpartition("@")
    shown = f"***@{place}" if at and secret else place
    return scheme + separator + re.sub(r"(?i)((?:password|username)=)[^&]*", r"\1***", shown)
