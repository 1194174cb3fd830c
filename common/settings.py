"""Every setting of Barque but the dashboard's: environment variables under `BARQUE_`, `.env`, or barque.toml.

Owns names, defaults and checks. They are read by setting_reader.py, and where from, and which source wins, is
setting_sources.py's; a bad value is one `ConfigurationError` that names the place, in setting_errors.py's words.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from common.durations import read_seconds
from common.ports import read_ports
from common.queue_weights import as_entries, read_queues
from common.secret import Secret
from common.setting_fields import After, Before, Bounds, Commas, Means, PlainSettings
from common.signing import read_keys
from common.sizes import read_size

if TYPE_CHECKING:
    from common.progress import StreamLimits

__all__ = [
    "DEFAULT_QUEUE",
    "Settings",
    "check_modules",
    "load_settings",
    "mask_url",
    "settings_for_process",
    "split_commas",
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


def split_commas(value: Any) -> Any:
    """Return what a text with commas lists; anything else as it is."""
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


def _check_signing_keys(value: Secret) -> Secret:
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

Names = Annotated[tuple[str, ...], Commas(), Before(split_commas)]
Duration = Annotated[float, Before(_with_units)]
"""Seconds; as text also `500ms`, `90s`, `5m`, `2h`, `1d`."""
Seconds = Annotated[Duration, Bounds(gt=0, le=_YEAR)]
Size = Annotated[int, Before(_with_size)]
"""Bytes; as text also `512M`, `1.5G`."""


class Settings(PlainSettings):
    """The settings of one process. Each field's variable is `BARQUE_` and its name in capitals."""

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
    redis_url: Annotated[
        str,
        After(_check_url),
        Means("Server: redis://[user:password@]host:port/db, rediss:// for TLS, unix:///path?db=0"),
    ] = "redis://localhost:6379/0"
    redis_username: Annotated[str | None, Means("ACL user, if the URL names none")] = None
    redis_password: Annotated[Secret | None, Means("Password, if the URL holds none")] = None
    redis_sentinels: Annotated[
        Names, Means("Sentinels, each as host:port; the URL gives db and TLS", "sentinel-1:26379")
    ] = ()
    redis_sentinel_service: Annotated[str, Means("The name Sentinel knows the primary by")] = "mymaster"
    redis_sentinel_username: Annotated[str | None, Means("ACL user at the sentinels")] = None
    redis_sentinel_password: Annotated[Secret | None, Means("Password at the sentinels")] = None
    redis_tls_ca: Annotated[Path | None, Means("PEM file of the authority that signed the server")] = None
    redis_tls_cert: Annotated[Path | None, Means("PEM file of this client's certificate")] = None
    redis_tls_key: Annotated[Path | None, Means("PEM file of this client's key")] = None
    redis_tls_verify: Annotated[bool, Means("Check the server's certificate and host name")] = True
    redis_connect_timeout: Annotated[Seconds, Means("Seconds to wait for a connection")] = 5.0

    durable: Annotated[bool, Means("Enqueues return only when the server's append-only file has the job")] = False
    durable_replicas: Annotated[
        int, Bounds(ge=0, le=100), Means("Enqueues return only when so many replicas have the job")
    ] = 0

    # What this worker runs
    queues: Annotated[
        Names,
        Before(as_entries),
        After(_check_queues),
        Means("Queues to serve, first one first; or by weight: high=6,default=3,low=1"),
    ] = (DEFAULT_QUEUE,)
    queue_aging: Annotated[
        Duration,
        Bounds(ge=0, le=_YEAR),
        Means("Seconds after which a job of a queue that is not first has a share all the same; 0 is never"),
    ] = 60.0
    tasks: Annotated[Names, After(check_modules), Means("Modules to import; importing registers their tasks")] = (
        "workers.tasks",
    )
    middleware: Annotated[
        Names,
        After(_check_attributes),
        Means("What goes around each attempt, outermost first, as module:name", "my_app.middleware:timing"),
    ] = ()
    concurrency: Annotated[int, Bounds(ge=1, le=1_000_000), Means("Jobs at once in one process")] = 100
    threads: Annotated[
        int,
        Bounds(ge=1, le=10_000),
        Means("Tasks that are a plain `def`, which run in threads, at once in one process"),
    ] = 32
    processes: Annotated[
        int, Before(_with_auto), Bounds(ge=0, le=1000), Means("Processes of `barque worker`; auto, or 0, is one a core")
    ] = 1
    max_jobs: Annotated[int, Bounds(ge=0), Means("Replace such a process once it has had so many jobs; 0 is never")] = 0
    max_memory: Annotated[Size, Bounds(ge=0), Means("Replace it once it holds so much: 512M, 2G; 0 is never")] = 0
    cpu_affinity: Annotated[bool, Means("Keep each such process to one core")] = False
    job_timeout: Annotated[Seconds, Means("Seconds one attempt may take, unless its task says")] = 300.0
    max_attempts: Annotated[int, Bounds(ge=1), Means("Attempts a job has, unless its task says")] = 5
    keep_result: Annotated[Duration, Bounds(ge=0, le=_YEAR), Means("Seconds to keep a result; 0 keeps none")] = 3600.0
    dead_keep: Annotated[
        Duration, Bounds(ge=1, le=_YEAR), Means("Seconds to keep a job that failed for good, to look at and replay")
    ] = 7 * 24 * 3600.0
    dead_limit: Annotated[int, Bounds(ge=0, le=10_000_000), Means("Most jobs kept so, older ones go; 0 keeps none")] = (
        10_000
    )
    lease: Annotated[Duration, Bounds(ge=1, le=3600), Means("Seconds until a dead worker's jobs are taken over")] = 10.0
    shutdown_grace: Annotated[
        Duration, Bounds(ge=0, le=_YEAR), Means("Seconds running jobs get to finish on SIGTERM")
    ] = 25.0
    block_limit: Annotated[
        Duration,
        Bounds(ge=1, le=_YEAR),
        Means("Seconds a task may block the event loop until its worker's jobs are let go"),
    ] = 60.0
    unknown_task_wait: Annotated[
        Duration,
        Bounds(ge=0, le=_MONTH),
        Means("Seconds a job waits for a worker that knows its task; 0 fails it at once"),
    ] = 3600.0
    burst_waits: Annotated[bool, Means("A worker in burst waits for jobs that are due later")] = True
    start_wait: Annotated[
        Duration, Bounds(ge=0, le=_YEAR), Means("Seconds a worker waits at its start for a server that is away")
    ] = 30.0
    poll_delay: Annotated[Seconds, Means("Seconds between looks where no wake-up reaches (arq producers)")] = 0.5

    # What travels
    accept_pickle: Annotated[bool, Means("Decode pickled payloads (arq's default). Trust your Redis")] = False
    payload_format: Annotated[
        Literal["msgpack", "pickle"],
        Means("What producers write; pickle only for stock arq workers with default settings"),
    ] = "msgpack"
    signing_keys: Annotated[
        Annotated[Secret, After(_check_signing_keys)] | None,
        Means(
            "Keys as id:secret,id:secret: the first signs jobs and results, what no key has signed is refused",
            "2026-11:<openssl rand -hex 32>",
        ),
    ] = None
    accept_unsigned: Annotated[bool, Means("Let unsigned jobs and results pass, while a fleet moves to keys")] = False
    max_payload_bytes: Annotated[int, Bounds(ge=1), Means("Largest payload in bytes a producer enqueues")] = 1024 * 1024
    max_result_bytes: Annotated[
        int, Bounds(ge=1024), Means("Largest result in bytes; return where a larger one is")
    ] = 16 * 1024 * 1024
    stream_max_items: Annotated[int, Bounds(ge=1), Means("Most items one attempt may emit")] = 100_000
    stream_max_bytes: Annotated[int, Bounds(ge=1), Means("Most bytes of items one attempt may emit")] = 64 * 1024 * 1024
    stream_max_item_bytes: Annotated[int, Bounds(ge=1), Means("Most bytes of one item")] = 1024 * 1024

    # Who watches
    metrics_port: Annotated[
        Annotated[str, Before(_as_text), After(_check_ports)] | None,
        Means(
            "Port for /metrics, /livez and /readyz of a worker (needs the `metrics` extra); "
            "a range, of which each takes a free one; or 0",
            "9464",
        ),
    ] = None
    metrics_host: Annotated[str, Means("Address they are listened for on; 0.0.0.0 in a container")] = "127.0.0.1"

    traces: Annotated[
        bool, Means("OpenTelemetry spans of enqueues and attempts (needs the `opentelemetry` extra, and an SDK)")
    ] = False
    trace_parent: Annotated[
        Literal["child", "link"], Means("An attempt's span is a child of its enqueue's, or begins a trace linked to it")
    ] = "child"
    trace_baggage: Annotated[bool, Means("Let OpenTelemetry's baggage travel with a job too")] = False

    sentry: Annotated[bool, Means("Report errors where a DSN is given, or the program has set Sentry up")] = True
    sentry_dsn: Annotated[
        Secret | None, Means("DSN by which workers report errors that end a job (needs the `sentry` extra)")
    ] = None
    sentry_retries: Annotated[bool, Means("Report errors of attempts that another one follows, too")] = False
    sentry_arguments: Annotated[
        bool, Means("Report the arguments of jobs, and local variables, too: they may be secrets")
    ] = False

    # What is logged
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], Means("Least level")] = "INFO"
    log_format: Annotated[
        Literal["auto", "json", "console"], Means("json, console, or auto: console on a terminal, else json")
    ] = "auto"
    log_file: Annotated[Path | None, Means("Append log lines to this file instead of stderr")] = None
    keep_logs: Annotated[
        int, Bounds(ge=0, le=1000), Means("Last lines each attempt logs that are kept with its job")
    ] = 0
    log_context: Annotated[
        Names,
        After(_check_log_context),
        Means("Variables of structlog's context that travel with a job into all its log lines", "request_id"),
    ] = ()

    # What the tasks that ship may touch
    data_root: Annotated[Path, Means("Folder no file task can leave")] = Path("barque-data/files")
    http_allow_private: Annotated[bool, Means("Let HTTP tasks reach private and loopback addresses")] = False
    http_max_bytes: Annotated[int, Bounds(ge=1), Means("Largest body in bytes fetch_url keeps in memory")] = (
        64 * 1024 * 1024
    )
    http_download_max_bytes: Annotated[int, Bounds(ge=1), Means("Largest file in bytes download_file writes")] = (
        8 * 1024**3
    )
    http_timeout: Annotated[Seconds, Means("Seconds one HTTP request may take")] = 60.0
    webhook_secret: Annotated[Secret | None, Means("Standard Webhooks signing secret (whsec_…)")] = None
    database_url: Annotated[Secret, Means("SQLAlchemy URL the database tasks use unless a call names another")] = (
        Secret("sqlite+aiosqlite:///barque-data/barque.sqlite3")
    )
    compute_processes: Annotated[
        int, Bounds(ge=0, le=1000), Means("Processes for CPU-bound work; 0 means one a core")
    ] = 0
    compute_max_jobs: Annotated[int, Bounds(ge=0), Means("Replace such a process after so many jobs; 0 is never")] = 0
    compute_max_memory: Annotated[
        int, Bounds(ge=0), Means("Replace it when it holds more bytes after a job; 0 is never")
    ] = 0

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

    def _shown(self, name: str) -> Any:
        value = getattr(self, name)
        return mask_url(value) if name == "redis_url" else value


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment, `.env` and barque.toml; the first of these that has one wins.

    Args:
        **overrides: fields to set whatever these say; None leaves a field alone.

    Raises:
        ConfigurationError: a value is wrong, or a file; the message names the place and what is right there.
    """
    return Settings(**{name: value for name, value in overrides.items() if value is not None})


@functools.cache
def settings_for_process() -> Settings:
    """Return the settings of this process, read once: for workers, and for tasks that ship, which have no other way.

    Where nothing is in the way they are read in a child, so that this process never holds what reads them.

    Raises:
        ConfigurationError: see `load_settings`.
    """
    from common.setting_handover import read_apart  # noqa: PLC0415 - for who is a process

    return read_apart(Settings)


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
