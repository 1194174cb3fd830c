"""An exception as words: its type, its message and its traceback, bounded, whatever the exception is made of.

Owns what of an exception leaves the process. Knows nothing of attempts.
"""

from __future__ import annotations

import collections
import contextlib
import traceback

from common.jobs import RemoteError

__all__ = ["describe", "frames_of", "raised_elsewhere"]

_OUR_FRAMES = (
    "executor.py",
    "verdicts.py",
    "runnables.py",
    "stepping.py",
    "task_threads.py",
    "batch_runs.py",
    "workers/tracing.py",
    "workers/sentry.py",
    "workers/log_context.py",
    "workers/kept_logs.py",
)

_ELSEWHERE = "_barque_traceback"

_MOST_FRAMES = 8
_LONGEST_NAME = 160
_LONGEST_TEXT = 64 * 1024
"""Characters of an exception's message, and of its traceback, that are kept."""


def describe(error: BaseException, *, with_traceback: bool = True) -> RemoteError:
    """Return an exception as words, its traceback from the task's own frame on; never raises."""
    kind = type(error)
    try:
        name = f"{kind.__module__}.{kind.__qualname__}"
    except BaseException:  # here as below: a user's own type may raise anything, even what ends programs
        name = "builtins.Exception"
    try:
        message = _cut(str(error))
    except BaseException:
        message = "<its text cannot be shown>"
    return RemoteError(name, message, _traceback(kind, error) if with_traceback else "")


def raised_elsewhere(error: BaseException, words: str) -> None:
    """Note the traceback of an exception that was raised in another process, in words: it has no frames here."""
    with contextlib.suppress(Exception):  # a user's own type
        setattr(error, _ELSEWHERE, words)


def frames_of(error: BaseException) -> str:
    """Return the innermost frames an exception went through, as a traceback shows them but without their source.

    That costs a microsecond where a whole traceback costs a hundred: what is tried again may fail often.
    """
    words = getattr(error, _ELSEWHERE, None)
    if isinstance(words, str):
        lines = [line for line in words[-_LONGEST_TEXT:].splitlines() if line.startswith('  File "')]
        return "".join(f"{line[: 2 * _LONGEST_NAME]}\n" for line in lines[-_MOST_FRAMES:])
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.endswith(_OUR_FRAMES):
        frames = frames.tb_next
    found: collections.deque[str] = collections.deque(maxlen=_MOST_FRAMES)
    while frames is not None:
        code = frames.tb_frame.f_code
        name, function = code.co_filename[-_LONGEST_NAME:], code.co_qualname[:_LONGEST_NAME]
        found.append(f'  File "{name}", line {frames.tb_lineno}, in {function}\n')
        frames = frames.tb_next
    return "".join(found)


def _traceback(kind: type[BaseException], error: BaseException) -> str:
    words = getattr(error, _ELSEWHERE, None)
    if isinstance(words, str):
        return _cut(words)
    frames = error.__traceback__
    if frames is None:
        return ""
    # The first frames are ours; the reader wants the task's.
    while frames.tb_next is not None and frames.tb_frame.f_code.co_filename.endswith(_OUR_FRAMES):
        frames = frames.tb_next
    try:
        return _cut("".join(traceback.format_exception(kind, error, frames)))
    except BaseException:  # notes that raise, a SyntaxError without a text, causes past the recursion limit
        where = "".join(traceback.format_tb(frames))
        return _cut(f"Traceback (most recent call last):\n{where}<the rest cannot be shown>\n")


def _cut(text: str) -> str:
    """Return at most about `_LONGEST_TEXT` characters: the beginning and the end; a plain str in any case."""
    half = _LONGEST_TEXT // 2
    left_out = len(text) - 2 * half
    if left_out <= 0:
        return str.__getitem__(text, slice(None))
    return f"{text[:half]}… {left_out:,} characters left out …{text[-half:]}"
