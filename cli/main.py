"""The `barque` command itself: its groups put together, and what an error means to a shell.

Owns `main`, the exit codes and `--version`. Importing this module, and `barque --help`, import neither the engine
nor a Redis client: each command imports what it needs when it runs.
"""

from __future__ import annotations

import inspect
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from cli.abort import abort
from cli.completing import heed_colons
from cli.config import config
from cli.dashboard import dashboard
from cli.dead import COMMANDS as DEAD_COMMANDS
from cli.dead import dead
from cli.demo.command import demo
from cli.doctor import doctor
from cli.enqueue import enqueue
from cli.exit_codes import FAILED, exit_code
from cli.health import health
from cli.init import init
from cli.jobs import job, jobs
from cli.limits import COMMANDS as LIMITS_COMMANDS
from cli.limits import limits
from cli.metrics import metrics
from cli.output import note
from cli.pause import pause, resume
from cli.purge import purge
from cli.queues import queues
from cli.reenqueue import reenqueue
from cli.reschedule import reschedule
from cli.result import result
from cli.schedules import COMMANDS as SCHEDULE_COMMANDS
from cli.schedules import schedules
from cli.server import redis
from cli.status import status
from cli.tail import tail
from cli.top import top
from cli.worker import worker
from cli.workers import workers

__all__ = ["app", "main"]

_NUMBER = re.compile(r"-\d")


class _PlainFlags(TyperCommand):
    """A command whose help shows no type beside a flag: `--json`, where Typer alone says `--json <bool>`."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # Typer has Click's errors under a private name
            if _NUMBER.match(getattr(error, "option_name", "")) and isinstance(message := vars(error)["message"], str):
                vars(error)["message"] = f"{message}. A negative number goes behind a `--`: barque … -- -1"
            raise


class _PlainFlagsGroup(TyperGroup):
    """The same for `barque` itself."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))


def _without_types(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


app = typer.Typer(
    name="barque",
    cls=_PlainFlagsGroup,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _help(function: Callable[..., None]) -> str:
    """Return a docstring as help: each paragraph one line, for any width; one after Click's mark as it is."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(
        part.replace("\\b", "\b", 1) if part.startswith("\\b\n") else " ".join(part.split()) for part in paragraphs
    )


def _add_group(group: Callable[..., None], commands: Mapping[str, Callable[..., None]]) -> None:
    """Add commands under the name of the function whose docstring tells of them all."""
    made = typer.Typer(cls=_PlainFlagsGroup, help=_help(group), no_args_is_help=True)
    for name, command in commands.items():
        made.command(name, cls=_PlainFlags, help=_help(command))(command)
    app.add_typer(made, name=group.__name__)


for _command in (
    worker,
    enqueue,
    result,
    status,
    jobs,
    job,
    top,
    tail,
    workers,
    queues,
    pause,
    resume,
    abort,
    purge,
    reenqueue,
    reschedule,
    metrics,
    health,
    dashboard,
    redis,
    config,
    doctor,
    demo,
    init,
):
    app.command(cls=_PlainFlags, help=_help(_command))(_command)
_add_group(schedules, SCHEDULE_COMMANDS)
_add_group(dead, DEAD_COMMANDS)
_add_group(limits, LIMITS_COMMANDS)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code.

    Args:
        arguments: what comes after the program's name; `sys.argv` by default.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal whose encoding lacks a character shows its number, rather than ending the command.
        sys.stdout.reconfigure(errors="backslashreplace")
    if "_BARQUE_COMPLETE" in os.environ:
        _complete()
    given, debug = _take_debug(list(sys.argv[1:] if arguments is None else arguments))
    try:
        app(given, prog_name="barque")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        code = exit_code(error)
        if debug or code is None:
            traceback.print_exc()
        if code is None:
            note(
                f"barque: an error of Barque's own, not of yours: {type(error).__name__}. Please report it "
                "with the lines above, once you have taken out what is secret"
            )
            sys.exit(FAILED)
        note(f"barque: {error}")
        sys.exit(code)
    sys.exit(0)


def _complete() -> NoReturn:
    """Tell a shell what may follow, whatever happens: an error amid what somebody types helps nobody."""
    heed_colons(os.environ)
    code = FAILED
    try:
        app([], prog_name="barque")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else FAILED
    except BaseException:  # noqa: S110 - also Ctrl-C
        pass
    sys.stdout.flush()
    os._exit(code)  # without waiting for a server that has not answered in time


def _barque(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the versions of Barque, Python and arq, and exit.")
    ] = False,
    debug: Annotated[  # noqa: ARG001 - `main` takes it from any place; it stands here to be seen in --help
        bool, typer.Option("--debug", help="Show the traceback of an error, too. Also: BARQUE_DEBUG=1.")
    ] = False,
) -> None:
    r"""Enqueue jobs, run workers, and see how they are doing.

    Settings are environment variables (BARQUE_REDIS_URL and so on), lines of a .env file or keys of barque.toml;
    `barque config` lists them. With --json a command prints JSON on stdout and nothing else there; what is meant for
    people goes to stderr.

    \b
    Start here, each line in a terminal of its own:
      barque redis
      barque worker
      barque enqueue checksum_file README.md --wait
      barque status

    \b
    Exit codes:
      0    done
      1    failed: the job failed, or is not there; `doctor` found a fault
      2    wrong usage, or a setting is wrong
      3    the server cannot be reached, or refuses us
      4    the job has no result yet
      130  interrupted (Ctrl-C)
    """
    if version:
        typer.echo(_versions())
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.callback(invoke_without_command=True, help=_help(_barque))(_barque)


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Return the arguments without `--debug`, which may stand anywhere before a `--`, and whether it was there."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    asked = len(options) < end or os.environ.get("BARQUE_DEBUG", "").lower() in {"1", "true", "yes", "on"}
    return options + arguments[end:], asked


def _versions() -> str:
    import platform  # noqa: PLC0415 - see the top of this file
    from importlib import metadata  # noqa: PLC0415

    def of(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a source tree that is not installed
            return "(not installed)"

    return f"barque {of('barque')}, Python {platform.python_version()}, arq {of('arq')}"
