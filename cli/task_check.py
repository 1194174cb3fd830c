"""Whether a call typed on a command line can succeed: is there such a task, and does it take these arguments.

Owns the check before a job is enqueued; the worker makes the same one on the arguments that arrive.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Sequence
from typing import Any

from cli.output import note
from common.errors import ArgumentMismatch, ConfigurationError, DuplicateTask
from common.settings import Settings
from common.tasks import Call, Task, import_tasks
from common.values import encode

__all__ = ["check_call"]

_KEYWORD = re.compile(r"([A-Za-z_]\w*)=")
_TEXT_WAS_EXPECTED = re.compile(r"argument (\w+)(\[\d+\])?: Expected `(?:[^`]*\W)?str(?:\W[^`]*)?`, got `(?!str`)")


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
    for name in _like_keywords(call):
        if name in task.signature.parameters:
            note(f"Note: {name}=… travels as a positional argument; keyword arguments go as `-k {name}=…`.")
    call.task = task
    return call


def _check_arguments(call: Call[Any], task: Task[Any, Any]) -> None:
    positional = encode(list(call.args), what="arguments")
    keyword = encode(call.kwargs, what="keyword arguments")
    try:
        task.arguments.read(positional, keyword)
    except ArgumentMismatch as error:
        raise ArgumentMismatch(f"{error}{_hint(call, task, str(error))}. Nothing was enqueued") from None


def _hint(call: Call[Any], task: Task[Any, Any], complaint: str) -> str:
    """Return what is most likely meant by arguments a task does not take, or "".

    An argument's value is not repeated, the name before its `=` is.
    """
    taken = task.signature.parameters
    text = _TEXT_WAS_EXPECTED.search(complaint)
    # An argument as a whole, or one of *args; not a part of a list: --raw would make the whole list a text.
    if text and (text[2] is None or taken[text[1]].kind is inspect.Parameter.VAR_POSITIONAL):
        return ". What is JSON is not read as text: add --raw, or quotes: '\"5\"'"
    names = _like_keywords(call)
    # Those the task takes are surely meant; others only if there are too many arguments with them.
    meant = [name for name in names if name in taken] or (names if "positional argument" in complaint else [])
    return f"; keyword arguments go as `-k {meant[0]}=…`" if meant else ""


def _like_keywords(call: Call[Any]) -> list[str]:
    """Return the names before the `=` of positional arguments that look like `name=value`."""
    return [found[1] for value in call.args if isinstance(value, str) and (found := _KEYWORD.match(value))]


def _unknown(name: str, known: Sequence[str], modules: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    meant = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known) or 'none'}."
    return (
        f"no task is called {name!r} in {', '.join(modules)}; {meant} Name the modules of your tasks with --tasks or "
        "BARQUE_TASKS, or enqueue by name where their code is not: --no-check"
    )
