"""The last lines that an attempt logged, kept with its job: of tasks that ask, `@task(keep_logs=50)`.

Owns what is kept of a line, and how lines come here: by a context variable, which the attempt's own coroutines, the
threads it starts with `asyncio.to_thread` and those of plain `def` tasks share. What is written to the log is kept, in
the words it has there: what a level or a processor leaves out of the log is in neither. Where the lines go when the
attempt ends is workers/history.py's. A process that keeps none has none of this in the way of its log.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import structlog
from structlog.typing import WrappedLogger

from common import logs

__all__ = ["KeptLines", "begin_to_keep"]

_LONGEST_LINE = 1000
"""Characters of one line that are kept."""

_MOST_BYTES = 64 * 1024
"""Of all lines of one attempt together; the oldest go first."""

_SAID_ELSEWHERE = frozenset(
    {"event", "job_id", "task", "attempt", "worker", "level", "timestamp", "exc_info", "exception", "stack_info"}
)
"""What a line says that its attempt says too, or that is told apart."""

_kept: ContextVar[KeptLines | None] = ContextVar("barque_kept_lines", default=None)


class KeptLines:
    """The last lines of one attempt, from any thread.

    Args:
        most: lines; older ones go.
    """

    def __init__(self, most: int) -> None:
        self._lines: collections.deque[tuple[int, str, str]] = collections.deque(maxlen=most)

    def add(self, level: str, text: str) -> None:
        """Keep a line, cut to its first characters."""
        if len(text) > _LONGEST_LINE:
            text = f"{text[: _LONGEST_LINE - 1]}…"
        self._lines.append((time.time_ns() // 1_000_000, level[:16], text))

    def newest(self) -> list[tuple[int, str, str]]:
        """Return the newest lines that there is room for, the oldest first: Unix ms, level, text."""
        found: list[tuple[int, str, str]] = []
        for _ in range(3):
            with contextlib.suppress(RuntimeError):  # a thread that the attempt left behind logs on
                found = list(self._lines)
                break
        room = _MOST_BYTES
        for index in range(len(found) - 1, -1, -1):
            room -= len(found[index][2].encode(errors="backslashreplace")) + 32
            if room < 0:
                return found[index + 1 :]
        return found


def begin_to_keep(most: int) -> KeptLines:
    """Keep what is logged from here on, in this context and those copied from it."""
    _listen()
    kept = KeptLines(most)
    _kept.set(kept)
    return kept


def _listen() -> None:
    """Have lines come here, unless they do: the program may set its logs up at any time."""
    root = logging.getLogger()
    if _handler not in root.handlers:
        root.addHandler(_handler)
    configuration = structlog.get_config()
    if isinstance(configuration["logger_factory"], structlog.stdlib.LoggerFactory):
        return  # its lines come by way of `logging`
    processors = configuration["processors"]
    if _keep_line not in processors:
        # In place: loggers that are bound already have this very list. What masks a line stands before what writes it.
        at = logs.rendering_begins(processors)
        if isinstance(processors, list):
            processors.insert(at, _keep_line)
        else:
            structlog.configure(processors=[*processors[:at], _keep_line, *processors[at:]])


def _keep_line(_logger: WrappedLogger, method: str, line: Any) -> Any:
    kept = _kept.get()
    if kept is not None:
        with contextlib.suppress(Exception):  # a value of a user's own; the line goes on to the log
            kept.add(*_of_structlog(method, line))
    return line


def _of_structlog(method: str, line: Any) -> tuple[str, str]:
    if not isinstance(line, Mapping):  # a processor of the program's own has made text of it
        return method, line.decode(errors="replace") if isinstance(line, bytes) else str(line)
    parts = [_word(line.get("event", ""))]
    parts += [f"{name}={_word(value)}" for name, value in line.items() if name not in _SAID_ELSEWHERE]
    error = line.get("exc_info")
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        parts.append(f"{type(error).__name__}: {error}")
    elif error is True:
        parts.append(_raised_now())
    elif isinstance(line.get("exception"), str):
        parts.append(line["exception"].strip().rpartition("\n")[2])
    return str(line.get("level", method)), " ".join(part for part in parts if part)


def _raised_now() -> str:
    error = sys.exception()
    return "" if error is None else f"{type(error).__name__}: {error}"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


class _Keeping(logging.Handler):
    """Keeps the records of `logging` that are logged within an attempt."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        if _is_alone() and logging.lastResort is not None and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)  # as `logging` itself does where there is no handler
        kept = _kept.get()
        if kept is None:
            return
        with contextlib.suppress(Exception):  # its arguments are the program's own
            text = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                text = f"{text} {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            kept.add(record.levelname.lower(), text)


_handler = _Keeping()


def _is_alone() -> bool:
    return len(logging.getLogger().handlers) == 1
