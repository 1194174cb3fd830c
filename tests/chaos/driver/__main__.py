"""The command line of `make chaos`: run scenarios, show how they go, print the verdict.

    python -m tests.chaos.driver                     all scenarios, in their long form
    python -m tests.chaos.driver killed_workers      one of them
    python -m tests.chaos.driver --short             as `make test` runs them
    python -m tests.chaos.driver --json FILE --markdown FILE

Exit code: 0 when every promise was kept; 1 when jobs were lost, failed, or run twice without cause; 2 when a scenario
could not be brought to its end, or the command line is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from common.errors import BarqueError
from common.server_binary import find_server
from tests.chaos.driver.progress import shown
from tests.chaos.driver.report import Report, as_json, as_markdown, as_tables, describe_machine
from tests.chaos.driver.scenarios import SCENARIOS, run_scenario
from tests.chaos.driver.trial import ChaosError
from tests.chaos.driver.verdict import Verdict

__all__: list[str] = []


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make chaos", description="Break things under load, and see that no job is lost."
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"some of: {', '.join(SCENARIOS)}")
    parser.add_argument("--short", action="store_true", help="some hundred jobs a scenario, in place of many thousand")
    parser.add_argument("--jobs", type=int, help="jobs of each scenario")
    parser.add_argument("--rounds", type=int, help="how often each fault is done")
    parser.add_argument("--seed", type=int, default=1, help="decides who is struck; timing is still the machine's")
    parser.add_argument("--server", type=Path, help="a valkey-server or redis-server to run, not the embedded one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdict there too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the verdict there too")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    if any(number is not None and number < 1 for number in (options.jobs, options.rounds)):
        parser.error("--jobs and --rounds are at least 1")
    return options


def run_all(options: argparse.Namespace, console: Console) -> tuple[list[Verdict], list[str]]:
    """Return the verdicts, and what is to be said of scenarios that came to no end."""
    verdicts: list[Verdict] = []
    unfinished: list[str] = []
    for name in options.scenarios or SCENARIOS:
        scenario = SCENARIOS[name]
        plan = scenario.short if options.short else scenario.long
        plan = replace(plan, seed=options.seed, jobs=options.jobs or plan.jobs, rounds=options.rounds or plan.rounds)
        console.print(f"{name}: {scenario.about}", style="bold", markup=False)
        try:
            with shown(console, plan) as progress:
                verdicts.append(asyncio.run(run_scenario(name, plan, progress=progress, binary=options.server)))
        except (ChaosError, BarqueError) as error:
            unfinished.append(str(error))
            console.print(str(error), style="red", markup=False)
    return verdicts, unfinished


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    talk = Console(stderr=True, highlight=False)
    try:
        server = find_server(options.server)
        verdicts, unfinished = run_all(options, talk)
    except BarqueError as error:
        talk.print(str(error), style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        talk.print("Interrupted: everything that was started is ended.")
        return 130
    report = Report(
        machine=describe_machine(f"{server.kind} {'.'.join(map(str, server.version))}"),
        verdicts=verdicts,
        unfinished=unfinished,
    )
    Console(highlight=False).print(*as_tables(report), sep="\n")
    for path, text in ((options.json, as_json(report)), (options.markdown, as_markdown(report))):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    if unfinished:
        return 2
    return 0 if all(verdict.ok for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
