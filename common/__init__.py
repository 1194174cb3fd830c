"""What producers and workers share: tasks, settings, errors."""

from common.context import Context
from common.errors import BarqueError, Retry
from common.retry import NEVER, RetryPolicy, exponential, fixed, linear
from common.settings import Settings, load_settings
from common.tasks import Call, Task, task

__all__ = [
    "NEVER",
    "BarqueError",
    "Call",
    "Context",
    "Retry",
    "RetryPolicy",
    "Settings",
    "Task",
    "exponential",
    "fixed",
    "linear",
    "load_settings",
    "task",
]
