"""Structured logs: one pipe for Barque, for tasks, for arq and for every library that uses `logging`.

Owns the structlog set-up and the log lines' form; what is logged about an attempt is workers/attempt_log.py's.
JSON by default, one object a line; readable text on a terminal. Nothing is set up by importing this: a program
calls `configure_logs` once, and a library that only enqueues leaves the host program's logging alone.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from common.settings import Settings

__all__ = ["configure_logs", "configure_logs_of_host", "to_json"]


def to_json(line: Mapping[str, Any]) -> bytes:
    """Return one log line as JSON. Never raises: what JSON cannot hold is written as its `repr`."""
    try:
        return msgspec.json.encode(line, enc_hook=repr)
    except Exception:  # a lone surrogate in an id from elsewhere, a repr that raises
        return json.dumps(_safe(line)).encode()


def _safe(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def _render_json(_logger: WrappedLogger, _method: str, line: EventDict) -> bytes:
    return to_json(line)


def _as_text(renderer: Processor) -> Processor:
    def render(logger: WrappedLogger, method: str, line: EventDict) -> str:
        text = renderer(logger, method, line)
        return text.decode() if isinstance(text, bytes) else str(text)

    return render


def configure_logs(settings: Settings, stream: BinaryIO | None = None) -> None:
    """Send all logs of this process through one pipe.

    Args:
        settings: level, format and file.
        stream: where to write, instead of `settings.log_file` or standard error.
    """
    if stream is None:
        if settings.log_file is not None:
            settings.log_file.parent.mkdir(parents=True, exist_ok=True)
            stream = settings.log_file.open("ab")
        else:
            stream = sys.stderr.buffer
    terminal = stream.isatty()
    console = settings.log_format == "console" or (settings.log_format == "auto" and terminal)
    level = logging.getLevelNamesMapping()[settings.log_level]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Processor] = (
        [_as_text(structlog.dev.ConsoleRenderer(colors=terminal)), _to_bytes]
        if console
        else [structlog.processors.format_exc_info, _render_json]
    )
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(stream),
    )
    _route_library_logs(stream, level, shared, renderer)


def configure_logs_of_host() -> None:
    """Hand Barque's log lines to the host program's own `logging`, unless it has set up structlog itself.

    For a worker that another program runs (a test, an application with its own main): its handlers and levels
    decide, under the logger names `barque.…`.
    """
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _to_bytes(_logger: WrappedLogger, _method: str, text: Any) -> bytes:
    return str(text).encode(errors="backslashreplace")


def _route_library_logs(stream: BinaryIO, level: int, shared: list[Processor], renderer: list[Processor]) -> None:
    """Send `logging` records through the same processors; libraries speak from WARNING up, arq from INFO."""
    handler = _BytesHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *map(_as_text, renderer)],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, _BytesHandler) or getattr(old, "name", None) == "arq.standard":
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))
    arq = logging.getLogger("arq")
    # arq's command line gives its logger a handler of its own (arq.logs); one pipe is enough.
    for old in arq.handlers[:]:
        if old.name == "arq.standard":
            arq.removeHandler(old)
    arq.setLevel(level)


class _BytesHandler(logging.Handler):
    """Write formatted records to a binary stream, shared with structlog's own logger."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            self._stream.write(self.format(record).encode(errors="backslashreplace") + b"\n")
            self._stream.flush()
        except Exception:
            self.handleError(record)
