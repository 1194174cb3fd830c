"""`barque config`: the settings as they are in force here. Where each comes from is found out by origins.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, Queues, RedisUrl, Tasks, read_settings
from cli.output import fields, machine, note, show, styled

if TYPE_CHECKING:
    from rich.table import Table

    from cli.origins import EffectiveSetting

__all__ = ["config"]


def config(
    *,
    explain: Annotated[bool, typer.Option("--explain", help="Say what each setting means, and its default.")] = False,
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
      barque config --json | jq '.settings.redis_url'
    """
    from cli.origins import effective_settings, misspelt_variables  # noqa: PLC0415 - see the top of main.py

    options = {"redis_url": redis_url, "queues": queues, "tasks": tasks}
    found = effective_settings(read_settings(**options), options)
    if as_json:
        machine({"settings": {each.name: each.document() for each in found}})
    elif explain:
        for each in found:
            show(styled(each.variable, "bold"), fields(_explained(each)))
    else:
        show(_table(found))
    for wrong, meant in misspelt_variables():
        note(f"{wrong} is no setting and does nothing; did you mean {meant}?")


def _explained(each: EffectiveSetting) -> list[tuple[str, object]]:
    from cli.origins import as_text  # noqa: PLC0415 - see the top of main.py

    rows: list[tuple[str, object]] = [
        ("value", f"{each.shown or 'not set'} ({each.origin})"),
        ("means", each.description),
    ]
    return rows if each.origin == "default" else [*rows, ("default", as_text(each.default) or "not set")]


def _table(found: list[EffectiveSetting]) -> Table:
    from rich.table import Table  # noqa: PLC0415 - not for --json, not for --help

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("Setting", no_wrap=True)
    table.add_column("Value", overflow="fold")
    table.add_column("From", no_wrap=True)
    for each in found:
        style = "dim" if each.origin == "default" else "green"
        table.add_row(styled(each.variable), styled(each.shown), styled(each.origin, style))
    return table
