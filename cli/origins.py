"""Where each setting's value comes from, and how it may be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import SecretStr
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from common.queue_weights import WeightedQueues
from common.settings import mask_url

__all__ = ["EffectiveSetting", "as_text", "effective_settings"]

Origin = Literal["option", "environment", ".env", "default"]


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """One setting as it is in force.

    Attributes:
        variable: its environment variable.
        value, default: as JSON can hold them, secrets as `***`.
    """

    name: str
    variable: str
    value: Any
    origin: Origin
    default: Any
    description: str

    @property
    def shown(self) -> str:
        """The value as text, as one would write it in the environment; "" when it is not set."""
        return as_text(self.value)

    def document(self) -> dict[str, Any]:
        """Return it for a JSON document, where its name is the key."""
        return {
            "variable": self.variable,
            "value": self.value,
            "from": self.origin,
            "default": self.default,
            "description": self.description,
        }


def effective_settings(settings: BaseSettings, options: Mapping[str, Any]) -> list[EffectiveSetting]:
    """Return every setting, in the order of its class.

    Args:
        settings: what is in force, read with these options.
        options: settings given on the command line; None is none.
    """
    kind = type(settings)
    in_environment = EnvSettingsSource(kind)()
    in_file = DotEnvSettingsSource(kind)()
    prefix = kind.model_config["env_prefix"]
    found = []
    for name, field in kind.model_fields.items():
        origin: Origin = "default"
        if options.get(name) is not None:
            origin = "option"
        elif name in in_environment:
            origin = "environment"
        elif name in in_file:
            origin = ".env"
        value = _plain(getattr(settings, name), is_default=origin == "default")
        default = _plain(field.default, is_default=True)
        variable = f"{prefix}{name.upper()}"
        found.append(EffectiveSetting(name, variable, value, origin, default, field.description or ""))
    return found


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
    if isinstance(value, SecretStr):
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
