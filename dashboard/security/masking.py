"""What of jobs is shown: their arguments, results and errors may hold what is nobody's business.

Owns the rule. What comes out is plain data that JSON and a page can hold, whatever went in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from dashboard.settings import DashboardSettings

__all__ = ["HIDDEN", "MASK", "Masking", "readable"]

MASK = "***"
HIDDEN = "(not shown: BARQUE_DASHBOARD_ARGUMENTS=none)"

_DEEPEST = 32
_MOST_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class _Limits:
    characters: int
    items: int


class Masking:
    """Shows values by the rule of the settings.

    Args:
        settings: say how much is shown, and which keys are masked.
    """

    def __init__(self, settings: DashboardSettings) -> None:
        self._rule = settings.arguments
        self._cut = _Limits(settings.longest_value, _MOST_ITEMS)
        self._keys = re.compile(settings.mask, re.IGNORECASE)
        # A key and what stands behind it, in a text: password=…, "token": "…", Authorization: Bearer …
        self._in_text = re.compile(
            rf"(?P<key>[\w.-]*(?:{settings.mask})[\w.-]*[\"']?\s*[=:]\s*)"
            r"(?P<value>\"[^\"]*\"|'[^']*'|(?:(?:bearer|basic|token)\s+)?[^\s,;&)}\]]+)",
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
        if self._rule == "none":
            return HIDDEN
        return self._shown(value, None if whole else self._cut, 0)

    def values(self, named: Mapping[str, Any], *, whole: bool = False) -> dict[str, Any]:
        """Return keyword arguments, or metadata, as they are shown; their names always are."""
        return {
            readable(str(name)): MASK if self._is_masked(str(name)) else self.value(value, whole=whole)
            for name, value in named.items()
        }

    def text(self, text: str, *, whole: bool = False) -> str:
        """Return the message of an error, or a traceback, as it is shown."""
        if self._rule == "none":
            return HIDDEN if text else ""
        if self._rule == "masked":
            text = self._in_text.sub(rf"\g<key>{MASK}", text)
        return readable(text) if whole else _cut(readable(text), self._cut.characters)

    def _is_masked(self, key: str) -> bool:
        return self._rule != "all" and self._keys.search(key) is not None

    def _shown(self, value: Any, limits: _Limits | None, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if -(2**63) <= value < 2**64 else str(value)
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return self.text(value, whole=limits is None)
        if depth >= _DEEPEST:
            return "(nested deeper)"
        if isinstance(value, Mapping):
            return self._mapping(value, limits, depth)
        if isinstance(value, Sequence | AbstractSet) and not isinstance(value, bytes | bytearray | memoryview):
            return self._sequence(value, limits, depth)
        if isinstance(value, bytes | bytearray | memoryview):
            return _cut(bytes(value).decode(errors="backslashreplace"), None if limits is None else limits.characters)
        return self.text(str(value), whole=limits is None)

    def _mapping(self, value: Mapping[Any, Any], limits: _Limits | None, depth: int) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for number, (key, item) in enumerate(value.items()):
            name = readable(key if isinstance(key, str) else str(key))
            if limits is not None and number >= limits.items:
                shown["…"] = f"{len(value) - number} more"
                break
            shown[name] = MASK if self._is_masked(name) else self._shown(item, limits, depth + 1)
        return shown

    def _sequence(self, value: Sequence[Any] | AbstractSet[Any], limits: _Limits | None, depth: int) -> list[Any]:
        shown: list[Any] = []
        for number, item in enumerate(value):
            if limits is not None and number >= limits.items:
                shown.append(f"… {len(value) - number} more")
                break
            shown.append(self._shown(item, limits, depth + 1))
        return shown


def readable(text: str) -> str:
    """Return text with what UTF-8 has no form for written as backslashes: ids and names may be any bytes."""
    return text.encode(errors="backslashreplace").decode()


def _cut(text: str, characters: int | None) -> str:
    if characters is None or len(text) <= characters:
        return text
    return f"{text[:characters]}… ({len(text) - characters:,} more characters)"
