"""How a trial goes, on the terminal: a bar where it can be drawn, a line every few seconds elsewhere.

Goes to standard error, so that standard output carries the verdict alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from tests.chaos.driver.oracle import Oracle
from tests.chaos.driver.trial import Plan, Progress
from tests.chaos.driver.verdict import Fault

__all__ = ["quiet", "shown"]

_SECONDS_BETWEEN_LINES = 5.0


def quiet(oracle: Oracle, faults: list[Fault]) -> None:
    """Show nothing."""


@contextmanager
def shown(console: Console, plan: Plan) -> Iterator[Progress]:
    """Show progress while the block runs; gives the function to call with it."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines(console, plan).show
        return
    bars = Bars(
        TextColumn("  "),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
    )
    bar = bars.add_task("starting", total=plan.jobs)

    def show(oracle: Oracle, faults: list[Fault]) -> None:
        bars.update(bar, completed=min(len(oracle.done), plan.jobs), description=_words(oracle, faults))

    with bars:
        yield show


class _Lines:
    def __init__(self, console: Console, plan: Plan) -> None:
        self._console = console
        self._plan = plan
        self._said_at = time.monotonic()

    def show(self, oracle: Oracle, faults: list[Fault]) -> None:
        if time.monotonic() - self._said_at >= _SECONDS_BETWEEN_LINES:
            self._said_at = time.monotonic()
            self._console.print(
                f"  {len(oracle.done):,} done, of {self._plan.jobs:,} at least; {_words(oracle, faults)}"
            )


def _words(oracle: Oracle, faults: list[Fault]) -> str:
    done = Counter(fault.what for fault in faults if fault.counted)
    counts = "".join(f", {what}: {times:,}" for what, times in done.items())
    return f"{len(oracle.pending):,} under way{counts}"
