"""The options that several commands share, and the settings they add up to."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.values import seconds

if TYPE_CHECKING:
    from common.settings import Settings

__all__ = ["Json", "Queues", "RedisUrl", "Tasks", "WaitTimeout", "add_current_folder", "read_settings"]

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
