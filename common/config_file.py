"""barque.toml: where it is, what stands in it, and at which line.

Owns finding and parsing the file, and the complaints about what cannot be a setting in it. Which names are settings,
and which values are right, stands with the classes of the settings; how the file ranks is setting_sources.py's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import ConfigurationError
from common.setting_names import CONFIG_VARIABLE, did_you_mean, nearest

__all__ = ["ConfigFile", "find_config_file", "read_config_file"]

_HEADER = re.compile(r"\[+\s*([^\]]*?)\s*\]+")
_UNQUOTED = re.compile(r"Invalid value|Expected newline")
_TOO_HIGH = {"barque", "tool"}
"""Tables of other files: who copies one here has put the settings a step too deep."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What one file of settings says.

    Attributes:
        path: as it was named; relative to the working folder unless it was not.
        text: all of it.
        values: by key; tables are dicts.
    """

    path: Path
    text: str
    values: dict[str, Any]

    def line(self, key: str, table: str | None = None) -> int | None:
        """Return the line a key stands at, from 1 up; None where that is not plain to see."""
        wanted = f"{table}.{key}" if table else key
        found = [number for name, number in self._names() if name == wanted]
        if len(found) == 1:
            return found[0]
        # Twice is once in a text of several lines. Never is a table whose keys all stand as `table.key`, or inline.
        below = [number for name, number in self._names() if name.startswith(f"{wanted}.")]
        if not found and below:
            return below[0]
        return self.line(table) if table and not found else None

    def _names(self) -> Iterator[tuple[str, int]]:
        """Yield what stands before each `=` and in each header, with its table in front, and its line."""
        table = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            header = _HEADER.match(line.strip())
            if header:
                table = _plain(header[1])
                yield table, number
            elif "=" in line:
                name = _plain(line.partition("=")[0])
                yield (f"{table}.{name}" if table else name), number

    def place(self, key: str, table: str | None = None) -> str:
        """Return where a key stands, as people look for it: `barque.toml, line 3`."""
        line = self.line(key, table)
        return f"{self.path}, line {line}" if line else str(self.path)

    def section(self, table: str | None) -> dict[str, Any]:
        """Return the values of a table, those in no table for None.

        Raises:
            ConfigurationError: there is a value where the table ought to be.
        """
        if table is None:
            return self.values
        found = self.values.get(table, {})
        if not isinstance(found, dict):
            raise ConfigurationError(f"{self.place(table)}: {table} is a table: write [{table}], and its keys below")
        return found

    def check_names(self, known: Collection[str], *, table: str | None = None, tables: Collection[str] = ()) -> None:
        """See that all keys are settings. A file is ours alone, so a name that is none is a slip, and no other's.

        Args:
            known: the settings that may stand there.
            table: where to look; None for what stands in no table.
            tables: what stands beside these settings and is checked by others.

        Raises:
            ConfigurationError: one is none; the message names each, with its line and the name that was meant.
        """
        wrong = []
        for key, value in self.section(table).items():
            place = self.place(key, table)
            if key in known:
                misplaced = sorted(set(value) & set(known)) if isinstance(value, dict) else []
                wrong += [_misplaced(self.place(name, key), name, key) for name in misplaced]
            elif key not in tables:
                wrong.append(f"{place}: {_unknown(key, table, [*known, *tables], is_table=isinstance(value, dict))}")
        if wrong:
            raise ConfigurationError("; ".join(wrong))


def find_config_file(named: str | None, usual: Path | None) -> Path | None:
    """Return the file that settings stand in, None if there is none.

    Args:
        named: what `BARQUE_CONFIG` says, None where it is not set. Empty means no file, not even the usual one.
        usual: where it is looked for otherwise, and may be missing.

    Raises:
        ConfigurationError: the file that is named is not there.
    """
    if named is None:
        return usual if usual is not None and usual.exists() else None
    if not named.strip():
        return None
    path = Path(named).expanduser()
    if not path.exists():
        raise ConfigurationError(f"{CONFIG_VARIABLE}: there is no file {path} (in {Path.cwd()})")
    return path


def read_config_file(path: Path) -> ConfigFile:
    """Return what a file says.

    Raises:
        ConfigurationError: it cannot be read, or is no TOML; the message names line and column.
    """
    import tomllib  # noqa: PLC0415 - for who has such a file

    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} cannot be read: it is not UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from None
    try:
        return ConfigFile(path, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(_in_plain_words(path, str(error))) from None


def _in_plain_words(path: Path, complaint: str) -> str:
    """Return `barque.toml, line 3, column 9: …`; the parser says where in brackets, at the end."""
    why, _, place = complaint.rstrip(")").rpartition(" (at ")
    where = f", {place}" if why else ""
    hint = " (text stands in quotes)" if _UNQUOTED.match(complaint) else ""
    return f"{path}{where}: no TOML: {why or complaint}{hint}"


def _misplaced(place: str, name: str, table: str) -> str:
    return (
        f"{place}: {name} stands in the table [{table}], which holds names of its own: move it above the first [table]"
        f' (or write {table} = ["{name}=…"], if it is one of them)'
    )


def _unknown(key: str, table: str | None, known: list[str], *, is_table: bool) -> str:
    if table is None and is_table and key in _TOO_HIGH:
        return f"settings stand at the top of this file, in no table [{key}]"
    meant = did_you_mean(nearest(key, known))
    if table is not None:
        return f"{key} is no setting of [{table}]; {meant} (what is not of the {table} stands above the first [table])"
    return f"{key} is no setting; {meant}"


def _plain(key: str) -> str:
    """Return a key without quotes and blanks: `"a" . b` is `a.b`."""
    return ".".join(part.strip().strip("\"'") for part in key.split("."))
