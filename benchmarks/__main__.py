"""The command line: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import datetime as dt
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import report
from benchmarks.adapters import OURS, Adapter, discover
from benchmarks.environments import HERE, Missing
from benchmarks.goals import evaluate
from benchmarks.harness import Bench, Measure, Scale, install, measure_all
from benchmarks.machine import describe_machine, describe_peers, describe_source
from benchmarks.measures import MEASURES
from benchmarks.plots import draw
from benchmarks.results import Results
from benchmarks.server import Server

RESULTS = HERE / "results"


def main(argv: list[str] | None = None) -> int:
    """Run what is asked for; return the exit code: 0 unless nothing could be measured."""
    arguments = _parser().parse_args(argv)
    if arguments.report:
        return _show(Results.read(arguments.report), arguments)
    adapters, measures, scale = _chosen(arguments)
    print(f"installing {len(adapters)} environments under {_short(HERE / '.envs')} (kept for the next run)")
    there, missing = install(adapters, _say)
    if OURS not in there:
        print(f"Barque itself cannot be run: {missing.get(OURS)}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is ended
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="barque-bench-") as folder, Server() as server:
        about = {
            "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "command": shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if argv is None else argv)]),
            "source": describe_source(),
            "machine": describe_machine(),
            "server": f"{server.title}, loopback, no persistence",
            "scale": asdict(scale),
        }
        results = Results(about, describe_peers(adapters, missing), {}, {})
        try:
            measure_all(Bench(server, there, Path(folder), scale), measures, results, _say)
        except KeyboardInterrupt:
            print("stopped; what was measured until now is kept")
    print(f"measured in {time.monotonic() - began:.0f} s\n")
    path = arguments.json or RESULTS / f"{about['date'].replace(':', '')[:17]}.json"
    results.write(path)
    return _show(results, arguments, path)


def _show(results: Results, arguments: argparse.Namespace, path: Path | None = None) -> int:
    text = report.markdown(results, evaluate(results))
    print(text)
    path = path or arguments.report
    path.with_suffix(".md").write_text(text)
    print(f"results: {_short(path)} and {_short(path.with_suffix('.md'))}")
    if arguments.plots:
        try:
            plots = draw(path, arguments.plots)
        except (Missing, subprocess.CalledProcessError) as error:
            print(f"no plots: {error}", file=sys.stderr)
        else:
            print("".join(f"plot: {_short(Path(plot))}\n" for plot in plots), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Barque and its peers.")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--short", action="store_true", help="the short set (the default): under ten minutes")
    scale.add_argument("--full", action="store_true", help="longer runs and more repetitions")
    parser.add_argument("--only", metavar="MEASURE,…", help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--peers", metavar="PEER,…", help=f"of {', '.join(discover())}; Barque always takes part")
    parser.add_argument("--repeat", type=int, metavar="N", help="repetitions of each measure, for all peers")
    parser.add_argument("--most-jobs", type=int, metavar="N", help="at most so many jobs in a run: to try the harness")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go; benchmarks/results/ else")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the plots into this folder, as SVG")
    parser.add_argument("--report", type=Path, metavar="FILE", help="measure nothing: show the results in this file")
    return parser


def _chosen(arguments: argparse.Namespace) -> tuple[dict[str, Adapter], list[Measure], Scale]:
    adapters = discover()
    if arguments.peers:
        names = _names(arguments.peers, adapters, "--peers")
        adapters = {name: adapter for name, adapter in adapters.items() if name in names or name == OURS}
    measures = list(MEASURES.values())
    if arguments.only:
        measures = [MEASURES[name] for name in _names(arguments.only, MEASURES, "--only")]
    scale = Scale() if arguments.full else Scale.short()
    if arguments.repeat is not None:
        repeat = max(1, arguments.repeat)
        scale = replace(
            scale,
            repeat=repeat,
            repeat_latency=repeat,
            repeat_footprint=repeat,
            repeat_scaling=repeat,
            once_else=False,
        )
    if arguments.most_jobs is not None:
        most = max(1, arguments.most_jobs)
        scale = replace(scale, most_jobs=most, backlog=min(scale.backlog, 10 * most))
    return adapters, measures, scale


def _names(given: str, known: object, option: str) -> list[str]:
    names = [name.strip() for name in given.split(",") if name.strip()]
    known_names = list(known)  # type: ignore[call-overload]
    unknown = [name for name in names if name not in known_names]
    if unknown:
        sys.exit(f"{option}: no {', '.join(unknown)}; there are: {', '.join(known_names)}")
    return names


def _short(path: Path) -> str:
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
