"""Draws the plots of one run: `python -m benchmarks.drawing RESULTS FOLDER [svg|png]`, where matplotlib is installed.

Owns how they look. Imports only those modules of the benchmark that need nothing but Python itself (plots.py runs it
in an environment of its own).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.goals import OURS
from benchmarks.report import budget
from benchmarks.results import Results
from benchmarks.summary import repetitions

__all__ = ["main"]

_OURS, _OTHERS, _INK, _FAINT = "#0b7285", "#b8c2cc", "#1f2933", "#6b7785"
_SHADES = ("#b8c2cc", "#0b7285", "#e3e8ee")

mpl.use("Agg")
mpl.rcParams.update(
    {
        "figure.facecolor": "white",
        "axes.facecolor": "white",
        "savefig.facecolor": "white",
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "text.color": _INK,
        "axes.labelcolor": _FAINT,
        "axes.edgecolor": "#d5dbe1",
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": _FAINT,
        "ytick.color": _INK,
        "svg.hashsalt": "barque",  # the same run draws the same file
    }
)


def main(arguments: Sequence[str]) -> None:
    """Draw what the results hold, and print the path of each plot."""
    results, folder = Results.read(Path(arguments[0])), Path(arguments[1])
    form = arguments[2] if len(arguments) > 2 else "svg"
    for name, plot in _PLOTS.items():
        figure = plot(results)
        if figure is None:
            continue
        path = folder / f"{name}.{form}"
        figure.text(0.01, 0.005, _source(results), fontsize=7.5, color=_FAINT, va="bottom")
        figure.savefig(path, dpi=120, metadata={"Date": None} if form == "svg" else None)
        plt.close(figure)
        print(path)


def throughput(results: Results) -> plt.Figure | None:
    """Draw how fast one worker process empties a queue."""
    return _bars(
        results,
        [
            ("drain_noop", "Jobs that do nothing, 100 at once"),
            ("drain_nap", "Jobs that wait 10 ms, 1,000 at once"),
        ],
        "jobs per second, one worker process",
    )


def enqueue(results: Results) -> plt.Figure | None:
    """Draw how fast jobs are enqueued."""
    return _bars(
        results,
        [("bulk", "Enqueue in bulk"), ("single", "Single enqueues, 32 in flight")],
        "jobs per second, one enqueuing process",
    )


def latency(results: Results) -> plt.Figure | None:
    """Draw how long a job is on its way from idle: p50 to p99, on a log axis."""
    panels = [
        (measure, title)
        for measure, title in (
            ("pickup", "Enqueue to the task's first line, 50 jobs/s"),
            ("round_trip", "Enqueue to the result in the caller's hand"),
        )
        if results.subjects(measure)
    ]
    if not panels:
        return None
    most = max(len(results.subjects(measure)) for measure, _ in panels)
    figure, axes = plt.subplots(1, len(panels), figsize=(5.4 * len(panels), 1.5 + 0.36 * most), squeeze=False)
    for axis, (measure, title) in zip(axes[0], panels, strict=True):
        peers = _sorted(results, measure, "p50_ms", best_last=True, least_is_best=True)
        for row, peer in enumerate(peers):
            p50, p99 = (results.median(measure, peer, metric) or 0 for metric in ("p50_ms", "p99_ms"))
            colour = _OURS if peer == OURS else "#8794a1"
            axis.plot([p50, p99], [row, row], color=colour, linewidth=3, alpha=0.45, solid_capstyle="round")
            axis.plot([p50], [row], "o", color=colour, markersize=8)
            axis.plot([p99], [row], "|", color=colour, markersize=11, markeredgewidth=2)
            axis.annotate(
                f"{_three_digits(p50)} / {_three_digits(p99)}",
                (p99, row),
                (8, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        _name_rows(axis, results, peers)
        axis.set_xscale("log")
        low, high = axis.get_xlim()
        axis.set_xlim(low, high * 4)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axis.grid(axis="x", color="#eef1f4")
        axis.set_axisbelow(True)
        axis.set_title(title)
        axis.set_xlabel("milliseconds (log scale): dot p50, bar p99")
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    return figure


def scaling(results: Results) -> plt.Figure | None:
    """Draw what more worker processes bring, and what a job then costs the server."""
    subjects = results.subjects("scaling")
    if not subjects:
        return None
    cores = results.about["machine"]["cores"]
    figure, axes = plt.subplots(1, 2, figsize=(10.8, 3.4))
    for axis, metric, title, form in (
        (axes[0], "jobs_per_s", f"Throughput on {cores} cores, Redis among them", "{:,.0f}"),
        (axes[1], "redis_us", "Redis CPU a job, enqueue to finish", "{:.1f}"),
    ):
        figures = [results.figure("scaling", subject, metric) for subject in subjects]
        medians = [each.median if each else 0.0 for each in figures]
        places = range(len(subjects))
        axis.plot(places, medians, "o-", color=_OURS, linewidth=2)
        axis.fill_between(
            places,
            [each.least if each else 0.0 for each in figures],
            [each.most if each else 0.0 for each in figures],
            color=_OURS,
            alpha=0.15,
            linewidth=0,
        )
        for place, median in zip(places, medians, strict=True):
            axis.annotate(
                form.format(median), (place, median), (0, 9), textcoords="offset points", ha="center", fontsize=9
            )
        axis.set_xticks(list(places), subjects)
        axis.set_xlim(-0.3, len(subjects) - 0.7)
        axis.set_ylim(0, max(medians) * 1.3)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.grid(axis="y", color="#eef1f4")
        axis.set_title(title)
        axis.set_xlabel("worker processes")
    axes[0].set_ylabel("jobs per second")
    axes[1].set_ylabel("microseconds")
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return figure


def budget_of_a_job(results: Results) -> plt.Figure | None:
    """Draw where one worker's time for one job goes."""
    parts = budget(results)
    if parts is None:
        return None
    figure, axis = plt.subplots(figsize=(10.8, 2.6))
    left = 0.0
    for (name, spent), colour in zip(parts, _SHADES, strict=True):
        axis.barh(0, spent, left=left, height=0.5, color=colour, label=f"{name}: {spent:.1f} us")
        left += spent
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.set_xlim(0, left)
    axis.set_title(f"One job that does nothing, in one worker process: {left:.1f} us")
    axis.set_xlabel("microseconds of wall time")
    figure.legend(loc="lower center", bbox_to_anchor=(0.5, 0.08), ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.22, 1, 1))
    return figure


