"""Tasks that run outside the event loop, as the executor sees them: a plain `def` in a thread.

Owns the way from a decoded job to the pool that runs it, and that a worker without such tasks has none. What runs
under which name is runnables.py's, the pools are task_threads.py's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

from common.settings import Settings
from common.tasks import PlainTask, Task
from workers.runnables import Defaults, Runnable, TaskRunnable
from workers.task_threads import TaskThreads, ThreadContext

__all__ = ["ThreadRunnable", "task_runnables"]


class ThreadRunnable(TaskRunnable):
    """A `@task` on a plain `def`."""

    __slots__ = ()

    def __init__(self, task: Task[..., Any], defaults: Defaults, worker: str, threads: TaskThreads) -> None:
        super().__init__(task, defaults, worker)
        self.places = threads.places
        self._context = ThreadContext
        self._function = functools.partial(threads.run, task.function)


def task_runnables(
    tasks: Iterable[Task[..., Any]], defaults: Defaults, worker: str, settings: Settings, *, burst: bool
) -> list[Runnable]:
    """Return what runs these tasks, each by its kind.

    Args:
        burst: the worker is to end, and gives no job back for want of a place.
    """
    threads = TaskThreads(settings.threads)
    if burst:
        threads.places.most_waiting = math.inf
    return [
        ThreadRunnable(task, defaults, worker, threads)
        if isinstance(task, PlainTask)
        else _on_the_loop(task, defaults, worker)
        for task in tasks
    ]


def _on_the_loop(task: Task[..., Any], defaults: Defaults, worker: str) -> Runnable:
    if task.options.batch is None:
        return TaskRunnable(task, defaults, worker)
    # Imported here: most workers have no such task.
    from common.batches import BatchTask  # noqa: PLC0415
    from workers.batch_runs import BatchRunnable  # noqa: PLC0415

    assert isinstance(task, BatchTask)
    return BatchRunnable(task, defaults, worker)
