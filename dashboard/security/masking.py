"""What of jobs is shown: their arguments, results and errors may hold what is nobody's business.

Owns the rule. What comes out is plain data that JSON and a page can hold, whatever went in.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from common.tasks import registered_tasks
from dashboard.settings import DashboardSettings

__all__ = ["HIDDEN", "MASK", "Masking", "readable"]

MASK = "***"
"""Stands for what is masked by its key."""

HIDDEN = "(not shown)"
"""Stands for what is shown to nobody, by the rule "none"."""

_DEEPEST = 32
_MOST_ITEMS = 1000

_IN_URL = re.compile(r"(?P<scheme>://)[^/\s@:]{0,256}:[^/\s@]{0,1024}@")


class Masking:
    """Shows values by the rule of the settings.

    Args:
        settings: say how much is shown, and which keys are masked.
    """

    def __init__(self, settings: DashboardSettings) -> None:
        self._rule = settings.arguments
        self._characters = settings.longest_value
        self._keys = re.compile(settings.mask, re.IGNORECASE)
        # A key and what stands behind it, in a text: password=…, "token": "…", Authorization: Bearer …
        # It begins at the key, not at the word the key is part of: to look for that takes a square of the time.
        self._in_text = re.compile(
            rf"(?P<key>(?:{settings.mask})[\w.-]{{0,64}}[\"']?\s{{0,8}}[=:]\s{{0,8}})"
            r"(?:\"[^\"\n]*\"?|'[^'\n]*'?|(?:(?:bearer|basic|token)\s{1,8})?[^\s,;&)}\]\"']+)",
            re.IGNORECASE,
        )

    @property
    def shows_nothing(self) -> bool:
        """Whether arguments, results and errors are shown to nobody."""
        return self._rule == "none"

    def value(self, value: Any, *, whole: bool = False) -> Any:
        """Return an argument or a result as it is shown.

        Args:
            whole: leave long texts and lists as they are.
        """
        return HIDDEN if self._rule == "none" else self._shown(value, whole, 0)

    def arguments(self, task: str | None, values: Sequence[Any], *, whole: bool = False) -> list[Any]:
        """Return positional arguments as they are shown, masked by the names they have where the task is known here."""
        names = _parameters(task)
        named = zip([*names, *[""] * (len(values) - len(names))], values, strict=False)
        return [MASK if name and self._is_masked(name) else self.value(value, whole=whole) for name, value in named]

    def named(self, values: Mapping[str, Any], *, whole: bool = False) -> dict[str, Any]:
        """Return keyword arguments, or metadata, as they are shown; their names always are."""
        return {
            readable(str(name)): MASK if self._is_masked(str(name)) else self.value(value, whole=whole)
            for name, value in values.items()
        }

    def text(self, text: str, *, whole: bool = False) -> str:
        """Return the message of an error, or a traceback, as it is shown."""
        if self._rule == "none":
            return HIDDEN if text else ""
        left = 0 if whole else len(text) - self._characters
        if left > 0:  # first, so that nobody waits for what is not shown to be looked through
            text = text[: self._characters]
        if self._rule == "masked":
            text = _IN_URL.sub(rf"\g<scheme>{MASK}@", self._in_text.sub(rf"\g<key>{MASK}", text))
        return f"{readable(text)}… ({left:,} more characters)" if left > 0 else readable(text)

    def _is_masked(self, key: str) -> bool:
        return self._rule == "masked" and self._keys.search(key) is not None

    def _shown(self, value: Any, whole: bool, depth: int) -> Any:  # noqa: FBT001 - one way in
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if -(2**63) <= value < 2**64 else str(value)
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return self.text(value, whole=whole)
        if isinstance(value, bytes | bytearray | memoryview):
            return self.text(bytes(value).decode(errors="backslashreplace"), whole=whole)
        if depth >= _DEEPEST:
            return "(nested deeper)"
        if isinstance(value, Mapping):
            return self._mapping(value, whole, depth)
        if isinstance(value, Sequence | AbstractSet):
            return self._sequence(value, whole, depth)
        return self.text(str(value), whole=whole)

    def _mapping(self, value: Mapping[Any, Any], whole: bool, depth: int) -> dict[str, Any]:  # noqa: FBT001
        shown: dict[str, Any] = {}
        for number, (key, item) in enumerate(value.items()):
            name = readable(key if isinstance(key, str) else str(key))
            if number >= _MOST_ITEMS and not whole:
                shown["…"] = f"{len(value) - number:,} more"
                break
            shown[name] = MASK if self._is_masked(name) else self._shown(item, whole, depth + 1)
        return shown

    def _sequence(self, value: Sequence[Any] | AbstractSet[Any], whole: bool, depth: int) -> list[Any]:  # noqa: FBT001
        shown: list[Any] = []
        for number, item in enumerate(value):
            if number >= _MOST_ITEMS and not whole:
                shown.append(f"… {len(value) - number:,} more")
                break
            shown.append(self._shown(item, whole, depth + 1))
        return shown


def readable(text: str) -> str:
    """Return text with what UTF-8 has no form for written as backslashes: ids and names may be any bytes."""
    return text.encode(errors="backslashreplace").decode()


def _parameters(task: str | None) -> list[str]:
    """Return the names of a task's positional parameters, as far as its code is imported here; the context left out."""
    known = registered_tasks().get(task) if task is not None else None
    if known is None:
        return []
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return [each.name for each in known.signature.parameters.values() if each.kind in positional][1:]
