"""Numbers, times and values in the words that commands print for people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cli.output import to_jsonable

__all__ = ["age", "ago", "call", "compact", "jobs", "moment"]


def age(seconds: float) -> str:
    """Return a length of time in its two largest units: `3d 4h`, `2m 5s`, `0.4s`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    parts: list[str] = []
    left = round(seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def ago(when: datetime | None, now: datetime) -> str:
    """Return how long ago something was; `-` where it was never."""
    return "-" if when is None else f"{age(max(0.0, (now - when).total_seconds()))} ago"


def moment(when: datetime | None) -> str | None:
    """Return a time of the server's clock; None where there is none."""
    return None if when is None else f"{when:%Y-%m-%d %H:%M:%S} UTC"


def jobs(count: int) -> str:
    """Return `1 job`, `2 jobs`, `10,000 jobs`."""
    return "1 job" if count == 1 else f"{count:,} jobs"


def compact(value: Any) -> str:
    """Return a value as JSON on one line."""
    import msgspec  # noqa: PLC0415 - not for --help

    return msgspec.json.encode(to_jsonable(value).value).decode()


def call(task: str | None, arguments: tuple[Any, ...], keyword_arguments: Any) -> str:
    """Return a call as one writes it: `greet("Ada", after=2)`."""
    parts = [compact(value) for value in arguments]
    parts += [f"{name}={compact(value)}" for name, value in keyword_arguments.items()]
    return f"{task}({', '.join(parts)})"
