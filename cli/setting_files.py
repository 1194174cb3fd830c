"""All settings with their defaults, as text: a `.env` or barque.toml to start from, and the tables of the docs.

Owns these forms. `python -m cli.setting_files` in a checkout writes .env.example and docs/configuration.md anew, as
`make settings` does; a test holds both against the settings there are.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from cli.origins import as_text, plain_default
from common.durations import as_duration
from common.setting_reader import reader
from common.setting_sources import LayeredSettings
from common.settings import Settings
from dashboard.settings import DashboardSettings

__all__ = ["env_text", "renewed_example", "renewed_page", "settings_tables", "toml_text"]

_KINDS: tuple[type[LayeredSettings], ...] = (reader(Settings), DashboardSettings)
_WIDTH = 118

_ENV_HEAD = """\
# Copy to .env and change what you need; every line is optional, and shown with its default.
# Times are seconds, or 500ms, 90s, 5m, 2h, 1d. Lists have commas. Never commit .env: it may hold passwords.
# A Barque process takes .env from the folder it is started in; a variable of the environment wins over a line here,
# and a line here over barque.toml. `barque config --explain` prints each setting, its value and where it came from.

# Where barque.toml is, if it is to be read from elsewhere than this folder; nothing behind the = : no such file.
#BARQUE_CONFIG=barque.toml
"""
_TOML_HEAD = """\
# barque.toml: change what you need; every line is optional, and shown with its default.
# Times are seconds, or "500ms", "90s", "5m", "2h", "1d". Never commit this file with a password in it.
# A Barque process takes it from the folder it is started in, or from where BARQUE_CONFIG says; variables and .env win
# over it. `barque config --explain` prints each setting, its value and where it came from.
"""
_TAIL = "# --- docker compose only ---"
_BEGIN, _END = "<!-- settings: `make settings` writes what follows -->", "<!-- end of settings -->"


def env_text() -> str:
    """Return a `.env` in which every setting stands, explained and commented out."""
    lines = [_ENV_HEAD]
    for kind in _KINDS:
        prefix = kind.model_config["env_prefix"]
        for title, fields in _sections(kind):
            lines.append(f"# --- {title} ---")
            for name, field in fields.items():
                lines += [*_comment(field), f"#{prefix}{name.upper()}={_env_value(field)}"]
            lines.append("")
    return "\n".join(lines)


def toml_text() -> str:
    """Return a barque.toml in which every setting stands, explained and commented out."""
    lines = [_TOML_HEAD]
    for kind in _KINDS:
        if kind.table is not None:
            lines += [f"[{kind.table}]", ""]
        for title, fields in _sections(kind):
            lines.append(f"# --- {title} ---")
            for name, field in fields.items():
                lines += [*_comment(field), f"#{name} = {_toml_value(field)}"]
            lines.append("")
    return "\n".join(lines)


def settings_tables() -> str:
    """Return the settings as tables in Markdown, one a section."""
    lines = []
    for kind in _KINDS:
        prefix = kind.model_config["env_prefix"]
        for title, fields in _sections(kind):
            lines += [f"### {title}", "", "| Variable | barque.toml | Default | What it does |", "|---|---|---|---|"]
            for name, field in fields.items():
                key = f"{kind.table}.{name}" if kind.table else name
                default = _env_value(field, examples=False).replace("|", "\\|")  # a cell's end, even in backquotes
                shown = f"`{default}`" if default else "not set"
                lines.append(f"| `{prefix}{name.upper()}` | `{key}` | {shown} | {_cell(_means(field))} |")
            lines.append("")
    return "\n".join(lines)


def renewed_example(text: str) -> str:
    """Return .env.example with the settings as they are now; what only compose reads stays."""
    return f"{env_text()}\n{text[text.index(_TAIL) :]}"


def renewed_page(text: str) -> str:
    """Return docs/configuration.md with the tables as they are now."""
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    return f"{before}{_BEGIN}\n\n{settings_tables()}\n{_END}{after}"


def _sections(kind: type[LayeredSettings]) -> Iterator[tuple[str, dict[str, FieldInfo]]]:
    title, fields = "", dict[str, FieldInfo]()
    for name, field in kind.model_fields.items():
        if name in kind.sections and fields:
            yield title, fields
            fields = {}
        title = kind.sections.get(name, title)
        fields[name] = field
    yield title, fields


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _comment(field: FieldInfo) -> list[str]:
    text = f"{_means(field)}." if _has_default(field) else f"{_means(field)}. Not set by default."
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _means(field: FieldInfo) -> str:
    return (field.description or "").rstrip(".")


def _has_default(field: FieldInfo) -> bool:
    return plain_default(field.default) not in (None, "", [])


def _value(field: FieldInfo, *, examples: bool = True) -> Any:
    """Return the default as it would be written: a time with its unit; where there is none, the example."""
    if isinstance(field.default, float):
        return as_duration(field.default)
    default = plain_default(field.default)
    if examples and default in (None, "", []) and field.examples:
        return field.examples[0]
    return default


def _env_value(field: FieldInfo, *, examples: bool = True) -> str:
    return as_text(_value(field, examples=examples))


def _toml_value(field: FieldInfo) -> str:
    value = _value(field)
    if isinstance(value, str) and "\\" in value and "'" not in value:
        return f"'{value}'"
    # What JSON writes is TOML as well: texts in double quotes, lists of them, numbers, true and false.
    return json.dumps("" if value is None else value, ensure_ascii=False)


def _renew(root: Path) -> None:
    for path, renewed in ((root / ".env.example", renewed_example), (root / "docs/configuration.md", renewed_page)):
        path.write_text(renewed(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    _renew(Path.cwd())
