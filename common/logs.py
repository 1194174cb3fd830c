"""Structured logs: one pipe for Barque, for tasks, for arq and for every library that uses `logging`.

Owns the structlog set-up and the log lines' form; what is logged about an attempt is workers/attempt_log.py's.
JSON by default, one object a line; readable text on a terminal. Nothing is set up by importing this: a program
calls `configure_logs` once, and a library that only enqueues leaves the host program's logging alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from common.settings import Settings

__all__ = ["JsonPipe", "configure_logs", "configure_logs_of_host", "json_pipe", "rendering_begins", "to_json"]


_DEEPEST = 20
_MOST_BITS = 4096  # Python refuses to write much longer integers in decimal


# What text from elsewhere must not do to whoever reads it: move a cursor, turn the direction, begin a line of its own.
# C0, DEL, C1, line separators, bidirectional overrides, halves of surrogate pairs.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_HARMFUL_BYTES = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


def to_json(line: Mapping[str, Any]) -> bytes:
    """Return one log line as JSON, all that a terminal obeys escaped.

    Never raises: what JSON cannot hold is written as its `repr`.
    """
    try:
        return _escaped(msgspec.json.encode(line, enc_hook=repr))
    except Exception:  # a lone surrogate in an id from elsewhere, a repr that raises
        return _escaped(json.dumps(_safe(line)).encode())


def _escaped(encoded: bytes) -> bytes:
    """Return JSON in which also those control characters are escaped that JSON itself lets stand."""
    if encoded.isascii() and b"\x7f" not in encoded:  # nearly every line
        return encoded
    return _HARMFUL_BYTES.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), encoded)


def _visible(text: str) -> str:
    return _HARMFUL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _Shown:
    """A value for the console, in the words it is to be shown in."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _make_visible(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Show what control characters a line holds, keys and values; colours and line breaks are the renderer's alone."""
    shown: EventDict = {}
    for name, value in line.items():
        if name == "event":
            shown[name] = _visible(_text(value))
        elif isinstance(value, str):
            seen = _visible(value)
            # What the renderer put in quotes by itself would have its backslashes doubled.
            shown[_visible(str(name))] = value if seen == value else _Shown(f"'{seen}'")
        elif value is None or isinstance(value, bool | int | float) or name == "exc_info":
            shown[_visible(str(name))] = value
        else:
            shown[_visible(str(name))] = _Shown(_visible(_text(value)))
    return shown


def _format_traceback(stream: Any, exc_info: Any) -> None:
    """Write a traceback below its line, set in, so that no line of an exception's text can pass for a log line."""
    written = io.StringIO()
    structlog.dev.plain_traceback(written, exc_info)
    for line in written.getvalue().strip("\n").split("\n"):
        stream.write(f"\n    {_visible(line)}")


def _safe(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        return f"<{type(value).__name__}, nested too deep>"
    if isinstance(value, Mapping):
        return {_text(key): _safe(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(item, depth + 1) for item in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # as msgspec writes it; JSON has no NaN
    if isinstance(value, int) and value.bit_length() < _MOST_BITS:
        return value
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
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
    stream = cast("BinaryIO", _Unfailing(stream))
    console = settings.log_format == "console" or (settings.log_format == "auto" and terminal)
    level = logging.getLevelNamesMapping()[settings.log_level]
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console)
    shared: list[Processor] = [structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level, stamp]
    text = structlog.dev.ConsoleRenderer(
        colors=terminal and not os.environ.get("NO_COLOR"),
        # Not the default one: with rich installed it shows local variables, and so arguments.
        exception_formatter=_format_traceback,
        sort_keys=False,
        pad_event_to=0,
        pad_level=False,
    )
    renderer: list[Processor] = (
        [_make_visible, _as_text(text), _to_bytes] if console else [structlog.processors.format_exc_info, _render_json]
    )
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(stream),
    )
    _route_library_logs(stream, level, shared, renderer)
    global _pipe, _ours  # noqa: PLW0603 - one process has one pipe, as structlog has one configuration
    _ours = (structlog.get_config()["processors"], len(shared))
    _pipe = None if console else JsonPipe(stream, level, structlog.get_config()["processors"])


class _Unfailing:
    """A stream whose failures cost the lines in question and nothing else.

    A full disk, or a reader that is gone, must fail neither a job that logs nor the worker.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        with contextlib.suppress(OSError, ValueError):  # ValueError: it was closed
            return self._stream.write(data)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def close(self) -> None:
        self._stream.close()


class JsonPipe:
    """Where this process's JSON lines go, for what is written many lines at once.

    A worker writes a line an attempt, tens of thousands a second. Through structlog's chain each costs more than
    running the attempt does; a batch of them, encoded in C and written in one go, costs a tenth of that.
    """

    def __init__(self, stream: BinaryIO, level: int, processors: Any) -> None:
        self._stream = stream
        self._encoder = msgspec.json.Encoder(enc_hook=repr)
        self.processors = processors
        self.level = level

    def write(self, lines: Sequence[msgspec.Struct]) -> None:
        """Write one JSON object a line."""
        try:
            encoded = _escaped(self._encoder.encode_lines(lines))
        except Exception:  # a lone surrogate in an id from elsewhere
            encoded = b"".join(to_json(msgspec.structs.asdict(line)) + b"\n" for line in lines)
        self._stream.write(encoded)
        self._stream.flush()


_pipe: JsonPipe | None = None
_ours: tuple[Any, int] | None = None


def rendering_begins(processors: Sequence[Any]) -> int:
    """Return at which of these processors lines begin to be made what is written; those before it see their parts."""
    if _ours is not None and processors is _ours[0]:
        return _ours[1]
    return max(0, len(processors) - 1)  # a program's own: the last one writes, whatever those before it are


def json_pipe() -> JsonPipe | None:
    """Return the pipe `configure_logs` set up, if lines are JSON and nobody has changed structlog's set-up since."""
    if _pipe is not None and structlog.get_config()["processors"] is _pipe.processors:
        return _pipe
    return None


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
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *renderer[:-1],
                _as_text(renderer[-1]),  # `logging` formats to text
            ],
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
