"""Settings that are read in a short-lived child, and handed over: what reads them, 10 MB, goes with it.

Owns when that can be done, and what travels between the two. Where it cannot, or fails for whatever reason, the process
reads them itself: nothing depends on it but memory.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from asyncio import _get_running_loop
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from common.errors import ConfigurationError
from common.queue_weights import WeightedQueues
from common.secret import Secret
from common.setting_fields import PlainSettings

__all__ = ["handed_over", "packed", "read_apart"]

_Plain = TypeVar("_Plain", bound=PlainSettings)


def read_apart(kind: type[_Plain]) -> _Plain:
    """Return settings as the environment and the files have them, read in a child where that can be done.

    Raises:
        ConfigurationError: a value is wrong, or a file; the words are those that the child found.
    """
    told = _ask_a_child(kind) if _may_fork() else None
    document = _understood(told) if told else {}
    if "wrong" in document:
        raise ConfigurationError(document["wrong"])
    return handed_over(kind, document["values"]) if "values" in document else kind()


def _understood(told: bytes) -> dict[str, Any]:
    """Return what the child said; nothing if it ended in the middle."""
    try:
        return dict(msgspec.msgpack.decode(told))
    except (msgspec.MsgspecError, TypeError, ValueError):
        return {}


def _may_fork() -> bool:
    """Whether a child is of use, and safe: of a process with threads it could inherit a lock that nobody frees."""
    return (
        hasattr(os, "fork")
        and "pydantic" not in sys.modules
        and threading.active_count() == 1
        and _get_running_loop() is None
    )


def _ask_a_child(kind: type[PlainSettings]) -> bytes | None:
    """Return what the child says, nothing if it says nothing; None if there can be none."""
    try:
        ours, its = os.pipe()
    except OSError:
        return None
    try:
        child = os.fork()
    except OSError:  # no more processes, or no memory for one
        os.close(ours)
        os.close(its)
        return None
    if child == 0:
        _answer(kind, its)
    os.close(its)
    try:
        with open(ours, "rb") as pipe:  # noqa: PTH123 - a descriptor
            told = pipe.read()
    finally:
        # Whoever set SIGCHLD aside has the system take it away.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
    return told


def _answer(kind: type[PlainSettings], pipe: int) -> NoReturn:
    """Read the settings, say them, and end, without any of what else this process would do at its end."""
    try:
        try:
            document: dict[str, Any] = {"values": packed(kind())}
        except ConfigurationError as error:
            document = {"wrong": str(error)}
        told = msgspec.msgpack.encode(document)
        while told:
            told = told[os.write(pipe, told) :]
    finally:
        os._exit(0)


def packed(settings: PlainSettings) -> dict[str, Any]:
    """Return what was set as msgpack can hold it; what is more than a number, a text or a list of texts says so."""
    return {name: _packed(value) for name, value in settings.given.items()}


def _packed(value: Any) -> Any:
    match value:
        case WeightedQueues():
            return {"queues": value.by_name()}
        case Secret():
            return {"secret": value.get_secret_value()}
        case Path():
            return {"path": str(value)}
    return value


def handed_over(kind: type[_Plain], values: dict[str, Any]) -> _Plain:
    """Return the settings that were packed."""
    return kind.of({name: _unpacked(value) for name, value in values.items()})


def _unpacked(value: Any) -> Any:
    match value:
        case {"queues": weights}:
            return WeightedQueues(weights)
        case {"secret": text}:
            return Secret(text)
        case {"path": text}:
            return Path(text)
        case list():
            return tuple(value)
    return value
