"""What producers and workers share: tasks, settings, errors.

`cron`, `every` and `schedule` are looked up lazily (PEP 562): a program that schedules nothing does not import them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.context import Context
from common.errors import BarqueError, Retry
from common.retry import NEVER, RetryPolicy, exponential, fixed, linear
from common.settings import Settings, load_settings
from common.tasks import Call, Task, task

if TYPE_CHECKING:
    from common.schedules import cron, every, schedule

__all__ = [
    "NEVER",
    "BarqueError",
    "Call",
    "Context",
    "Retry",
    "RetryPolicy",
    "Settings",
    "Task",
    "cron",
    "every",
    "exponential",
    "fixed",
    "linear",
    "load_settings",
    "schedule",
    "task",
]


def __getattr__(name: str) -> Any:
    if name in {"cron", "every", "schedule"}:
        from common import schedules  # noqa: PLC0415 - lazy by design, see above

        return getattr(schedules, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
