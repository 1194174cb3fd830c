"""`barque config`: the settings as they are in force here. Where each comes from is found out by origins.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, Queues, RedisUrl, Tasks, read_settings
from cli.output import fields, machine, note, show, styled, width

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings
    from rich.console import RenderableType

    from cli.origins import EffectiveSetting

__all__ = ["config"]


def config(
    *,
    explain: Annotated[bool, typer.Option("--explain", help="Say what each setting means, and its default.")] = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Those of the dashboard, which are its own: BARQUE_DASHBOARD_….")
    ] = False,
    redis_url: RedisUrl = None,
    queues: Queues = None,
    tasks: Tasks = None,
    as_json: Json = False,
) -> None:
    r"""List every setting, its value in force here, and where that comes from.

    An option wins over the environment, the environment over the .env file of the current folder, that over the
    default. Passwords and secrets are shown as ***.

    \b
    Examples:
      barque config
      barque config --explain
      barque config --dashboard --explain
      barque config --json | jq '.settings.redis_url'
    """
    from cli.origins import effective_settings  # noqa: PLC0415 - see the top of main.py
    from common.settings import misspelt  # noqa: PLC0415

    options = {"redis_url": redis_url, "queues": queues, "tasks": tasks}
    in_force: BaseSettings = read_settings(**options)
    if dashboard:
        from dashboard.settings import load_dashboard_settings  # noqa: PLC0415 - see the top of main.py

        in_force, options = load_dashboard_settings(), {}
    found = effective_settings(in_force, options)
    if as_json:
        machine({"settings": {each.name: each.document() for each in found}})
    elif explain:
        for each in found:
            show(*([""] if each is not found[0] else []), styled(each.variable, "bold"), fields(_explained(each)))
    else:
        show(*_lines(found, width()))
    for wrong, meant in misspelt(type(in_force)):
        note(f"{wrong} is no setting and does nothing; {f'did you mean {meant}?' if meant else 'none is like it'}")


def _explained(each: EffectiveSetting) -> list[tuple[str, object]]:
    from cli.origins import as_text  # noqa: PLC0415 - see the top of main.py

    rows: list[tuple[str, object]] = [
        ("value", f"{each.shown or 'not set'} ({each.origin})"),
        ("means", each.description),
    ]
    return rows if each.origin == "default" else [*rows, ("default", as_text(each.default) or "not set")]


def _lines(found: list[EffectiveSetting], columns: int) -> list[RenderableType]:
    """Return a line for each setting; a value too long for its column has the lines below to itself, in one piece."""
    from rich.padding import Padding  # noqa: PLC0415 - not for --json, not for --help

    first = max(len(each.variable) for each in found)
    last = max(len(each.origin) for each in found)
    middle = max(columns - first - last - 4, len("Value"))
    lines: list[RenderableType] = [styled(f"{'Setting':{first}}  {'Value':{middle}}  From", "bold")]
    for each in found:
        value = styled(each.shown)
        fits = value.cell_len <= middle and "\n" not in value.plain
        line = styled(f"{each.variable:{first}}  ")
        if fits:
            line.append_text(value)
        line.append(" " * (first + 2 + middle + 2 - line.cell_len))
        lines.append(line.append(each.origin, "dim" if each.origin == "default" else "green"))
        if not fits:
            lines.append(Padding(value, (0, 0, 0, 2)))
    return lines
