"""The hook by which arq's own command line starts Barque's engine.

`arq workers.WorkerSettings` imports `workers`, looks `WorkerSettings` up, and builds whatever class
`arq.worker.Worker` names. Looking it up runs `resolve`, which rebinds that name.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import arq.worker

from common.errors import BarqueError
from workers.worker import Worker

__all__ = ["resolve"]


def resolve() -> type[Any]:
    """Make `arq.worker.Worker` Barque's, and return `WorkerSettings`."""
    arq.worker.Worker = Worker  # type: ignore[misc]  # the point of this file
    try:
        from workers.settings import WorkerSettings  # noqa: PLC0415 - reads the environment, so only when asked
    except BarqueError as error:
        if Path(sys.argv[0]).name in {"arq", "arq.exe"}:
            # On arq's command line a wrong setting is one readable line.
            sys.exit(f"barque: {error}")
        raise
    return WorkerSettings
