"""How far a job is, on stderr while a command waits for it: one line that is written anew on a terminal, else lines."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from cli.output import visible
from common.errors import BarqueError

if TYPE_CHECKING:
    from common.progress import Progress
    from producer import Job

__all__ = ["follow", "progress_text"]

_BAR = 24
_LINE_EVERY, _LINE_EACH = 10.0, 0.1
"""Where stderr is no terminal: seconds after which, and part of the whole for which, there is another line."""


async def follow(job: Job[Any]) -> None:
    """Show how far a job is until it ends or this is cancelled. Whatever goes wrong is for the wait itself to tell."""
    shown: Progress | None = None
    shown_at = 0.0
    terminal = sys.stderr.isatty()
    latest: Progress | None = None
    try:
        async for latest in job.watch():
            if terminal:
                print(f"\r\x1b[K{progress_text(latest, _columns())}", end="", file=sys.stderr, flush=True)
            elif _is_worth_a_line(latest, shown, time.monotonic() - shown_at):
                _print_line(latest)
                shown, shown_at = latest, time.monotonic()
    except BarqueError:
        pass
    finally:
        if terminal and latest is not None:
            print(file=sys.stderr, flush=True)
        elif latest is not None and latest is not shown:
            _print_line(latest)


def progress_text(progress: Progress, columns: int) -> str:
    """Return one line for a person, `[######------] 50%  5/10  message`, of at most so many columns."""
    parts: list[str] = []
    fraction = progress.fraction
    if fraction is not None:
        filled = int(fraction * _BAR)
        parts.append(f"[{'#' * filled}{'-' * (_BAR - filled)}] {int(fraction * 100):3d}%")
    parts.append(_number(progress.done) + ("" if progress.total is None else f"/{_number(progress.total)}"))
    if progress.attempt > 1:
        parts.append(f"(attempt {progress.attempt})")
    if progress.message:
        parts.append(" ".join(visible(progress.message).split()))
    text = "  ".join(parts)
    return text if len(text) <= columns else f"{text[: max(0, columns - 1)]}…"


def _is_worth_a_line(latest: Progress, shown: Progress | None, seconds: float) -> bool:
    if shown is None or seconds >= _LINE_EVERY or latest.attempt != shown.attempt:
        return True
    return abs((latest.fraction or 0.0) - (shown.fraction or 0.0)) >= _LINE_EACH


def _print_line(progress: Progress) -> None:
    print(progress_text(progress, sys.maxsize), file=sys.stderr, flush=True)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _columns() -> int:
    from cli.output import width  # noqa: PLC0415 - brings in rich

    return max(20, width() - 1)
