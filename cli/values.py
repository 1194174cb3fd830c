"""What is typed on a command line, turned into values: arguments of tasks, `key=value`, times.

Owns the rules that docs/cli.md states; reads no settings and asks no server.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import typer

__all__ = ["as_value", "moment", "pairs", "processes", "seconds", "size"]


def as_value(text: str, *, raw: bool = False) -> Any:
    """Return what a task receives: JSON where the text is JSON, else the text itself.

    `007` and `NaN` are no JSON and stay text.

    Args:
        raw: take everything as text.
    """
    if raw:
        return text
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def pairs(given: Iterable[str] | None, option: str, *, raw: bool = False) -> dict[str, Any]:
    """Return `key=value` texts as a dict, each value read by `as_value`.

    Raises:
        typer.BadParameter: one has no `=` or no key, or two have the same key.
    """
    found: dict[str, Any] = {}
    for pair in given or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            # Without the text itself: a mistyped secret is still a secret.
            raise typer.BadParameter("write KEY=VALUE, once for each: -k a=1 -k b=2", param_hint=option)
        if key in found:
            raise typer.BadParameter(f"{key} is given twice", param_hint=option)
        found[key] = as_value(value, raw=raw)
    return found


def seconds(text: str | float) -> float:
    """Return a length of time in seconds: `90`, `90s`, `1.5m`, `2h`, `1d`, `500ms`.

    Raises:
        typer.BadParameter: it is none of these.
    """
    from common.durations import read_seconds  # noqa: PLC0415 - see the top of main.py

    try:
        return read_seconds(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def size(text: str | int) -> int:
    """Return an amount of memory in bytes: `536870912`, `512M`, `1.5G`.

    Raises:
        typer.BadParameter: it is none of these.
    """
    from common.sizes import read_size  # noqa: PLC0415 - see the top of main.py

    try:
        return read_size(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def processes(text: str | int) -> int:
    """Return a number of processes; 0, and `auto`, is one a core.

    Raises:
        typer.BadParameter: it is neither a number nor `auto`.
    """
    given = str(text).strip().lower()
    if given == "auto":
        return 0
    if not (given.isascii() and given.isdigit()):
        raise typer.BadParameter(f"{str(text)[:40]!r} is no number of processes: write 4, or auto for one a core")
    return int(given)


def moment(text: str | datetime) -> datetime:
    """Return an ISO 8601 time, aware of its zone; one without a zone is this machine's local time.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        found = text if isinstance(text, datetime) else datetime.fromisoformat(text.strip())
        return found.astimezone() if found.tzinfo is None else found
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{text!r} is no ISO 8601 time: write 2030-01-31T08:00Z, or 2030-01-31T08:00 for local time"
        ) from None


def _refuse(constant: str) -> Any:
    raise ValueError(constant)
