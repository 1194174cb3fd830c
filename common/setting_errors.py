"""What is wrong with a setting, in plain words: pydantic's complaints, told to who wrote the value.

Owns the wording; which values are right stands with each field in settings.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from common.durations import as_duration, read_seconds

__all__ = ["in_plain_words"]

_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}

_NO_TEXTS = 'give a list of texts, in quotes: ["a", "b"]'
_NO_TEXT = {"string_type": "give text, in quotes", "path_type": "give a path, in quotes", "tuple_type": _NO_TEXTS}
"""What only a file of types or a program can get wrong: a variable is always text."""


def in_plain_words(error: ValidationError, fields: Mapping[str, FieldInfo], places: Mapping[str, str]) -> str:
    """Return all that is wrong, as one line that names each place, such as `BARQUE_LEASE: …; BARQUE_TASKS: …`.

    Values are quoted where they ought to be numbers, times, yes or no, or one of a few words: never where a secret
    belongs.

    Args:
        places: where each setting was written.
    """
    lines = []
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else "?"
        lines.append(f"{places.get(name, name)}: {_describe(problem, fields.get(name))}")
    return "; ".join(dict.fromkeys(lines))  # each wrong item of a list is a complaint of its own


def _describe(problem: Any, field: FieldInfo | None) -> str:
    kind, given = problem["type"], _quote(problem["input"])
    if kind == "value_error":
        return str(problem["ctx"]["error"])
    if field is not None and kind in _RANGE:
        if field.annotation is float:
            # Depending on where the bound stands, pydantic has the text or what was read from it.
            found = problem["input"]
            given = as_duration(read_seconds(found) if isinstance(found, str) else found)
        return f"{given} is out of range: give {_range(field)}"
    if field is not None and kind in {"int_parsing", "int_from_float", "int_type", "int_parsing_size"}:
        return f"{given} is no whole number: give {_range(field)}"
    if kind in {"float_parsing", "float_type"}:
        return f"{given} is no number"
    if kind in {"bool_parsing", "bool_type"}:
        return f"{given} is neither true nor false"
    if kind == "literal_error":
        return f"{given} is none of its values: give {problem['ctx']['expected'].replace(chr(39), '')}"
    if kind in _NO_TEXT:
        return _NO_TEXT[kind] if len(problem["loc"]) == 1 else _NO_TEXTS
    message: str = problem["msg"]
    return message.removeprefix("Input should be ").replace("a valid", "give a valid", 1)


def _range(field: FieldInfo) -> str:
    """Return the values a numeric field takes: `a whole number from 1 to 100`, `a time above 0s, at most 365d`."""
    timed = field.annotation is float
    # pydantic keeps a field's bounds as objects with one attribute each, named as the argument of Field was.
    bounds = {name: getattr(it, name) for it in field.metadata for name in ("ge", "gt", "le") if hasattr(it, name)}

    def show(name: str) -> str:
        return as_duration(bounds[name]) if timed else str(bounds[name])

    what = "a time" if timed else "a whole number"
    if "gt" in bounds:
        what += f" above {show('gt')}"
        return f"{what}, at most {show('le')}" if "le" in bounds else what
    if "ge" in bounds:
        what += f" from {show('ge')}"
        return f"{what} to {show('le')}" if "le" in bounds else f"{what} up"
    return what


def _quote(value: Any) -> str:
    """Return a value as one would have written it, cut short: a slip of the clipboard can be long."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
