"""`barque config`: the settings as they are in force here, or a file of them to start from.

Where each comes from is found out by origins.py; what the files look like is setting_files.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.completing import setting_names
from cli.exit_codes import FAILED
from cli.options import Json, Queues, RedisUrl, Tasks, read_settings
from cli.output import fields, machine, note, show, styled, width

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cli.origins import EffectiveSetting
    from common.setting_fields import PlainSettings
    from common.setting_sources import LayeredSettings

__all__ = ["config"]


def config(
    word: Annotated[
        str | None,
        typer.Argument(
            metavar="[WORD]",
            help="Only those about this: in name or meaning, the dashboard's too.",
            autocompletion=setting_names,
        ),
    ] = None,
    *,
    explain: Annotated[bool, typer.Option("--explain", help="Say what each setting means, and its default.")] = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Those of the dashboard, which are its own: BARQUE_DASHBOARD_….")
    ] = False,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print a barque.toml with every setting, explained and commented out.")
    ] = False,
    env: Annotated[bool, typer.Option("--env", help="Print a .env with every setting, likewise.")] = False,
    redis_url: RedisUrl = None,
    queues: Queues = None,
    tasks: Tasks = None,
    as_json: Json = False,
) -> None:
    r"""List every setting, its value in force here, and where that comes from.

    An option wins over the environment, the environment over the .env file of the current folder, that over
    barque.toml there (or the file BARQUE_CONFIG names), and that over the default. Passwords and secrets are shown
    as ***.

    Exit codes: 0 done, 1 no setting has the word, 2 a setting is wrong.

    \b
    Examples:
      barque config
      barque config --explain
      barque config --explain lease
      barque config --dashboard --explain
      barque config --toml > barque.toml
      barque config --json | jq '.settings.redis_url'
    """
    if toml or env:
        _print_file(toml=toml, env=env)
        return
    options = {"redis_url": redis_url, "queues": queues, "tasks": tasks}
    in_force = _in_force(options, dashboard=dashboard, both=word is not None)
    _show(in_force, word, explain=explain, as_json=as_json)


def _print_file(*, toml: bool, env: bool) -> None:
    if toml and env:
        raise typer.BadParameter("give --toml or --env: they are two files")
    from cli.setting_files import env_text, toml_text  # noqa: PLC0415 - see the top of main.py

    # Not through rich, which would fold a line of a file.
    print(toml_text() if toml else env_text(), end="", flush=True)


def _in_force(
    options: dict[str, Any], *, dashboard: bool, both: bool
) -> list[tuple[PlainSettings | LayeredSettings, list[EffectiveSetting]]]:
    """Return the settings that were asked for, as they were read and one by one."""
    from cli.origins import effective_settings  # noqa: PLC0415 - see the top of main.py

    settings: PlainSettings | LayeredSettings = read_settings(**options)
    found = [] if dashboard else [(settings, effective_settings(settings, options))]
    if dashboard or both:
        from dashboard.settings import load_dashboard_settings  # noqa: PLC0415 - see the top of main.py

        settings = load_dashboard_settings()
        found.append((settings, effective_settings(settings, {})))
    return found


def _show(
    in_force: list[tuple[PlainSettings | LayeredSettings, list[EffectiveSetting]]],
    word: str | None,
    *,
    explain: bool,
    as_json: bool,
) -> None:
    from cli.origins import exposed, kind_of  # noqa: PLC0415 - see the top of main.py
    from common.setting_names import did_you_mean, misspelt, nearest  # noqa: PLC0415

    every = [each for _, found in in_force for each in found]
    wanted = [each for each in every if word is None or each.is_about(word)]
    if as_json:
        machine({"settings": {each.key: each.document() for each in wanted} if word else _by_name(wanted)})
    elif explain:
        for each in wanted:
            show(*([""] if each is not wanted[0] else []), styled(each.variable, "bold"), fields(_explained(each)))
    elif wanted:
        show(*_lines(wanted, width()))
    for settings, _ in in_force:
        kind = kind_of(settings)
        for wrong, meant in misspelt(str(kind.model_config["env_prefix"]), kind.model_fields):
            note(f"{wrong} is no setting and does nothing; {did_you_mean(meant)}")
    for file, names in exposed(every).items():
        note(f"{file} holds {', '.join(names)} and can be read by everybody on this machine: chmod o= {file}")
    if word is not None and not wanted:
        meant = nearest(word, [each.name for each in every])
        note(f"no setting has {word!r} in its name or meaning; {did_you_mean(meant)}")
        raise typer.Exit(FAILED)


def _by_name(found: list[EffectiveSetting]) -> dict[str, Any]:
    return {each.name: each.document() for each in found}


def _explained(each: EffectiveSetting) -> list[tuple[str, object]]:
    from cli.origins import as_text  # noqa: PLC0415 - see the top of main.py

    rows: list[tuple[str, object]] = [
        ("value", each.shown or "not set"),
        ("from", each.place),
        ("means", each.description),
        ("toml", each.key),
    ]
    return rows if each.origin.kind == "default" else [*rows, ("default", as_text(each.default) or "not set")]


def _lines(found: list[EffectiveSetting], columns: int) -> list[RenderableType]:
    """Return a line for each setting; a value too long for its column has the lines below to itself, in one piece."""
    from rich.padding import Padding  # noqa: PLC0415 - not for --json, not for --help

    first = max(len(each.variable) for each in found)
    last = max(len(each.source) for each in found)
    middle = max(columns - first - last - 4, len("Value"))
    lines: list[RenderableType] = [styled(f"{'Setting':{first}}  {'Value':{middle}}  From", "bold")]
    for each in found:
        value = styled(each.shown)
        fits = value.cell_len <= middle and "\n" not in value.plain
        line = styled(f"{each.variable:{first}}  ")
        if fits:
            line.append_text(value)
        line.append(" " * (first + 2 + middle + 2 - line.cell_len))
        lines.append(line.append(each.source, "dim" if each.origin.kind == "default" else "green"))
        if not fits:
            lines.append(Padding(value, (0, 0, 0, 2)))
    return lines
