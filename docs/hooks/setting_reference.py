"""Tables of every setting, from the fields that read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.origins import as_text
from common.settings import Settings
from dashboard.settings import DashboardSettings

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings


def settings() -> str:
    """Return the settings of workers, producers and the command line."""
    return _table(Settings)


def dashboard_settings() -> str:
    """Return those of the dashboard."""
    return _table(DashboardSettings)


def _table(kind: type[BaseSettings]) -> str:
    prefix = kind.model_config.get("env_prefix", "")
    rows = []
    for name, field in kind.model_fields.items():
        default = as_text(list(field.default) if isinstance(field.default, tuple) else field.default)
        rows.append(
            f"| `{prefix}{name.upper()}` | {f'`{default}`' if default else ''} | {_cell(field.description or '')} |"
        )
    return "\n".join(["| Variable | Default | What it does |", "|---|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
