"""Values in the words and signs a page shows them by: times, lengths, counts, sizes, ids, addresses.

Owns making text harmless: what comes out of Redis was written by somebody else, and may hold what turns the text
around it or what UTF-8 has no form for. HTML is escaped by the templates, not here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

__all__ = [
    "NONE",
    "address",
    "age",
    "bytes_size",
    "call_text",
    "count",
    "exact",
    "harmless",
    "indented",
    "milliseconds",
    "percent",
    "rate",
    "short_error",
    "short_id",
]

# C0 but tab and newline, DEL, C1, line separators, bidirectional overrides, halves of surrogate pairs.
_HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

NONE = "\N{EN DASH}"
"""What stands where there is nothing to show."""

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def harmless(value: Any) -> Any:
    r"""Return text in which control characters and overrides of direction are shown (`\x1b`); other values as they are.

    Markup is what the templates made themselves, of parts that came through here.
    """
    if isinstance(value, str) and not isinstance(value, Markup):
        return _HARMFUL.sub(lambda found: found[0].encode("unicode_escape").decode(), value)
    return value


def age(seconds: float | None) -> str:
    """Return a length of time in its two largest units: `3d 4h`, `2m 5s`, `0.4s`; an en dash where there is none."""
    if seconds is None:
        return NONE
    if seconds < 9.95:
        return f"{seconds:.1f}s" if seconds > 0 else "0s"
    parts: list[str] = []
    left = round(seconds)
    for size, unit in _UNITS:
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number}{unit}")
    return " ".join(part for part in parts[:2] if part[0] != "0")


def milliseconds(value: float | None) -> str:
    """Return a length of time given in ms, with three digits that matter: `0.42 ms`, `38 ms`, `1.2 s`, `2m 5s`."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0 ms"
    if value < 1000:
        return f"{value:.2f} ms" if value < 1 else f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"
    return (
        f"{value / 1000:.2f} s" if value < 10_000 else f"{value / 1000:.0f} s" if value < 60_000 else age(value / 1000)
    )


def exact(when: datetime) -> str:
    """Return a time to the second, in UTC."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def count(value: float | None) -> str:
    """Return a whole number with its thousands apart; an en dash where there is none."""
    return NONE if value is None else f"{round(value):,}"


def rate(value: float | None) -> str:
    """Return so many a second, with the digits that matter: `0.25`, `4.1`, `1,230`; an en dash where it is unknown."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def percent(part: float | None) -> str:
    """Return a part of one as per cent."""
    return NONE if part is None else f"{part * 100:.1f} %" if 0 < part < 0.1 else f"{part * 100:.0f} %"


def bytes_size(size: float | None) -> str:
    """Return a size in the largest binary unit."""
    if size is None:
        return NONE
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def short_id(job_id: str) -> str:
    """Return an id as lists show it: an id that Barque made ends alike for a whole process, so its middle is cut."""
    return job_id if len(job_id) <= 22 else f"{job_id[:12]}…{job_id[-8:]}"


def address(value: str) -> Markup:
    """Return text as part of a URL's query, whatever bytes it stands for."""
    return Markup(quote(value.encode(errors="surrogateescape"), safe=""))  # noqa: S704 - nothing is left to escape


def indented(value: Any) -> str:
    """Return a value as JSON over several lines; what JSON has no form for, as Python shows it."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, default=repr)


def call_text(task: str | None, arguments: Any, keywords: Mapping[str, Any]) -> str:
    """Return a call as one writes it: `greet("Ada", after=2)`."""

    def said(value: Any) -> str:
        return json.dumps(_plain(value), ensure_ascii=False, default=repr)

    parts = [said(value) for value in arguments]
    parts += [f"{name}={said(value)}" for name, value in keywords.items()]
    return f"{task or '?'}({', '.join(parts)})"


def short_error(kind: str, message: str) -> str:
    """Return an error in one short line, its class without the module."""
    name = kind.rpartition(".")[2]
    first = message.strip().partition("\n")[0]
    text = f"{name}: {first}" if first and name else first or name
    return text if len(text) <= 200 else f"{text[:199]}…"


def _plain(value: Any) -> Any:
    """Return a value whose mappings have keys that JSON takes."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else repr(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in value]
    return value
