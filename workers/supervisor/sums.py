"""The figures of several processes as those of one: added up, and written in Prometheus' text format.

Owns the rules by which they are added: pure. What a process counts is workers/metrics_page.py's.

    counters, histograms   the sum; those of processes that have ended stay in it, so that it never falls
    gauges                 the sum of those that live, but for a few that are limits or moments: the least of them
    info                   each of those that live
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from workers.supervisor.messages import Family

__all__ = ["Totals", "gauge", "text"]

_LEAST = {"process_max_fds", "process_start_time_seconds"}
_COUNTED = {"counter", "histogram"}

_Key = tuple[str, tuple[tuple[str, str], ...]]


class Totals:
    """Figures that were added up."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str]] = {}
        self._values: dict[str, dict[_Key, float]] = {}

    def add(self, families: Iterable[Family], *, has_ended: bool = False) -> None:
        """Add those of one process; of one that has ended, only what counts on."""
        for family in families:
            if has_ended and family.kind not in _COUNTED:
                continue
            self._families.setdefault(family.name, (family.kind, family.help))
            values = self._values.setdefault(family.name, {})
            for name, labels, value in family.samples:
                key = (name, tuple(labels.items()))
                before = values.get(key)
                if before is None:
                    values[key] = value
                elif family.kind == "info":
                    continue
                else:
                    values[key] = min(before, value) if family.name in _LEAST else before + value

    def families(self) -> list[Family]:
        """Return what they add up to."""
        return [
            Family(name, kind, told, [(sample, dict(labels), value) for (sample, labels), value in values.items()])
            for name, (kind, told) in self._families.items()
            for values in (self._values[name],)
        ]


def gauge(name: str, told: str, *values: tuple[dict[str, str], float]) -> Family:
    """Return a gauge with these samples."""
    return Family(name, "gauge", told, [(name, labels, value) for labels, value in values])


def text(families: Iterable[Family]) -> bytes:
    """Return them as Prometheus reads them."""
    lines: list[str] = []
    for family in families:
        name, kind = family.name, family.kind
        if kind == "counter":
            name += "_total"
        elif kind == "info":
            name, kind = f"{name}_info", "gauge"
        lines.append(f"# HELP {name} {_escaped(family.help)}")
        lines.append(f"# TYPE {name} {kind}")
        lines += [f"{sample}{_labels(labels)} {_number(value)}" for sample, labels, value in family.samples]
    return ("\n".join(lines) + "\n").encode()


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    shown = (f'{name}="{_escaped(value, quote=True)}"' for name, value in sorted(labels.items()))
    return "{" + ",".join(shown) + "}"


def _escaped(value: str, *, quote: bool = False) -> str:
    found = value.replace("\\", r"\\").replace("\n", r"\n")
    return found.replace('"', r"\"") if quote else found


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
