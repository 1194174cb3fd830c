"""One run as Markdown: the goals, the peers' figures, Barque's budget, how each peer was set. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.goals import OURS, Verdict
from benchmarks.results import Results
from benchmarks.summary import Figure, repetitions

__all__ = ["budget", "markdown"]

_LEAST_JOBS = 50_000
"""A run that may not have so many jobs is over before the fast ones are under way."""


def markdown(results: Results, verdicts: Sequence[Verdict]) -> str:
    """Return the whole report."""
    parts = [
        _heading(results),
        _goals(verdicts),
        _rates(results, "Jobs per second", ("drain_noop", "drain_nap", "bulk", "single")),
        _latencies(results),
        _footprint(results),
        _backlog_and_scaling(results),
        _floor(results),
        _settings(results),
        _failures(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def budget(results: Results) -> list[tuple[str, float]] | None:
    """Return where one worker's time for one no-op job goes, in us: asyncio itself, Barque's own work, waiting.

    None unless both Barque's drain and bare asyncio were measured.
    """
    rate = results.median("drain_noop", OURS, "jobs_per_s")
    worker = results.median("drain_noop", OURS, "worker_us")
    bare = results.median("floor", "asyncio_noop", "worker_us")
    if rate is None or worker is None or bare is None:
        return None
    wall = 1e6 / rate
    return [
        ("asyncio running the coroutine", bare),
        ("Barque in the worker", max(0.0, worker - bare)),
        ("waiting for Redis", max(0.0, wall - worker)),
    ]


def _heading(results: Results) -> str:
    about, machine = results.about, results.about["machine"]
    return (
        f"Measured {about['date']} at commit {about['source'] or 'unknown'} on {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, Python {machine['python']}, "
        f"{about['server']}. One worker process each. Medians of {repetitions(about['scale'])}; "
        f"in brackets the least and the most. What has no brackets was run once.{_warning(about)}\n\n"
        f"    {about['command']}"
    )


def _warning(about: Mapping[str, Any]) -> str:
    most = about["scale"]["most_jobs"]
    return (
        f"\n\n**A trial of the harness, with at most {most:,} jobs a run: the figures mean nothing.**"
        if (most < _LEAST_JOBS)
        else ""
    )


def _goals(verdicts: Sequence[Verdict]) -> str:
    met = sum(verdict.met is True for verdict in verdicts)
    missed = sum(verdict.met is False for verdict in verdicts)
    rows = [(verdict.subject, verdict.goal, verdict.value, verdict.word) for verdict in verdicts]
    unknown = len(verdicts) - met - missed
    title = f"## Goals: {met} met, {missed} not met" + (f", {unknown} not measured" if unknown else "")
    return f"{title}\n\n{_table(('', 'goal', 'measured', ''), rows)}"


def _rates(results: Results, title: str, measures: Sequence[str]) -> str:
    columns = [measure for measure in measures if results.subjects(measure)]
    if not columns:
        return ""
    names = {
        "drain_noop": "drain, no-op, 100 at once",
        "drain_nap": "drain, 10 ms, 1,000 at once",
        "bulk": "bulk enqueue",
        "single": "single enqueues, 32 in flight",
    }
    rows: list[tuple[str, ...]] = []
    for peer in _ordered(results, columns[0], "jobs_per_s"):
        cells = [_cell(results.figure(measure, peer, "jobs_per_s"), "{:,.0f}") for measure in columns]
        rows.append((_named(results, peer), *cells))
    return f"## {title}\n\n{_table(('', *(names[column] for column in columns)), rows)}"


def _latencies(results: Results) -> str:
    if not results.subjects("pickup") and not results.subjects("round_trip"):
        return ""
    rows: list[tuple[str, ...]] = []
    for peer in _ordered(results, "pickup", "p50_ms", ascending=True):
        cells = [
            _cell(results.figure(measure, peer, metric), "{:.2f}")
            for measure in ("pickup", "round_trip")
            for metric in ("p50_ms", "p99_ms")
        ]
        rows.append((_named(results, peer), *cells))
    header = ("", "pickup p50", "pickup p99", "result p50", "result p99")
    return f"## Milliseconds from idle\n\n{_table(header, rows)}"


def _footprint(results: Results) -> str:
    lines = []
    figures = {metric: results.median("in_flight", OURS, metric) for metric in _IN_FLIGHT}
    known = {metric: value for metric, value in figures.items() if value is not None}
    if len(known) == len(_IN_FLIGHT):
        lines.append(
            "{jobs:,.0f} jobs in flight: {bytes_per_job:,.0f} bytes of worker memory a job; a sleeper is woken late by "
            "{loop_late_p50_ms:.2f} ms at p50, {loop_late_p99_ms:.1f} at p99, {loop_late_max_ms:.1f} at most.".format(
                **known
            )
        )
    if (core := results.median("idle_server", OURS, "core_percent")) is not None:
        lines.append(f"100 idle workers use {core:.2f}% of a core in the server.")
    rows: list[tuple[str, ...]] = [
        (_named(results, peer), _cell(results.figure("idle_memory", peer, "resident_mb"), "{:.1f}"))
        for peer in _ordered(results, "idle_memory", "resident_mb", ascending=True)
    ]
    if results.subjects("idle_memory"):
        lines.append(_table(("idle worker", "resident MB"), rows))
    return "## Footprint\n\n" + "\n\n".join(lines) if lines else ""


_IN_FLIGHT = ("jobs", "bytes_per_job", "loop_late_p50_ms", "loop_late_p99_ms", "loop_late_max_ms")


def _backlog_and_scaling(results: Results) -> str:
    parts = []
    kinds = {"short": "10,000 due jobs", "long": "{:,.0f} due jobs", "scheduled": "10,000 due, {:,.0f} scheduled"}
    rows: list[tuple[str, ...]] = [
        (
            words.format(results.median("backlog", kind, "backlog") or 0),
            _cell(results.figure("backlog", kind, "jobs_per_s"), "{:,.0f}"),
            _cell(results.figure("backlog", kind, "of_short"), "{:.2f}x"),
        )
        for kind, words in kinds.items()
        if kind in results.subjects("backlog")
    ]
    if rows:
        table = _table(("in the queue", "jobs/s", "of the first"), rows)
        parts.append(f"## The first 10,000 jobs of a backlog\n\n{table}")
    rows = [
        (
            subject,
            _cell(results.figure("scaling", subject, "jobs_per_s"), "{:,.0f}"),
            _cell(results.figure("scaling", subject, "redis_us"), "{:.1f}"),
            _cell(results.figure("scaling", subject, "scripts_us"), "{:.1f}"),
        )
        for subject in results.subjects("scaling")
    ]
    if rows:
        header = ("processes", "jobs/s", "Redis CPU, us a job, enqueue to finish", "of it in scripts")
        parts.append(f"## Worker processes\n\n{_table(header, rows)}")
    return "\n\n".join(parts)


def _floor(results: Results) -> str:
    lines = []
    rows: list[tuple[str, ...]] = [
        (title, _cell(results.figure("floor", subject, "jobs_per_s"), "{:,.0f}"), _share(results, measure, subject))
        for title, subject, measure in (
            ("bare asyncio, no-op, 100 at once", "asyncio_noop", "drain_noop"),
            ("bare asyncio, 10 ms, 1,000 at once", "asyncio_nap", "drain_nap"),
            ("claim and complete alone, 100 jobs a call", "scripts", "drain_noop"),
        )
        if subject in results.subjects("floor")
    ]
    if rows:
        lines.append(_table(("limit", "jobs/s", "Barque reaches"), rows))
    parts = budget(results)
    if parts is not None:
        rows = [(name, f"{spent:.1f}") for name, spent in parts]
        rows.append(("together", f"{sum(spent for _, spent in parts):.1f}"))
        lines.append("One no-op job in one worker, in microseconds of wall time:\n\n" + _table(("", "us"), rows))
    rows = [
        (
            name,
            *(_cell(results.figure("floor", "scripts", f"{name}_{kind}_us"), "{:.1f}") for kind in ("redis", "wall")),
        )
        for name in ("enqueue", "claim", "complete")
        if results.figure("floor", "scripts", f"{name}_redis_us")
    ]
    if rows:
        header = ("script, 100 jobs a call", "Redis CPU, us a job", "wall, us a job")
        lines.append(_table(header, rows))
    return "## The limit\n\n" + "\n\n".join(lines) if lines else ""


def _share(results: Results, measure: str, limit: str) -> str:
    ours, most = results.median(measure, OURS, "jobs_per_s"), results.median("floor", limit, "jobs_per_s")
    return f"{ours / most:.0%}" if ours is not None and most else "-"


def _settings(results: Results) -> str:
    rows: list[tuple[str, ...]] = []
    for name, peer in results.peers.items():
        if "missing" in peer:
            rows.append((_named(results, name), "missing", str(peer["missing"]).replace("\n", " ")))
        else:
            versions = ", ".join(f"{package} {version}" for package, version in peer["versions"].items())
            rows.append((_named(results, name), versions, peer["settings"]))
    return f"## Peers\n\n{_table(('', 'versions', 'settings'), rows)}"


def _failures(results: Results) -> str:
    rows: list[tuple[str, ...]] = [
        (measure, results.title(subject), said.splitlines()[0])
        for measure, subjects in results.failures.items()
        for subject, said in subjects.items()
    ]
    return f"## Failed\n\n{_table(('measure', '', 'what it said'), rows)}" if rows else ""


def _ordered(results: Results, measure: str, metric: str, *, ascending: bool = False) -> list[str]:
    """Return the peers of a run, best first by one measure; those without a figure last."""
    worst = float("inf")

    def key(peer: str) -> float:
        value = results.median(measure, peer, metric)
        return worst if value is None else value if ascending else -value

    return sorted((name for name, peer in results.peers.items() if "missing" not in peer), key=key)


def _named(results: Results, peer: str) -> str:
    return f"**{results.title(peer)}**" if peer == OURS else results.title(peer)


def _cell(figure: Figure | None, form: str) -> str:
    if figure is None:
        return "-"
    if len(figure.samples) == 1:
        return form.format(figure.median)
    return f"{form.format(figure.median)} ({form.format(figure.least)}-{form.format(figure.most)})"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:" if _is_number(title) else "---" for title in header[1:]]], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _is_number(title: str) -> bool:
    return title not in {"goal", "", "settings", "versions", "what it said"}
