"""Charts as inline SVG: from series of samples to paths, labels of the axes, and a sentence that says the same.

Pure, and knows no HTML: templates/charts.html draws what is made here. Lines are drawn into a box that is stretched to
whatever room there is, so all text stands beside it. There is one time axis for all charts of a page: now is at the
right. Where nobody looked, nothing was sampled: lines are broken there, not drawn through.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["HEIGHT", "WIDTH", "Chart", "Line", "Plot", "Series", "as_points", "draw"]

WIDTH, HEIGHT = 600, 120
"""Of the box the lines are drawn into, in its own units."""

_BREAK = 2.5
"""Intervals without a sample after which a line is broken."""


class Series(NamedTuple):
    """One line's samples.

    Attributes:
        tone: how it looks: a class of the style sheet.
        values: one a sample; None where it is not known.
    """

    name: str
    tone: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Plot:
    """What is to be drawn.

    Attributes:
        unit: what the values are; "" where `show` says it.
        show: a value in words, with its unit if that depends on how large it is.
        times: Unix seconds of the samples, ascending.
        every: seconds between two samples while somebody looks.
        span: seconds the time axis is long.
        least: what the value axis reaches at the least: nothing should look like much.
        filled: whether the room under the first line is tinted.
    """

    name: str
    unit: str
    show: Callable[[float | None], str]
    times: Sequence[float]
    series: Sequence[Series]
    every: float
    span: float
    least: float = 1.0
    filled: bool = True


class Line(NamedTuple):
    """One line, drawn.

    Attributes:
        path, area: SVG path data; "" where there is nothing to draw.
        latest: the newest value, in words.
        points: for the script, which shows values under the pointer: (x in the box, value in words).
    """

    name: str
    tone: str
    path: str
    area: str
    latest: str
    points: Sequence[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, drawn.

    Attributes:
        ticks: labels of the value axis, from the top.
        moments: labels of the time axis, from the left.
        said: the chart in a sentence, for who cannot see it.
        has_samples: whether there is anything to see.
    """

    name: str
    unit: str
    lines: Sequence[Line]
    ticks: Sequence[str]
    moments: Sequence[str]
    said: str
    has_samples: bool


def draw(plot: Plot, now: float) -> Chart:
    """Return the chart of these samples, as seen at this Unix time."""
    start = now - plot.span
    kept = [index for index, time in enumerate(plot.times) if time >= start]
    values = [each for series in plot.series for index in kept if (each := series.values[index]) is not None]
    top = _ceiling(max(values, default=0.0), plot.least)
    lines = [_line(plot, series, kept, start, top, filled=plot.filled and not number)
             for number, series in enumerate(plot.series)]  # fmt: skip
    return Chart(
        name=plot.name,
        unit=plot.unit,
        lines=lines,
        ticks=tuple(plot.show(top * part) for part in (1.0, 0.5, 0.0)),
        moments=_moments(plot.span),
        said=_said(plot, lines, values),
        has_samples=bool(values),
    )


def _line(plot: Plot, series: Series, kept: Sequence[int], start: float, top: float, *, filled: bool) -> Line:
    runs: list[list[tuple[float, float]]] = []
    points: list[tuple[float, str]] = []
    last = -math.inf
    for index in kept:
        value, time = series.values[index], plot.times[index]
        if value is None:
            last = -math.inf
            continue
        if time - last > plot.every * _BREAK:
            runs.append([])
        last = time
        x = round((time - start) / plot.span * WIDTH, 1)
        runs[-1].append((x, round(HEIGHT - value / top * HEIGHT, 1)))
        points.append((x, plot.show(value)))
    latest = series.values[kept[-1]] if kept else None
    return Line(
        series.name,
        series.tone,
        "".join(map(_path, runs)),
        "".join(map(_area, runs)) if filled else "",
        plot.show(latest),
        points,
    )


def _path(run: Sequence[tuple[float, float]]) -> str:
    (x, y), *others = run
    # A dot, where there is no second sample: a line of no length, with round ends.
    return f"M{x:g} {y:g}" + ("".join(f"L{x:g} {y:g}" for x, y in others) or "h0.01")


def _area(run: Sequence[tuple[float, float]]) -> str:
    if len(run) < 2:
        return ""
    return f"M{run[0][0]:g} {HEIGHT}" + "".join(f"L{x:g} {y:g}" for x, y in run) + f"L{run[-1][0]:g} {HEIGHT}Z"


def _ceiling(highest: float, least: float) -> float:
    """Return the next of 1, 2, 4, 6, 10 times a power of ten: numbers whose half is short as well."""
    if highest <= least:
        return least
    power = float(10 ** math.floor(math.log10(highest)))
    return next(step * power for step in (1.0, 2.0, 4.0, 6.0, 10.0) if highest <= step * power * 1.000001)


def _moments(span: float) -> tuple[str, ...]:
    minutes = span / 60
    return (f"{minutes:g} min ago", f"{minutes / 2:g} min", "now")


def _said(plot: Plot, lines: Sequence[Line], values: Sequence[float]) -> str:
    if not values:
        return f"{plot.name}: nothing has been seen yet."
    latest = ", ".join(f"{line.name} {line.latest}" for line in lines)
    what = f"{plot.name}, {plot.unit}," if plot.unit else plot.name
    head = f"{what} over the last {plot.span / 60:g} minutes"
    return f"{head}. Now: {latest}. Highest: {plot.show(max(values))}."


def as_points(points: Sequence[tuple[float, str]]) -> str:
    """Return points as JSON, for the script."""
    return json.dumps(points, separators=(",", ":"), ensure_ascii=False)
