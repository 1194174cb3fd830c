"""`barque worker`: the engine that `arq workers.WorkerSettings` starts, with settings as options."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cli.completing import one_of
from cli.options import Json, Queues, RedisUrl, Tasks, add_current_folder, read_settings
from cli.output import machine
from cli.values import processes, seconds, size

if TYPE_CHECKING:
    from common.settings import Settings
    from workers.supervisor.child import Line

__all__ = ["worker"]


def worker(
    *,
    burst: Annotated[bool, typer.Option("--burst", help="Stop when the queues are empty.")] = False,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="While developing: start anew when the code has changed. Needs the extra watch."),
    ] = False,
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
    process_count: Annotated[
        int | None,
        typer.Option(
            "--processes",
            "-p",
            metavar="N",
            parser=processes,
            help="So many processes, and one that looks after them, instead of BARQUE_PROCESSES; auto: one a core.",
        ),
    ] = None,
    max_jobs: Annotated[
        int | None,
        typer.Option("--max-jobs", metavar="N", min=0, help="Replace a process once it has had about so many jobs."),
    ] = None,
    max_memory: Annotated[
        int | None,
        typer.Option(
            "--max-memory", metavar="SIZE", parser=size, help="Replace a process once it holds about so much: 512M, 2G."
        ),
    ] = None,
    cpu_affinity: Annotated[
        bool, typer.Option("--cpu-affinity", help="Keep each of the processes to a core of its own.")
    ] = False,
    redis_url: RedisUrl = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            "--log-level",
            metavar="LEVEL",
            help="DEBUG, INFO, WARNING, ERROR or CRITICAL.",
            autocompletion=one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        ),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(
            "--log-format",
            metavar="FORMAT",
            help="json, console, or auto: console on a terminal.",
            autocompletion=one_of("json", "console", "auto"),
        ),
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

    A process uses one core. With --processes a supervisor starts several and looks after them: one that dies is started
    again, one that has had --max-jobs or holds --max-memory is replaced once another one is ready, and SIGHUP replaces
    all, one after the other, with code and settings as they are then. Signals to it are meant for all. There is one
    page for metrics and probes (BARQUE_METRICS_PORT).

    Log lines go to stderr. With --json the counts of the run are printed on stdout at its end.

    \b
    Examples:
      barque worker --tasks my_app.tasks
      barque worker --queues high,arq:queue --concurrency 500
      barque worker --burst --log-format json
      barque worker --processes auto --max-memory 1G
      barque worker --reload --tasks my_app.tasks
    """
    options = {
        "queues": queues,
        "tasks": tasks,
        "concurrency": concurrency,
        "shutdown_grace": shutdown_grace,
        "processes": process_count,
        "max_jobs": max_jobs,
        "max_memory": max_memory,
        "cpu_affinity": cpu_affinity or None,
        "redis_url": redis_url,
        "log_level": log_level.upper() if log_level else None,
        "log_format": log_format,
        "log_file": log_file,
    }
    # As variables, because all that runs in this process reads those: tasks that ship, processes for computing.
    os.environ.update({f"BARQUE_{name.upper()}": str(value) for name, value in options.items() if value is not None})
    add_current_folder()
    from common.settings import settings_for_process  # noqa: PLC0415 - not for --help

    settings = settings_for_process()
    line = _line_to_supervisor()
    if line is None and (reload or settings.processes != 1 or settings.max_jobs or settings.max_memory):
        _supervise(settings, burst=burst, watch=reload, as_json=as_json)
    counts = _run(settings, line, burst=burst)
    if line is not None:
        line.counted(counts)
    elif as_json:
        machine(counts)


def _line_to_supervisor() -> Line | None:
    """Return the line to the supervisor that has started this process; None where none has."""
    if "BARQUE_WORKER_PROCESS" not in os.environ:
        return None
    from workers import farewell  # noqa: PLC0415 - see below
    from workers.supervisor.child import Line  # noqa: PLC0415 - for one of several processes
    from workers.supervisor.handover import take  # noqa: PLC0415

    farewell.leave_it_to_the_supervisor()
    handed = take()
    return None if handed is None else Line(handed)


def _supervise(settings: Settings, *, burst: bool, watch: bool, as_json: bool) -> NoReturn:
    """Run worker processes until they have ended, and end this one as they did."""
    if burst and watch:
        raise typer.BadParameter("a burst ends by itself: choose one of the two", param_hint="--burst, --reload")
    from common.errors import ConfigurationError  # noqa: PLC0415 - see the top of main.py
    from common.logs import configure_logs  # noqa: PLC0415
    from workers.supervisor.cores import can_pin  # noqa: PLC0415
    from workers.supervisor.supervisor import Supervisor  # noqa: PLC0415

    if settings.cpu_affinity and not can_pin():
        raise ConfigurationError(
            "BARQUE_CPU_AFFINITY: this platform does not let a process be kept to a core; leave it out"
        )
    configure_logs(settings)
    # As this process was started: the same interpreter and its options, the same script or module, the same arguments.
    command = [sys.executable, *sys.orig_argv[1:]]
    ended = Supervisor(settings, command, settings_again=read_settings, burst=burst, watch=watch).run()
    if as_json and ended.code == 0:
        machine({"succeeded": 0, "retried": 0, "failed": 0} | ended.counts)
    raise typer.Exit(ended.code)


def _run(settings: Settings, line: Line | None, *, burst: bool) -> dict[str, int]:
    """Run a worker to its end and return how many attempts ended how."""
    from workers.settings import worker_options  # noqa: PLC0415 - the engine; not for --help
    from workers.worker import Worker  # noqa: PLC0415

    running = Worker(**worker_options(settings), burst=burst)
    if line is not None:
        running.watching.line = line
        line.begin(settings, running.worker_id, running)
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
