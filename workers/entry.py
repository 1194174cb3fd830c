"""The hook by which arq's own command line starts Barque's engine.

`arq workers.WorkerSettings` imports `workers`, looks `WorkerSettings` up, and builds whatever class
`arq.worker.Worker` names. Looking it up runs `resolve`, which rebinds that name. A program that keeps its own
settings class for arq calls `install` where it defines it.
"""

from __future__ import annotations

import contextlib
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
    _take_arq_from_sentry()


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
    _take_arq_from_sentry()  # a module with tasks may have set it up
    return WorkerSettings


def _take_arq_from_sentry() -> None:
    """Switch off Sentry's integration for arq, which its SDK enables by itself wherever arq is installed.

    It makes an arq function of whatever stands among a worker's functions, and knows no tasks: a worker with any would
    not start. What it is for, workers/sentry.py does.
    """
    sdk = sys.modules.get("sentry_sdk")
    if sdk is not None:
        with contextlib.suppress(Exception):  # an SDK of another version
            sdk.get_client().integrations.pop("arq", None)
