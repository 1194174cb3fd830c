"""The live view: bars on a terminal, a plain line every few seconds anywhere else.

Owns how progress looks; knows of the run only its counts. All of it goes to standard error, so that standard output
carries the result alone.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from cli.output import visible

__all__ = ["Counts", "View", "make_view"]

_SECONDS_BETWEEN_LINES = 3.0


@dataclass(slots=True)
class Counts:
    """Where the run stands.

    Attributes:
        fetched: items whose job has succeeded.
        failed: items whose job has failed for good.
        stored: rows in the database.
        last: name of the item fetched last.
        by_worker: jobs brought to success, by the worker's number.
    """

    total: int
    fetched: int = 0
    failed: int = 0
    stored: int = 0
    retries: int = 0
    timeouts: int = 0
    last: str = ""
    by_worker: Counter[int] = field(default_factory=Counter)

    def describe(self) -> str:
        """Return all but the bars' own numbers, in a line."""
        parts = [f"retries {self.retries:,}", f"timeouts {self.timeouts:,}"]
        if self.failed:
            parts.append(f"failed {self.failed:,}")
        if self.by_worker:
            parts.append("jobs by worker: " + ", ".join(f"{n:,}" for _, n in sorted(self.by_worker.items())))
        return " | ".join(parts)


class View(Protocol):
    """What shows the run."""

    def say(self, text: str) -> None:
        """Print a line that stays."""

    def start(self) -> None:
        """Begin to show progress."""

    def update(self, counts: Counts) -> None:
        """Show where the run stands; to be called often."""

    def stop(self, counts: Counts | None = None) -> None:
        """Show where it stood at the end, if that is known, and leave the terminal in order."""


def make_view(console: Console) -> View:
    """Return bars where they can be drawn, plain lines elsewhere."""
    return BarView(console) if console.is_terminal and not console.is_dumb_terminal else LineView(console)


class BarView:
    """Two bars and two lines of text, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            expand=True,
        )
        self._fetched = self._bars.add_task("fetched", total=None)
        self._stored = self._bars.add_task("stored ", total=None)
        self._text = Text(no_wrap=True, overflow="ellipsis")
        self._live = Live(Group(self._bars, self._text), console=console, auto_refresh=False)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(Text(visible(text)))

    def start(self) -> None:
        """Begin to show progress."""
        self._live.start()

    def update(self, counts: Counts) -> None:
        """Redraw."""
        self._draw(counts, counts.last)

    def stop(self, counts: Counts | None = None) -> None:
        """Draw a last time, and give the cursor back."""
        if counts is not None and self._live.is_started:
            self._draw(counts, "")
        self._live.stop()

    def _draw(self, counts: Counts, last: str) -> None:
        self._bars.update(self._fetched, total=counts.total, completed=counts.fetched)
        self._bars.update(self._stored, total=counts.total, completed=counts.stored)
        self._text.plain = visible(f"{counts.describe()}\n{last}".rstrip())
        self._text.stylize("dim")
        self._live.refresh()


class LineView:
    """A line every few seconds, for a log file or a pipe."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0
        self._started = 0.0

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(Text(visible(text)), soft_wrap=True)

    def start(self) -> None:
        """Begin to show progress."""
        self._started = time.monotonic()
        self._next = self._started + _SECONDS_BETWEEN_LINES

    def update(self, counts: Counts) -> None:
        """Print a line if the last one is some seconds old."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS_BETWEEN_LINES
            self._print(counts)

    def stop(self, counts: Counts | None = None) -> None:
        """Print a last line."""
        if counts is not None:
            self._print(counts)

    def _print(self, counts: Counts) -> None:
        seconds = time.monotonic() - self._started
        self.say(
            f"{seconds:5.1f} s  fetched {counts.fetched:,}/{counts.total:,}, stored {counts.stored:,} | "
            f"{counts.describe()}"
        )
