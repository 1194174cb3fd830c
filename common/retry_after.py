"""How long a failed attempt was asked to wait: `Retry-After`, wherever an exception carries it.

Owns the reading of the header and of the shapes in which exceptions hold it. Imports no HTTP library: what is looked
at are the attributes that the exceptions of httpx, requests, aiohttp, urllib, many API clients and our own HTTP tasks
have. Pure but for the clock, which a date in the header is held against.
"""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["LONGEST_WAIT", "asked_to_wait", "read_retry_after"]

LONGEST_WAIT = 24 * 3600.0
"""Seconds. A server may ask for patience, but not park a job for a year."""

_MOST_CAUSES = 8
"""How far the causes of an exception are looked through: a chain may be a ring."""

_LONGEST_HEADER = 64
_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)  # whole by the standard; some APIs send parts of one


def asked_to_wait(error: BaseException) -> float | None:
    """Return the seconds that an exception, or what it was raised from, asks to wait; None if nothing readable does.

    Looked at are `error.retry_after`, `error.response.headers` (httpx, requests) and `error.headers` (aiohttp,
    urllib), then the same of its `__cause__`. The nearest that says something counts. Never raises, whatever the
    exception is made of.

    Returns:
        Seconds from 0 (a date that has passed) to a day.
    """
    link: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if link is None:
            return None
        for found in (
            _part(link, "retry_after"),
            _header(_part(_part(link, "response"), "headers")),
            _header(_part(link, "headers")),
        ):
            wait = _seconds(found)
            if wait is not None:
                return wait
        link = link.__cause__
    return None


def read_retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """Return the seconds a `Retry-After` header asks for, or None if it says nothing readable.

    Args:
        value: the header: seconds, or an HTTP-date.
        now: Unix seconds; the clock by default.

    Returns:
        Seconds from 0 (a date that has passed) to a day.
    """
    text = (value or "").strip()
    if len(text) > _LONGEST_HEADER:
        return None
    if _SECONDS.fullmatch(text):
        return _bounded(float(text))
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - nothing else here needs it, and it brings a lot in

    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return _until(moment, now)


def _part(whole: Any, name: str) -> Any:
    try:
        return getattr(whole, name, None)
    except Exception:  # a property of somebody else's may raise anything
        return None


def _header(headers: Any) -> Any:
    for name in ("Retry-After", "retry-after"):  # a plain dict knows no case
        try:
            value = headers.get(name)
        except Exception:
            return None
        if value is not None:
            return value
    return None


def _seconds(value: Any) -> float | None:
    try:
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if isinstance(value, str):
            return read_retry_after(value)
        if isinstance(value, timedelta):
            return _bounded(value.total_seconds())
        if isinstance(value, datetime):
            return _until(value, None)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _bounded(float(value))
    except Exception:  # a number past what a float holds, or a subclass that raises
        return None
    return None


def _until(moment: datetime, now: float | None) -> float | None:
    if moment.tzinfo is None:  # so email's reader gives "-0000"; HTTP knows UTC alone
        moment = moment.replace(tzinfo=UTC)
    try:
        wait = moment.timestamp() - (time.time() if now is None else now)
    except (ValueError, OverflowError):
        return None
    return _bounded(max(wait, 0.0))


def _bounded(seconds: float) -> float | None:
    return min(seconds, LONGEST_WAIT) if seconds >= 0 and not math.isnan(seconds) else None
