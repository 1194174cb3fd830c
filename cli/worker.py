"""`barque worker`: the engine that `arq workers.WorkerSettings` starts, with settings as options."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from cli.options import Json, Queues, RedisUrl, Tasks, add_current_folder, read_settings
from cli.output import machine
from cli.values import seconds

__all__ = ["worker"]


def worker(
    *,
    burst: Annotated[bool, typer.Option("--burst", help="Stop when the queues are empty.")] = False,
    queues: Queues = None,
    tasks: Tasks = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency", "-c", metavar="N", help="Jobs at once in this process, instead of BARQUE_CONCURRENCY."
        ),
    ] = None,
    shutdown_grace: Annotated[
        float | None,
        typer.Option(
            "--shutdown-grace",
            metavar="TIME",
            parser=seconds,
            help="What running jobs get to finish at a stop, instead of BARQUE_SHUTDOWN_GRACE: seconds, or 90s, 5m.",
        ),
    ] = None,
    redis_url: RedisUrl = None,
    log_level: Annotated[
        str | None,
        typer.Option("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR or CRITICAL."),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option("--log-format", metavar="FORMAT", help="json, console, or auto: console on a terminal."),
    ] = None,
    log_file: Annotated[
        str | None, typer.Option("--log-file", metavar="FILE", help="Append log lines here instead of to stderr.")
    ] = None,
    as_json: Json = False,
) -> None:
    r"""Run jobs until stopped.

    An option stands for the setting of its name; `barque config --explain` lists all settings. Ctrl-C or SIGTERM:
    no more jobs are claimed, running ones may finish within the grace period, the rest goes back to the queue. A
    second signal gives it back at once. Either way the exit code is 0: a stop is no failure, and neither is a failed
    job. A third ends the process there and then.

    Log lines go to stderr. With --json the counts of the run are printed on stdout at its end.

    \b
    Examples:
      barque worker --tasks my_app.tasks
      barque worker --queues high,arq:queue --concurrency 500
      barque worker --burst --log-format json
    """
    options = {
        "queues": queues,
        "tasks": tasks,
        "concurrency": concurrency,
        "shutdown_grace": shutdown_grace,
        "redis_url": redis_url,
        "log_level": log_level.upper() if log_level else None,
        "log_format": log_format,
        "log_file": log_file,
    }
    # As variables, because all that runs in this process reads those: tasks that ship, processes for computing.
    os.environ.update({f"BARQUE_{name.upper()}": str(value) for name, value in options.items() if value is not None})
    add_current_folder()
    counts = _run(burst=burst)
    if as_json:
        machine(counts)


def _run(*, burst: bool) -> dict[str, int]:
    """Run a worker to its end and return how many attempts ended how."""
    settings = read_settings()
    from workers.settings import worker_options  # noqa: PLC0415 - the engine; not for --help
    from workers.worker import Worker  # noqa: PLC0415

    running = Worker(**worker_options(settings), burst=burst)
    try:
        running.run()
    except SystemExit as stop:
        # `run` ends a program with one line about what stopped it; our `main` does so with a better exit code.
        if isinstance(stop.__context__, Exception):
            raise stop.__context__ from None
        raise
    return {
        "succeeded": running.jobs_complete,
        "retried": running.jobs_retried,
        "failed": running.jobs_failed,
    }
