"""What a supervisor hands to a worker process it starts, by an environment variable that the process takes out.

Owns its name and form: JSON with `fd`, the process's end of the sockets; `process`, its number; `page`, where the
metrics of all are; and `core`, where it is to keep to one.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

__all__ = ["VARIABLE", "Handover", "take"]

VARIABLE = "BARQUE_WORKER_PROCESS"


@dataclass(frozen=True, slots=True)
class Handover:
    """What this process was handed."""

    fd: int
    process: int
    page: str = ""
    core: int | None = None


def take() -> Handover | None:
    """Return what this process was handed by a supervisor; None where it has none.

    It is gone from the environment then: a program that a task starts has nothing to do with it.
    """
    handed = os.environ.pop(VARIABLE, None)
    if handed is None:
        return None
    found = Handover(**json.loads(handed))
    os.set_inheritable(found.fd, False)
    return found
