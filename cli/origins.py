"""Where each setting's value comes from, how it may be shown, and which files tell secrets to everybody."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import SecretStr

from common.queue_weights import WeightedQueues
from common.secret import Secret
from common.setting_fields import PlainSettings
from common.setting_reader import reader
from common.setting_sources import LayeredSettings, Origin, origins
from common.settings import mask_url

__all__ = ["EffectiveSetting", "as_text", "effective_settings", "exposed", "kind_of", "plain_default"]


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """One setting as it is in force.

    Attributes:
        variable: its environment variable.
        key: what it is called in barque.toml; with its table, if it stands in one.
        value, default: as JSON can hold them, secrets as `***`.
        is_secret: whether the value opens something.
    """

    name: str
    variable: str
    key: str
    value: Any
    origin: Origin
    default: Any
    description: str
    is_secret: bool

    @property
    def shown(self) -> str:
        """The value as text, as one would write it in the environment; "" when it is not set."""
        return as_text(self.value)

    @property
    def source(self) -> str:
        """Where it comes from, in a word: `environment`, or the name of a file."""
        return self.origin.kind if self.origin.file is None else self.origin.file.name

    @property
    def place(self) -> str:
        """Where it comes from, so that it can be found: `/srv/app/barque.toml, line 3`."""
        file, line = self.origin.file, self.origin.line
        return self.source if file is None else f"{file.absolute()}{f', line {line}' if line else ''}"

    def document(self) -> dict[str, Any]:
        """Return it for a JSON document, where its name is the key."""
        return {
            "variable": self.variable,
            "key": self.key,
            "value": self.value,
            "from": self.origin.kind,
            "file": None if self.origin.file is None else str(self.origin.file.absolute()),
            "line": self.origin.line,
            "default": self.default,
            "description": self.description,
        }

    def is_about(self, word: str) -> bool:
        """Whether its name, or what it does, has this word in it; `redis-url` and `redis url` are `redis_url`."""
        plain = word.lower().replace("-", "_").replace(" ", "_")
        return plain in self.variable.lower() or word.lower() in self.description.lower()


def effective_settings(settings: PlainSettings | LayeredSettings, options: Mapping[str, Any]) -> list[EffectiveSetting]:
    """Return every setting, in the order of its class.

    Args:
        settings: what is in force, read with these options.
        options: settings given on the command line; None is none.
    """
    kind = kind_of(settings)
    places = origins(kind, [name for name, value in options.items() if value is not None])
    prefix = kind.model_config["env_prefix"]
    found = []
    for name, field in kind.model_fields.items():
        given = getattr(settings, name)
        value = _plain(given, is_default=places[name].kind == "default")
        found.append(
            EffectiveSetting(
                name,
                f"{prefix}{name.upper()}",
                f"{kind.table}.{name}" if kind.table else name,
                value,
                places[name],
                plain_default(field.default),
                field.description or "",
                _is_secret(given),
            )
        )
    return found


def kind_of(settings: PlainSettings | LayeredSettings) -> type[LayeredSettings]:
    """Return the class that has read them, which knows of each what it means."""
    return reader(type(settings)) if isinstance(settings, PlainSettings) else type(settings)


def exposed(found: Iterable[EffectiveSetting]) -> dict[Path, list[str]]:
    """Return the files that hold a secret and may be read by everybody on this machine, with what is secret there."""
    secrets: dict[Path, list[str]] = {}
    for each in found:
        if each.is_secret and each.origin.file is not None:
            secrets.setdefault(each.origin.file.absolute(), []).append(each.origin.name)
    return {path: names for path, names in secrets.items() if path.stat().st_mode & stat.S_IROTH}


def _is_secret(value: Any) -> bool:
    if isinstance(value, Secret | SecretStr):
        text = value.get_secret_value()
        return "://" not in text or _mask(text) != text
    return isinstance(value, str) and "://" in value and _mask(value) != value


def plain_default(value: Any) -> Any:
    """Return a default as JSON can hold it. It is in the source for all to read, so it is no secret."""
    return _plain(value, is_default=True)


def as_text(value: Any) -> str:
    """Return a plain value as one would write it in the environment."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _plain(value: Any, *, is_default: bool) -> Any:
    if isinstance(value, Secret | SecretStr):
        # A default is in the source for all to read.
        return value.get_secret_value() if is_default else "***"
    if isinstance(value, WeightedQueues):
        return [f"{name}={weight}" for name, weight in value.by_name().items()]
    if isinstance(value, tuple):
        return [str(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return _mask(text) if "://" in text else text


def _mask(url: str) -> str:
    """Return a URL without its password, be that before the host or in the query."""
    parts = urlsplit(mask_url(url))
    if "password" not in parts.query.lower():
        return urlunsplit(parts)
    query = [
        (key, "***" if "password" in key.lower() else value)
        for key, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    return urlunsplit(parts._replace(query=urlencode(query, safe="*/")))
