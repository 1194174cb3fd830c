"""Figures in few characters, for tables that are looked at while they change: rates, spans of time, bytes."""

from __future__ import annotations

from common.distribution import SECONDS_BOUNDS

__all__ = ["count", "percentile_span", "rate", "size", "span"]


def span(seconds: float | None) -> str:
    """Return a length of time in three digits or so: `0.4ms`, `12ms`, `1.2s`, `2m 5s`; `-` where there is none."""
    if seconds is None:
        return "-"
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f}ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {left}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes}m"
    return f"{hours // 24}d {hours % 24}h"


def percentile_span(seconds: float | None) -> str:
    """Return what is read out of buckets, which tell nothing of what is below the first or above the last."""
    if seconds is not None and seconds <= SECONDS_BOUNDS[0]:
        return f"<{span(SECONDS_BOUNDS[0]).replace('.0', '')}"
    if seconds is not None and seconds >= SECONDS_BOUNDS[-1]:
        return f">{span(SECONDS_BOUNDS[-1])}"
    return span(seconds)


def rate(per_second: float) -> str:
    """Return how often something happens: `1,234/s`, `0.5/s`, or `3/min` where it is seldom; `0` where never."""
    if per_second <= 0:
        return "0"
    if per_second < 0.1:
        return f"{per_second * 60:.1f}/min"
    return f"{per_second:.1f}/s" if per_second < 100 else f"{per_second:,.0f}/s"


def count(number: int) -> str:
    """Return a number in six characters at the most: `12,345`, `1.2M`."""
    if number < 100_000:
        return f"{number:,}"
    for factor, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= factor:
            short = number / factor
            return f"{short:.0f}{unit}" if short >= 100 else f"{short:.1f}{unit}"
    raise AssertionError


def size(number: int | None) -> str:
    """Return bytes: `84 MB`, `1.2 GB`; `-` where nothing is known."""
    if number is None:
        return "-"
    if number < 10**9:
        return f"{number / 10**6:.0f} MB"
    return f"{number / 10**9:.1f} GB"
