"""Every setting of Barque but the dashboard's: environment variables under `BARQUE_`, `.env`, or barque.toml.

Owns names, defaults and checks. Where they are read from, and which source wins, is setting_sources.py's; a bad value
is one `ConfigurationError` that names the place, and its wording is setting_errors.py's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

from common.durations import read_seconds
from common.ports import read_ports
from common.queue_weights import as_entries, read_queues
from common.setting_sources import LayeredSettings, read_layered
from common.signing import read_keys
from common.sizes import read_size

if TYPE_CHECKING:
    from common.progress import StreamLimits

__all__ = [
    "DEFAULT_QUEUE",
    "Names",
    "Settings",
    "check_modules",
    "load_settings",
    "mask_url",
    "settings_for_process",
]

DEFAULT_QUEUE = "arq:queue"
"""arq's own default (arq.constants.default_queue_name): a stock arq producer finds the same queue."""

_SECRET_OPTION = re.compile(r"(?is)((?:password|username)=).*")
_NO_PORT = re.compile(r"(?s)^([^/?#\[\]:]*):(?!\d*(?:[/?#]|\Z)).*")

_ATTRIBUTE = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")

_IN_EVERY_LINE = frozenset({
    "event", "job_id", "task", "queue", "attempt", "max_attempts", "worker", "queued_ms", "run_ms", "total_ms",
    "busy_ms", "wait_ms", "longest_block_ms", "level", "timestamp", "error", "retry_in_ms", "reason", "batch",
    "priority", "limited", "traceback", "trace_id", "span_id", "logger", "exc_info", "exception", "stack_info",
})  # fmt: skip


def _split_commas(value: Any) -> Any:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _check_url(value: str) -> str:
    try:
        scheme = urlsplit(value).scheme
    except ValueError:  # whose text quotes what it took for the host, and that may be the password
        scheme = ""
    if scheme not in {"redis", "rediss", "unix", "memory"} or "://" not in value:
        raise ValueError("give a URL such as redis://host:6379/0, rediss://… (TLS) or unix:///path/to.sock")
    return value


