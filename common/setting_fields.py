"""What settings are: a plain class with a default each, and beside each what it means and which values are right.

Owns the words for that. Reading them is pydantic-settings' work (setting_reader.py), and pydantic is nothing that a
process should hold for all its life because it once read its settings: so nothing here imports it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, dataclass
from typing import Any, ClassVar, Self, dataclass_transform

__all__ = ["After", "Before", "Bounds", "Commas", "Means", "PlainSettings"]


@dataclass(frozen=True, slots=True)
class Means:
    """What a setting does, in a line; and a value to show where its default is none."""

    text: str
    example: str | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which numbers are right: from `ge`, or above `gt`, to `le`."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None


@dataclass(frozen=True, slots=True)
class Before:
    """What makes of a text what the type takes; raises ValueError, whose words are shown."""

    read: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class After:
    """What checks, or changes, a value of the right type; raises ValueError, whose words are shown."""

    check: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Commas:
    """Marks a list that a variable has with commas."""


@dataclass_transform(kw_only_default=True, frozen_default=True)
class PlainSettings:
    """Settings that are read when they are made, and do not change.

    Attributes:
        prefix: what their variables begin with.
        sections: titles for people, each by the setting it stands before.
        other_tables: what stands beside them in barque.toml and is read by others.
    """

    prefix: ClassVar[str] = "BARQUE_"
    sections: ClassVar[Mapping[str, str]] = {}
    other_tables: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, **overrides: Any) -> None:
        """Read them from the environment, `.env` and barque.toml.

        Args:
            **overrides: fields to set whatever these say.

        Raises:
            ConfigurationError: a value is wrong, or a file.
        """
        from common.setting_reader import read  # noqa: PLC0415 - brings in pydantic

        self.__dict__.update(read(type(self), overrides).__dict__)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of all settings, in order."""
        classes = [each for each in reversed(cls.__mro__) if issubclass(each, PlainSettings)]
        said = {name: str(kind) for each in classes for name, kind in inspect.get_annotations(each).items()}
        return [name for name, kind in said.items() if "ClassVar" not in kind]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return settings of values that have been checked, the rest at its defaults; nothing is read."""
        made = cls.__new__(cls)
        made.__dict__.update(values)
        return made

    @property
    def given(self) -> Mapping[str, Any]:
        """What somebody has set, be it to its default."""
        return self.__dict__

    def replace(self, **changes: Any) -> Self:
        """Return the same settings but for these values, which are taken as they are."""
        return self.of(self.__dict__ | changes)

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"settings are frozen: {name} cannot be set; load_settings({name}=…) makes others")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"settings are frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.names())

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self.names()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={self._shown(name)!r}' for name in self.names())})"

    def _shown(self, name: str) -> Any:
        """Return a value as it may be shown; a `Secret` hides itself."""
        return getattr(self, name)
