"""`barque demo`: the command line of the demo.

Owns the options and the exit code; what happens is `run`'s.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from cli.exit_codes import FAILED
from cli.options import Json, read_settings
from cli.output import machine
from cli.values import seconds

__all__ = ["demo"]

_LIBRARY_TIMEOUT = 5.0
_URLS_TIMEOUT = 30.0


def demo(
    *,
    urls: Annotated[
        Path | None,
        typer.Option(
            "--urls", metavar="FILE", help="Fetch the URLs of this file, one a line (- is stdin), not the library."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", metavar="FOLDER", help="Where each run makes a folder of its own.")
    ] = Path("demo-output"),
    files: Annotated[
        int | None,
        typer.Option(
            "--files", metavar="N", min=1, help="How many library files to fetch.", show_default="all there are"
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=1, max=64, help="Worker processes.")] = 2,
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", min=1, max=10_000, help="Jobs at once in each worker.")
    ] = 20,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="TIME",
            parser=seconds,
            help="How long one attempt may take, in seconds or as 90s, 2m.",
            show_default="5s; 30s with --urls",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Decides which files fail, and how.")] = 1,
    corrupt: Annotated[
        int,
        typer.Option(
            "--corrupt", metavar="N", min=0, help="Serve so many files wrong, to see that the check finds them."
        ),
    ] = 0,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            "--redis-url",
            metavar="URL",
            help="A Redis or Valkey that runs already, instead of BARQUE_REDIS_URL or an embedded one. The demo uses "
            "a queue of its own there, and cleans up.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Watch it work: a server, two workers and 1,000 and more jobs on this machine, every result checked.

    Uses the server of --server or BARQUE_REDIS_URL (a variable, or a line of .env), and starts an embedded Valkey where
    neither names one. Starts an HTTP server that serves this Python's own standard library late, with some 500s,
    some 429s and some stalls, and worker processes as `arq workers.WorkerSettings`. Fetches every file, stores a row
    each in SQLite, holds every SHA-256 against the file on disk, and writes a report.

    Ends with exit code 1 if one row is missing or wrong; with --urls, if one URL could not be fetched.
    """
    from rich.console import Console  # noqa: PLC0415 - not for --help

    from cli.demo.progress import make_view  # noqa: PLC0415 - brings in what the workers are made of
    from cli.demo.report import as_data, print_report  # noqa: PLC0415
    from cli.demo.run import Options, run_demo  # noqa: PLC0415

    if urls is not None and (files is not None or corrupt):
        raise typer.BadParameter("--files and --corrupt are about the library; they do not go with --urls")
    if timeout is not None and not 0.1 <= timeout <= 86400:
        raise typer.BadParameter("--timeout: give 100ms to 1d")
    given = read_settings(redis_url=server)
    options = Options(
        output=output,
        files=files,
        urls=urls,
        workers=workers,
        concurrency=concurrency,
        timeout=timeout or (_LIBRARY_TIMEOUT if urls is None else _URLS_TIMEOUT),
        seed=seed,
        corrupt=corrupt,
        embedded=not given.given.keys() & {"redis_url", "redis_sentinels"},
    )
    with _ending_as_on_ctrl_c():
        report = run_demo(options, given, make_view(Console(stderr=True)))
    if as_json:
        machine(as_data(report))
    else:
        print_report(report)
    if not report.ok:
        raise typer.Exit(FAILED)


@contextmanager
def _ending_as_on_ctrl_c() -> Iterator[None]:
    """Have a SIGTERM, and a closed terminal, clean up as Ctrl-C does; then end as that signal ends a program."""
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.raise_signal(signal.SIGINT)

    # SIGINT too: a script's background job is started with it ignored, and then nothing could be interrupted. Under
    # nohup SIGHUP stays ignored.
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: interrupt, signal.SIGHUP: interrupt}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        del handlers[signal.SIGHUP]
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    except KeyboardInterrupt:
        if not received:
            raise
        sys.exit(128 + received[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