def _check_queues(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("name at least one queue")
    return read_queues(names)


def check_modules(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of modules.

    Raises:
        ValueError: one is the name of a file.
    """
    for name in names:
        if name.endswith(".py") or "/" in name:
            module = name.removesuffix(".py").removeprefix("./").strip("/").replace("/", ".")
            raise ValueError(f"{name!r} is a file; give a module name, without .py: {module}")
    return names


def _check_attributes(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _ATTRIBUTE.fullmatch(name):
            raise ValueError(f"{name!r}: give module:name, such as my_app.middleware:timing")
    return names


def _check_log_context(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not name.isidentifier():
            raise ValueError(f"{name!r}: give names of variables, such as request_id,tenant")
        if name in _IN_EVERY_LINE:
            raise ValueError(f"{name!r} is a key of Barque's own lines: bind the variable under another name")
    return names


def _check_signing_keys(value: SecretStr) -> SecretStr:
    read_keys(value.get_secret_value())
    return value


def _as_text(value: Any) -> Any:
    return str(value) if type(value) is int else value


def _check_ports(value: str) -> str:
    read_ports(value)
    return value


def _with_size(value: Any) -> Any:
    return read_size(value) if isinstance(value, str) else value


def _with_auto(value: Any) -> Any:
    return 0 if isinstance(value, str) and value.strip().lower() == "auto" else value


def _with_units(value: Any) -> Any:
    return read_seconds(value) if isinstance(value, str) else value


_YEAR = 365 * 24 * 3600
_MONTH = 30 * 24 * 3600  # as long as common/redis/scores.py can tell of

Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
Duration = Annotated[float, BeforeValidator(_with_units)]
"""Seconds; as text also `500ms`, `90s`, `5m`, `2h`, `1d`."""
Seconds = Annotated[Duration, Field(gt=0, le=_YEAR)]
Size = Annotated[int, BeforeValidator(_with_size)]
"""Bytes; as text also `512M`, `1.5G`."""


class Settings(LayeredSettings):
    """The settings of one process. Each field's variable is `BARQUE_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="BARQUE_")
    other_tables: ClassVar[frozenset[str]] = frozenset({"dashboard"})
    sections: ClassVar[Mapping[str, str]] = {
        "redis_url": "Where the server is",
        "durable": "When an enqueue returns",
        "queues": "What a worker runs",
        "accept_pickle": "What travels",
        "metrics_port": "Who watches",
        "log_level": "What is logged",
        "data_root": "What the tasks that ship may touch",
    }

    # Where the server is
    redis_url: Annotated[str, AfterValidator(_check_url)] = Field(
        "redis://localhost:6379/0",
        description="Server: redis://[user:password@]host:port/db, rediss:// for TLS, unix:///path?db=0",
    )
    redis_username: str | None = Field(None, description="ACL user, if the URL names none")
    redis_password: SecretStr | None = Field(None, description="Password, if the URL holds none")
    redis_sentinels: Names = Field(
        (), description="Sentinels, each as host:port; the URL gives db and TLS", examples=["sentinel-1:26379"]
    )
    redis_sentinel_service: str = Field("mymaster", description="The name Sentinel knows the primary by")
    redis_sentinel_username: str | None = Field(None, description="ACL user at the sentinels")
    redis_sentinel_password: SecretStr | None = Field(None, description="Password at the sentinels")
    redis_tls_ca: Path | None = Field(None, description="PEM file of the authority that signed the server")
    redis_tls_cert: Path | None = Field(None, description="PEM file of this client's certificate")
    redis_tls_key: Path | None = Field(None, description="PEM file of this client's key")
    redis_tls_verify: bool = Field(True, description="Check the server's certificate and host name")
    redis_connect_timeout: Seconds = Field(5.0, description="Seconds to wait for a connection")

    durable: bool = Field(False, description="Enqueues return only when the server's append-only file has the job")
    durable_replicas: int = Field(
        0, ge=0, le=100, description="Enqueues return only when so many replicas have the job"
    )

    # What this worker runs
    queues: Annotated[Names, BeforeValidator(as_entries), AfterValidator(_check_queues)] = Field(
        (DEFAULT_QUEUE,), description="Queues to serve, first one first; or by weight: high=6,default=3,low=1"
    )
    queue_aging: Duration = Field(
        60.0,
        ge=0,
        le=_YEAR,
        description="Seconds after which a job of a queue that is not first has a share all the same; 0 is never",
    )
    tasks: Annotated[Names, AfterValidator(check_modules)] = Field(
        ("workers.tasks",), description="Modules to import; importing registers their tasks"
    )
    middleware: Annotated[Names, AfterValidator(_check_attributes)] = Field(
        (),
        description="What goes around each attempt, outermost first, as module:name",
        examples=["my_app.middleware:timing"],
    )
    concurrency: int = Field(100, ge=1, le=1_000_000, description="Jobs at once in one process")
    threads: int = Field(
        32, ge=1, le=10_000, description="Tasks that are a plain `def`, which run in threads, at once in one process"
    )
    processes: Annotated[int, BeforeValidator(_with_auto)] = Field(
        1, ge=0, le=1000, description="Processes of `barque worker`; auto, or 0, is one a core"
    )
    max_jobs: int = Field(0, ge=0, description="Replace such a process once it has had so many jobs; 0 is never")
    max_memory: Size = Field(0, ge=0, description="Replace it once it holds so much: 512M, 2G; 0 is never")
    cpu_affinity: bool = Field(False, description="Keep each such process to one core")
    job_timeout: Seconds = Field(300.0, description="Seconds one attempt may take, unless its task says")
    max_attempts: int = Field(5, ge=1, description="Attempts a job has, unless its task says")
    keep_result: Duration = Field(3600.0, ge=0, le=_YEAR, description="Seconds to keep a result; 0 keeps none")
    dead_keep: Duration = Field(
        7 * 24 * 3600.0, ge=1, le=_YEAR, description="Seconds to keep a job that failed for good, to look at and replay"
    )
    dead_limit: int = Field(10_000, ge=0, le=10_000_000, description="Most jobs kept so, older ones go; 0 keeps none")
    lease: Duration = Field(10.0, ge=1, le=3600, description="Seconds until a dead worker's jobs are taken over")
    shutdown_grace: Duration = Field(25.0, ge=0, le=_YEAR, description="Seconds running jobs get to finish on SIGTERM")
    block_limit: Duration = Field(
        60.0, ge=1, le=_YEAR, description="Seconds a task may block the event loop until its worker's jobs are let go"
    )
    unknown_task_wait: Duration = Field(
        3600.0, ge=0, le=_MONTH, description="Seconds a job waits for a worker that knows its task; 0 fails it at once"
    )
    burst_waits: bool = Field(True, description="A worker in burst waits for jobs that are due later")
    start_wait: Duration = Field(
        30.0, ge=0, le=_YEAR, description="Seconds a worker waits at its start for a server that is away"
    )
    poll_delay: Seconds = Field(0.5, description="Seconds between looks where no wake-up reaches (arq producers)")

    # What travels
    accept_pickle: bool = Field(False, description="Decode pickled payloads (arq's default). Trust your Redis")
    payload_format: Literal["msgpack", "pickle"] = Field(
        "msgpack", description="What producers write; pickle only for stock arq workers with default settings"
    )
    signing_keys: Annotated[SecretStr, AfterValidator(_check_signing_keys)] | None = Field(
        None,
        description="Keys as id:secret,id:secret: the first signs jobs and results, what no key has signed is refused",
        examples=["2026-11:<openssl rand -hex 32>"],
    )
    accept_unsigned: bool = Field(False, description="Let unsigned jobs and results pass, while a fleet moves to keys")
    max_payload_bytes: int = Field(1024 * 1024, ge=1, description="Largest payload in bytes a producer enqueues")
    max_result_bytes: int = Field(
        16 * 1024 * 1024, ge=1024, description="Largest result in bytes; return where a larger one is"
    )
    stream_max_items: int = Field(100_000, ge=1, description="Most items one attempt may emit")
    stream_max_bytes: int = Field(64 * 1024 * 1024, ge=1, description="Most bytes of items one attempt may emit")
    stream_max_item_bytes: int = Field(1024 * 1024, ge=1, description="Most bytes of one item")

    # Who watches
    metrics_port: Annotated[str, BeforeValidator(_as_text), AfterValidator(_check_ports)] | None = Field(
        None,
        description="Port for /metrics, /livez and /readyz of a worker (needs the `metrics` extra); "
        "a range, of which each takes a free one; or 0",
        examples=["9464"],
    )
    metrics_host: str = Field("127.0.0.1", description="Address they are listened for on; 0.0.0.0 in a container")

    traces: bool = Field(
        False, description="OpenTelemetry spans of enqueues and attempts (needs the `opentelemetry` extra, and an SDK)"
    )
    trace_parent: Literal["child", "link"] = Field(
        "child", description="An attempt's span is a child of its enqueue's, or begins a trace linked to it"
    )
    trace_baggage: bool = Field(False, description="Let OpenTelemetry's baggage travel with a job too")

    sentry: bool = Field(True, description="Report errors where a DSN is given, or the program has set Sentry up")
    sentry_dsn: SecretStr | None = Field(
        None, description="DSN by which workers report errors that end a job (needs the `sentry` extra)"
    )
    sentry_retries: bool = Field(False, description="Report errors of attempts that another one follows, too")
    sentry_arguments: bool = Field(
        False, description="Report the arguments of jobs, and local variables, too: they may be secrets"
    )

    # What is logged
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field("INFO", description="Least level")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json, console, or auto: console on a terminal, else json"
    )
    log_file: Path | None = Field(None, description="Append log lines to this file instead of stderr")
    keep_logs: int = Field(0, ge=0, le=1000, description="Last lines each attempt logs that are kept with its job")
    log_context: Annotated[Names, AfterValidator(_check_log_context)] = Field(
        (),
        description="Variables of structlog's context that travel with a job into all its log lines",
        examples=["request_id"],
    )

    # What the tasks that ship may touch
    data_root: Path = Field(Path("barque-data/files"), description="Folder no file task can leave")
    http_allow_private: bool = Field(False, description="Let HTTP tasks reach private and loopback addresses")
    http_max_bytes: int = Field(64 * 1024 * 1024, ge=1, description="Largest body in bytes fetch_url keeps in memory")
    http_download_max_bytes: int = Field(8 * 1024**3, ge=1, description="Largest file in bytes download_file writes")
    http_timeout: Seconds = Field(60.0, description="Seconds one HTTP request may take")
    webhook_secret: SecretStr | None = Field(None, description="Standard Webhooks signing secret (whsec_…)")
    database_url: SecretStr = Field(
        SecretStr("sqlite+aiosqlite:///barque-data/barque.sqlite3"),
        description="SQLAlchemy URL the database tasks use unless a call names another",
    )
    compute_processes: int = Field(0, ge=0, le=1000, description="Processes for CPU-bound work; 0 means one a core")
    compute_max_jobs: int = Field(0, ge=0, description="Replace such a process after so many jobs; 0 is never")
    compute_max_memory: int = Field(0, ge=0, description="Replace it when it holds more bytes after a job; 0 is never")

    @property
    def dead_caps(self) -> tuple[int, int]:
        """For how long jobs that failed for good are kept, in ms, and how many of them at the most."""
        return round(self.dead_keep * 1000), self.dead_limit

    @property
    def metrics_ports(self) -> range | None:
        """The ports of which a worker's page takes the first free one; None where it has no page."""
        return None if self.metrics_port is None else read_ports(self.metrics_port)

    @property
    def stream_limits(self) -> StreamLimits:
        """How large the stream of one attempt may be."""
        from common.progress import StreamLimits  # noqa: PLC0415 - brings in the codec; not for `barque --help`

        return StreamLimits(self.stream_max_items, self.stream_max_bytes, self.stream_max_item_bytes)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show everything but what opens the server: pydantic hides a SecretStr, and a URL is a str."""
        for name, value in super().__repr_args__():
            yield name, mask_url(value) if name == "redis_url" else value


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment, `.env` and barque.toml; the first of these that has one wins.

    Args:
        **overrides: fields to set whatever these say; None leaves a field alone.

    Raises:
        ConfigurationError: a value is wrong, or a file; the message names the place and what is right there.
    """
    return read_layered(Settings, overrides)


@functools.cache
def settings_for_process() -> Settings:
    """Return the settings of this process, read once: for tasks that ship, which have no other way."""
    return load_settings()


def mask_url(url: str) -> str:
    """Return the URL without what opens it, fit for a log or a screen.

    All before the last @ goes, and all after `password=`: a password with an unescaped / @ or & in it must not show
    either. What stands where the port should, and is no number, may be one whose @ was forgotten.
    """
    scheme, separator, rest = url.partition("://")
    secret, at, place = rest.rpartition("@")
    if _SECRET_OPTION.search(secret):  # the @ was part of it
        return f"{scheme}{separator}***"
    place = _NO_PORT.sub(r"\1:***", place)
    shown = f"***@{place}" if at and secret else place
    return scheme + separator + _SECRET_OPTION.sub(r"\1***", shown)
