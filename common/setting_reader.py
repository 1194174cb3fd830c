"""Reads a plain class of settings with pydantic-settings.

Owns what pydantic makes of the marks in setting_fields.py. Where values come from is setting_sources.py's.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar, Union

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, create_model
from pydantic_settings import NoDecode, SettingsConfigDict

from common.secret import Secret
from common.setting_fields import After, Before, Bounds, Commas, Means, PlainSettings
from common.setting_sources import LayeredSettings, read_layered

__all__ = ["read", "reader"]

_Plain = TypeVar("_Plain", bound=PlainSettings)

_readers: dict[type[PlainSettings], type[LayeredSettings]] = {}


def read(kind: type[_Plain], overrides: Mapping[str, Any]) -> _Plain:
    """Return settings as the sources have them.

    Args:
        overrides: fields to set whatever the sources say.

    Raises:
        ConfigurationError: a value is wrong, or a file; the message names the place, and what is right there.
    """
    found = read_layered(reader(kind), {name: _revealed(value) for name, value in overrides.items()})
    return kind.of({name: _hidden(getattr(found, name)) for name in found.model_fields_set})


def reader(kind: type[PlainSettings]) -> type[LayeredSettings]:
    """Return what reads this class: a class of pydantic-settings with the same fields, made once."""
    if kind not in _readers:
        _readers[kind] = _reader(kind)
    return _readers[kind]


def _reader(kind: type[PlainSettings]) -> type[LayeredSettings]:
    class Reader(LayeredSettings):
        model_config = SettingsConfigDict(env_prefix=kind.prefix)
        sections: ClassVar[Mapping[str, str]] = kind.sections
        other_tables: ClassVar[frozenset[str]] = kind.other_tables

    hints = typing.get_type_hints(kind, include_extras=True)
    fields: Any = {
        name: _field(hint, getattr(kind, name))
        for name, hint in hints.items()
        if typing.get_origin(hint) is not ClassVar
    }
    return create_model(kind.__name__, __base__=Reader, **fields)


def _field(hint: Any, default: Any) -> tuple[Any, Any]:
    """Return a field as pydantic takes it: its annotation, and its default with all that is said of it."""
    said: dict[str, Any] = {}
    marks = getattr(hint, "__metadata__", ())
    for mark in marks:
        if isinstance(mark, Means):
            said |= {"description": mark.text, "examples": None if mark.example is None else [mark.example]}
        elif isinstance(mark, Bounds):
            bounds = {"ge": mark.ge, "gt": mark.gt, "le": mark.le}
            said |= {name: bound for name, bound in bounds.items() if bound is not None}
    return _annotation(hint), Field(SecretStr(_revealed(default)) if isinstance(default, Secret) else default, **said)


def _annotation(hint: Any) -> Any:
    """Return a type with pydantic's validators in place of our marks."""
    if typing.get_origin(hint) is Annotated:
        marks = [made for mark in hint.__metadata__ if (made := _validator(mark)) is not None]
        inner = _annotation(hint.__origin__)
        return Annotated[(inner, *marks)] if marks else inner
    if typing.get_origin(hint) in {Union, types.UnionType}:
        return Union[tuple(_annotation(each) for each in typing.get_args(hint))]  # noqa: UP007 - made of parts
    return SecretStr if hint is Secret else hint


def _validator(mark: object) -> Any:
    match mark:
        case Before(read=function):
            return BeforeValidator(function)
        case After(check=function):
            return AfterValidator(function)
        case Commas():
            return NoDecode
    return None


def _revealed(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, Secret) else value


def _hidden(value: Any) -> Any:
    return Secret(value.get_secret_value()) if isinstance(value, SecretStr) else value
