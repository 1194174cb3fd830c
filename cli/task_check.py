"""Whether a call typed on a command line can succeed: is there such a task, and does it take these arguments.

Owns the check before a job is enqueued; the worker makes the same one on the arguments that arrive.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from cli.output import note
from common.errors import ArgumentMismatch, ConfigurationError, DuplicateTask
from common.settings import Settings
from common.tasks import Call, Task, import_tasks
from common.values import encode

__all__ = ["check_call"]


def check_call(call: Call[Any], settings: Settings, *, must_import: bool) -> Call[Any]:
    """Return the call, bound to its task, so that the task's own queue is used.

    Args:
        must_import: whether modules that cannot be imported are an error. If not, nothing is checked then, and
            people are told so: a machine that only enqueues may share its settings with those that have the code.

    Raises:
        ConfigurationError: no task has this name; the message names the nearest.
        ArgumentMismatch: the task does not take these arguments.
        NotSerializable: an argument has no form on the wire.
    """
    try:
        tasks = import_tasks(settings.tasks)
    except ConfigurationError as error:
        if must_import or isinstance(error, DuplicateTask):
            raise
        note(f"Not checked, enqueued by name all the same (--no-check does without this line): {error}")
        return call
    task = tasks.get(call.name)
    if task is None:
        raise ConfigurationError(_unknown(call.name, sorted(tasks), settings.tasks))
    _check_arguments(call, task)
    call.task = task
    return call


def _check_arguments(call: Call[Any], task: Task[Any, Any]) -> None:
    positional = encode(list(call.args), what="arguments")
    keyword = encode(call.kwargs, what="keyword arguments")
    try:
        task.arguments.read(positional, keyword)
    except ArgumentMismatch as error:
        typed = any(not isinstance(value, str) for value in (*call.args, *call.kwargs.values()))
        hint = ". What is JSON is not read as text: add --raw, or quotes: '\"5\"'" if typed else ""
        raise ArgumentMismatch(f"{error}{hint}. Nothing was enqueued") from None


def _unknown(name: str, known: Sequence[str], modules: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    meant = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known) or 'none'}."
    return (
        f"no task is called {name!r} in {', '.join(modules)}; {meant} Name the modules of your tasks with --tasks or "
        "BARQUE_TASKS, or enqueue by name where their code is not: --no-check"
    )