_PLOTS: dict[str, Callable[[Results], plt.Figure | None]] = {
    "throughput": throughput,
    "enqueue": enqueue,
    "latency": latency,
    "scaling": scaling,
    "budget": budget_of_a_job,
}


def _bars(results: Results, panels: Sequence[tuple[str, str]], label: str) -> plt.Figure | None:
    panels = [(measure, title) for measure, title in panels if results.subjects(measure)]
    if not panels:
        return None
    most = max(len(results.subjects(measure)) for measure, _ in panels)
    figure, axes = plt.subplots(1, len(panels), figsize=(5.4 * len(panels), 1.5 + 0.36 * most), squeeze=False)
    for axis, (measure, title) in zip(axes[0], panels, strict=True):
        peers = _sorted(results, measure, "jobs_per_s", best_last=True)
        figures = [results.figure(measure, peer, "jobs_per_s") for peer in peers]
        medians = [each.median if each else 0.0 for each in figures]
        errors = [
            [each.median - each.least if each else 0.0 for each in figures],
            [each.most - each.median if each else 0.0 for each in figures],
        ]
        colours = [_OURS if peer == OURS else _OTHERS for peer in peers]
        axis.barh(range(len(peers)), medians, color=colours, height=0.66)
        axis.errorbar(medians, range(len(peers)), xerr=errors, fmt="none", ecolor=_FAINT, elinewidth=1, capsize=2)
        for row, (median, high) in enumerate(zip(medians, errors[1], strict=True)):
            axis.annotate(
                f"{median:,.0f}", (median + high, row), (5, 0), textcoords="offset points", va="center", fontsize=9
            )
        _name_rows(axis, results, peers)
        most_of_any = max(each.most if each else 0.0 for each in figures)
        axis.set_xlim(0, most_of_any * 1.2)  # behind the whisker there is to be room for the number
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.locator_params(axis="x", nbins=5)
        axis.set_title(title)
        axis.set_xlabel(label)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    return figure


def _sorted(results: Results, measure: str, metric: str, *, best_last: bool, least_is_best: bool = False) -> list[str]:
    return sorted(
        results.subjects(measure),
        key=lambda peer: results.median(measure, peer, metric) or 0.0,
        reverse=best_last == least_is_best,
    )


def _name_rows(axis: plt.Axes, results: Results, peers: Sequence[str]) -> None:
    axis.set_yticks(range(len(peers)), [results.title(peer) for peer in peers])
    for label, peer in zip(axis.get_yticklabels(), peers, strict=True):
        if peer == OURS:
            label.set_fontweight("bold")
            label.set_color(_OURS)
    axis.tick_params(axis="y", length=0)


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _source(results: Results) -> str:
    about, machine = results.about, results.about["machine"]
    return (
        f"{machine['processor']}, {machine['cores']} cores; {about['server']}; {_repeated(about['scale'])}; "
        f"{about['date'][:10]}, {about['source']}"
    )


def _repeated(scale: Mapping[str, Any]) -> str:
    runs = f"medians of {repetitions(scale)}"
    return f"{runs} where a goal compares, else one run" if scale.get("once_else") else runs


if __name__ == "__main__":
    main(sys.argv[1:])
