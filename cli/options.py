"""The options that several commands share, and the settings they add up to."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.completing import queue_list, queue_names, task_names
from cli.values import moment, seconds

if TYPE_CHECKING:
    from common.settings import Settings

__all__ = [
    "At",
    "CheckCall",
    "Delay",
    "JobId",
    "JobIds",
    "JobTimeout",
    "Json",
    "Keywords",
    "LookedAtQueues",
    "OfTask",
    "Positional",
    "Queues",
    "Raw",
    "RedisUrl",
    "TaskName",
    "TaskQueue",
    "Tasks",
    "WaitTimeout",
    "Yes",
    "add_current_folder",
    "read_settings",
]

RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        metavar="URL",
        help="The server, instead of BARQUE_REDIS_URL. A password is better kept in BARQUE_REDIS_PASSWORD: other "
        "users see the arguments of a command.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Queues = Annotated[
    str | None,
    typer.Option(
        "--queues",
        metavar="A,B",
        help="Queues, the first one first, or high=6,low=1 by weight, instead of BARQUE_QUEUES.",
        autocompletion=queue_list,
    ),
]
LookedAtQueues = Annotated[
    str | None,
    typer.Option(
        "--queues",
        metavar="A,B",
        help="Queues to look at, instead of BARQUE_QUEUES and those that workers serve.",
        autocompletion=queue_list,
    ),
]
TaskQueue = Annotated[
    str | None,
    typer.Option(
        "--queue",
        metavar="QUEUE",
        help="Instead of the task's own, or the first of BARQUE_QUEUES.",
        autocompletion=queue_names,
    ),
]
Tasks = Annotated[
    str | None,
    typer.Option(
        "--tasks",
        metavar="MODULE,MODULE",
        help="Modules to import, whose tasks register, instead of BARQUE_TASKS. The current folder is looked in, too.",
    ),
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.", show_default=False)]
JobIds = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Jobs, by their ids.", show_default=False)]
OfTask = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="NAME",
        help="Those of this task; * and ? stand for any characters.",
        autocompletion=task_names,
    ),
]
TaskName = Annotated[
    str, typer.Argument(metavar="TASK", help="The task's name.", show_default=False, autocompletion=task_names)
]
Positional = Annotated[
    list[str] | None,
    typer.Argument(metavar="ARGS", help="Positional arguments: JSON where one is JSON, else text."),
]
Keywords = Annotated[
    list[str] | None,
    typer.Option("--kwargs", "-k", metavar="KEY=VALUE", help="A keyword argument; repeat it for each."),
]
Raw = Annotated[bool, typer.Option("--raw", help="Take all arguments as text, none as JSON.")]
CheckCall = Annotated[
    bool,
    typer.Option(
        "--check/--no-check",
        help="Check name and arguments against the tasks of BARQUE_TASKS; --no-check where their code is not.",
    ),
]
Delay = Annotated[
    float | None,
    typer.Option("--delay", metavar="TIME", parser=seconds, help="Due after this: seconds, or 90s, 5m, 2h, 1d."),
]
At = Annotated[
    datetime | None,
    typer.Option("--at", metavar="WHEN", parser=moment, help="Due then: 2030-01-31T08:00Z; local time without a zone."),
]
JobTimeout = Annotated[
    float | None,
    typer.Option("--job-timeout", metavar="TIME", parser=seconds, help="What one attempt may take."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
WaitTimeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        parser=seconds,
        help="With --wait: how long to wait, in seconds or as 90s, 5m, 2h. The job goes on afterwards.",
        show_default="as long as it takes",
    ),
]


def read_settings(**options: Any) -> Settings:
    """Return the settings of the environment, with the options given on the command line on top.

    Args:
        **options: settings by name; None leaves one alone.

    Raises:
        ConfigurationError: one is wrong; the message names its variable.
    """
    from common.settings import load_settings  # noqa: PLC0415 - brings in pydantic; not for --help

    return load_settings(**options)


def add_current_folder() -> None:
    """Let modules of the current folder be imported, last: as `arq` does, and nothing installed is shadowed."""
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds texts
    if folder not in sys.path:
        sys.path.append(folder)
