"""A text that opens something, and does not show: what a setting holds for a password, a key or a token."""

from __future__ import annotations

from typing import Any

__all__ = ["Secret"]


class Secret:
    """A text that neither `repr` nor `str` shows; as pydantic's SecretStr, which a worker does without."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        """Return the text itself."""
        return self._text

    def __len__(self) -> int:
        return len(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __str__(self) -> str:
        return "**********" if self._text else ""

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Secret, (self._text,)
