"""The command line: `python -m benchmarks.features`."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.features.variants import PLAIN, VARIANTS
from benchmarks.machine import describe_machine
from benchmarks.server import Server

RESULTS = Path(__file__).parents[1] / "results" / "features.md"

Figures = dict[str, float]


def main() -> int:
    """Measure what is asked for, write the table; return the exit code."""
    arguments = _parser().parse_args()
    chosen = arguments.only.split(",") if arguments.only else [name for name in VARIANTS if name != PLAIN]
    unknown = [name for name in chosen if name not in VARIANTS]
    if unknown:
        sys.exit(f"--only: no {', '.join(unknown)}; there are: {', '.join(VARIANTS)}")
    rounds: dict[str, list[tuple[Figures, Figures]]] = {name: [] for name in chosen}
    with Server() as server:
        title = server.title
        for number in range(arguments.repeat):
            for name in chosen:
                # In turn, each beside a run of its own of a plain task: the machine's speed changes by the minute.
                pair = [_run(server, each, arguments.jobs) for each in (PLAIN, name)]
                rounds[name].append((pair[0], pair[1]))
                print(f"{number + 1}/{arguments.repeat} {name}: {_total(pair[1]):.1f} us, plain {_total(pair[0]):.1f}")
    text = _table(rounds, arguments.jobs, arguments.repeat, title)
    print(text)
    RESULTS.write_text(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=__doc__)
    parser.add_argument("--only", metavar="FEATURE,…", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--jobs", type=int, default=20_000, metavar="N", help="jobs of a plain task in a run")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="rounds; medians are shown")
    return parser


def _run(server: Server, name: str, jobs: int) -> Figures:
    server.clear()
    jobs = max(100, round(jobs * VARIANTS[name].jobs))
    command = [sys.executable, "-m", "benchmarks.features.run", name, str(jobs)]
    done = subprocess.run(
        command,
        env=os.environ | {"BARQUE_REDIS_URL": server.url, "BARQUE_UNKNOWN_TASK_WAIT": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command[1:])} failed:\n{done.stderr[-3000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _total(figures: Figures) -> float:
    return sum(value for name, value in figures.items() if name != "rate")


def _table(rounds: dict[str, list[tuple[Figures, Figures]]], jobs: int, repeat: int, title: str) -> str:
    machine = describe_machine()
    lines = [
        (
            f"`python -m benchmarks.features --jobs {jobs} --repeat {repeat}`: {machine['processor']}, "
            f"{machine['cores']} cores, Python {machine['python']}, {title}. CPU time in us a job above that of "
            "a plain job of the same round, and the drain rate as a share of the plain one's; medians."
        ),
        "",
        "| feature | enqueue: producer | server | run: worker | server | drain rate |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, pairs in rounds.items():
        more = [
            statistics.median(with_it[figure] - without[figure] for without, with_it in pairs)
            for figure in ("producer_us", "producer_server_us", "worker_us", "worker_server_us")
        ]
        share = statistics.median(with_it["rate"] / without["rate"] for without, with_it in pairs)
        lines.append(f"| {VARIANTS[name].title} | {' | '.join(f'{value:+.1f}' for value in more)} | {share:.2f}x |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
