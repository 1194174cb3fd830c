"""What producers and workers share: tasks, settings, errors.

What few programs use (`cron`, `every`, `schedule`, `BatchContext`, `Resources`) is looked up lazily (PEP 562), so that
the others do not import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.context import Context
from common.errors import BarqueError, Discard, Retry, Snooze
from common.limits import CircuitBreaker, ConcurrencyLimit, RateLimit
from common.middleware import AttemptCall, Middleware, Proceed, middleware
from common.resources import Resource, lifespan
from common.retry import NEVER, RetryPolicy, RetryRule, exponential, fixed, linear
from common.settings import Settings, load_settings
from common.tasks import Call, Task, task
from common.uniqueness import Debounce, Throttle, Unique

if TYPE_CHECKING:
    from common.batches import BatchContext
    from common.open_resources import Resources
    from common.schedules import cron, every, schedule

__all__ = [
    "NEVER",
    "AttemptCall",
    "BarqueError",
    "BatchContext",
    "Call",
    "CircuitBreaker",
    "ConcurrencyLimit",
    "Context",
    "Debounce",
    "Discard",
    "Middleware",
    "Proceed",
    "RateLimit",
    "Resource",
    "Resources",
    "Retry",
    "RetryPolicy",
    "RetryRule",
    "Settings",
    "Snooze",
    "Task",
    "Throttle",
    "Unique",
    "cron",
    "every",
    "exponential",
    "fixed",
    "lifespan",
    "linear",
    "load_settings",
    "middleware",
    "schedule",
    "task",
]


def __getattr__(name: str) -> Any:
    if name in {"cron", "every", "schedule"}:
        from common import schedules  # noqa: PLC0415 - lazy by design, see above

        return getattr(schedules, name)
    if name == "BatchContext":
        from common.batches import BatchContext  # noqa: PLC0415 - as above

        return BatchContext
    if name == "Resources":
        from common.open_resources import Resources  # noqa: PLC0415 - as above

        return Resources
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
