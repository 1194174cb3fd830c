"""The hook by which arq's own command line starts Barque's engine.

`arq workers.WorkerSettings` imports `workers`, looks `WorkerSettings` up, and builds whatever class
`arq.worker.Worker` names. Looking it up runs `resolve`, which rebinds that name. A program that keeps its own
settings class for arq calls `install` where it defines it.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import arq.worker

from common.errors import BarqueError
from workers.worker import Worker

__all__ = ["install", "resolve"]


def install() -> None:
    """Make arq's command line, `run_worker` and `create_worker` build Barque's `Worker`, for any settings class.

    What Barque logs then goes where arq's own lines go, unless the settings class asks for more.
    """
    arq.worker.Worker = Worker  # type: ignore[misc]  # the point of this file
    logging.getLogger("barque").parent = logging.getLogger("arq")


def resolve() -> type[Any]:
    """Make `arq.worker.Worker` Barque's, and return `WorkerSettings`."""
    install()
    try:
        from workers.settings import WorkerSettings  # noqa: PLC0415 - reads the environment, so only when asked
    except BarqueError as error:
        program = Path(sys.argv[0])
        if program.stem == "arq" or program.parent.name == "arq":  # the script, or python -m arq
            # On arq's command line a wrong setting is one readable line, and the exit code is `barque worker`'s.
            print(f"barque: {error}", file=sys.stderr)  # noqa: T201
            sys.exit(2)
        raise
    return WorkerSettings
