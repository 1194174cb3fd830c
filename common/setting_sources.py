"""Where settings are read from, and which source wins: arguments, environment, `.env`, barque.toml, defaults.

Owns that order, reading a class of settings by it (pydantic-settings does), and telling where a value came from. What
settings there are stands with each class; what barque.toml may look like is config_file.py's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from common import setting_names
from common.config_file import ConfigFile, find_config_file, read_config_file
from common.errors import ConfigurationError
from common.setting_errors import in_plain_words
from common.setting_names import CONFIG_VARIABLE, did_you_mean, nearest

__all__ = ["LayeredSettings", "Origin", "origins", "read_layered"]

_Settings = TypeVar("_Settings", bound="LayeredSettings")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one value came from.

    Attributes:
        name: what it is called there: a variable, or a key of barque.toml such as `dashboard.port`.
        file, line: None where there is none, or it is not known.
    """

    kind: Literal["option", "environment", ".env", "toml", "default"]
    name: str
    file: Path | None = None
    line: int | None = None

    @property
    def place(self) -> str:
        """Where people look for it, before what is wrong with it: `BARQUE_LEASE`, `barque.toml, line 3: lease`."""
        if self.file is None:
            return self.name
        return f"{self.file}{f', line {self.line}' if self.line else ''}: {self.name}"


class LayeredSettings(BaseSettings):
    """Settings that are read from the environment, `.env` and barque.toml, in this order.

    Attributes:
        table: the table of barque.toml that holds them; None for those in no table.
        other_tables: what stands beside them there and is read by others.
        what: what one of them is called in an error.
        sections: titles for people, each by the setting it stands before.
    """

    table: ClassVar[str | None] = None
    other_tables: ClassVar[frozenset[str]] = frozenset()
    what: ClassVar[str] = "setting"
    sections: ClassVar[Mapping[str, str]] = {}

    model_config = SettingsConfigDict(
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the file behind the variables; files of one value each are not read."""
        del settings_cls, dotenv_settings, file_secret_settings
        dotenv = _dotenv(cls)
        return init_settings, env_settings, dotenv, _TomlSource(cls, _config_path(dotenv))


class _TomlSource(TomlConfigSettingsSource):
    """barque.toml, of which a class of settings reads its own table, and refuses what it does not know there."""

    def __init__(self, kind: type[LayeredSettings], path: Path | None) -> None:
        self._kind = kind
        self.file: ConfigFile | None = None
        super().__init__(kind, toml_file=None)
        if path is not None:
            self.init_kwargs = self._read_file(path)

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        kind = self._kind
        self.file = file = read_config_file(file_path)
        for other in kind.other_tables:
            file.section(other)
        file.check_names(kind.model_fields, table=kind.table, tables=kind.other_tables)
        return {
            # pydantic takes true for the number 1, which in a file of types nobody means.
            name: str(value).lower() if isinstance(value, bool) and _is_number(kind, name) else value
            for name, value in file.section(kind.table).items()
            if name in kind.model_fields
        }


def _is_number(kind: type[BaseSettings], name: str) -> bool:
    return kind.model_fields[name].annotation in {int, float}


def _dotenv(kind: type[BaseSettings]) -> DotEnvSettingsSource:
    return DotEnvSettingsSource(kind, env_file=setting_names.ENV_FILE, env_file_encoding="utf-8")


def _config_path(dotenv: DotEnvSettingsSource) -> Path | None:
    named = os.environ.get(CONFIG_VARIABLE)
    if named is None:
        named = dotenv.env_vars.get(CONFIG_VARIABLE.lower())
    usual = setting_names.CONFIG_FILE
    return find_config_file(named, None if usual is None else Path(usual))


def read_layered(kind: type[_Settings], overrides: Mapping[str, Any]) -> _Settings:
    """Return settings as the sources have them.

    Args:
        overrides: fields to set whatever the sources say.

    Raises:
        ConfigurationError: a value is wrong, or a file; the message names the place, and what is right there.
    """
    unknown = sorted(overrides.keys() - kind.model_fields.keys())
    if unknown:
        near = [(name, nearest(name, kind.model_fields)) for name in unknown]
        said = ", ".join(f"{name} ({did_you_mean(meant)})" if meant else name for name, meant in near)
        raise ConfigurationError(f"no such {kind.what}: {said}")
    try:
        return kind(**overrides)
    except ValidationError as error:
        places = {name: origin.place for name, origin in origins(kind, overrides).items()}
        raise ConfigurationError(in_plain_words(error, kind.model_fields, places)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{setting_names.ENV_FILE} cannot be read: {_why(error)}") from None


def origins(kind: type[LayeredSettings], overrides: Iterable[str]) -> dict[str, Origin]:
    """Return for each setting where its value comes from.

    Args:
        overrides: names of those that are given whatever the sources say.
    """
    in_environment, dotenv = EnvSettingsSource(kind)(), _dotenv(kind)
    in_dotenv = dotenv()
    toml = _TomlSource(kind, _config_path(dotenv))
    in_toml, file = toml(), toml.file
    given = set(overrides)
    env_file = Path(setting_names.ENV_FILE or "")
    found = {}
    for name in kind.model_fields:
        variable = f"{kind.model_config['env_prefix']}{name.upper()}"
        if name in given:
            found[name] = Origin("option", variable)
        elif name in in_environment:
            found[name] = Origin("environment", variable)
        elif name in in_dotenv:
            found[name] = Origin(".env", variable, env_file)
        elif file is not None and name in in_toml:
            key = f"{kind.table}.{name}" if kind.table else name
            found[name] = Origin("toml", key, file.path, file.line(name, kind.table))
        else:
            found[name] = Origin("default", variable)
    return found


def _why(error: OSError | UnicodeDecodeError) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror or type(error).__name__
