"""`barque doctor`: is this a server that a queue can be trusted to. The questions are common/redis/diagnosis.py's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.exit_codes import FAILED, OK
from cli.options import Json, Queues, RedisUrl, read_settings
from cli.output import machine, note, show, styled, visible

if TYPE_CHECKING:
    from rich.table import Table

    from common.redis.diagnosis import Finding
    from common.settings import Settings

__all__ = ["doctor"]

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    *,
    acl: Annotated[
        bool, typer.Option("--acl", help="Print the ACL users that workers, producers and readers need; ask no server.")
    ] = False,
    redis_url: RedisUrl = None,
    queues: Queues = None,
    as_json: Json = False,
) -> None:
    r"""Ask the server all that matters to a queue, and say what to change.

    "warn" works but may lose jobs, time or secrets; "fail" does not work. It only reads, and leaves nothing behind.

    Exit codes: 0 nothing fails (there may be warnings), 1 something does, a server that does not answer among it.

    \b
    Examples:
      barque doctor
      barque doctor --acl --queues high,low | redis-cli
      barque doctor --redis-url rediss://db.example:6379/0
      barque doctor --json | jq '.findings[] | select(.status == "fail")'
    """
    options = {"redis_url": redis_url, "queues": queues}
    settings = read_settings(**options)
    if acl:
        _show_access(settings, as_json=as_json)
        raise typer.Exit(OK)
    findings = [*_check_environment(settings, options), *asyncio.run(_diagnose(settings))]
    failed = sum(finding.status == "fail" for finding in findings)
    if as_json:
        documents = [
            {"name": each.name, "status": each.status, "detail": each.detail, "advice": each.advice}
            for each in findings
        ]
        machine({"healthy": not failed, "findings": documents})
    else:
        show(_table(findings))
        warned = sum(finding.status == "warn" for finding in findings)
        note(f"\n{failed} failed, {warned} to look at, {len(findings) - failed - warned} in order.")
    raise typer.Exit(FAILED if failed else OK)


def _show_access(settings: Settings, *, as_json: bool) -> None:
    from common.redis.access import ROLES  # noqa: PLC0415 - see the top of main.py

    if as_json:
        users = [{"user": role.user, "purpose": role.purpose, "rules": role.rules(settings.queues)} for role in ROLES]
        machine({"users": users})
        return
    for role in ROLES:
        # Not through rich, which would fold a line that is to be pasted whole.
        print(visible(role.command(settings.queues)), flush=True)
    for role in ROLES:
        note(f"{role.user}: {role.purpose}")
    note("None can log in yet: ACL SETUSER <user> '>password' lets it, ACL SAVE or CONFIG REWRITE keeps it.")


async def _diagnose(settings: Settings) -> list[Finding]:
    from common.redis.connection import connect  # noqa: PLC0415 - see the top of main.py
    from common.redis.diagnosis import diagnose  # noqa: PLC0415

    client: Any = connect(settings, name="doctor")
    try:
        return await diagnose(client, settings)
    finally:
        await client.aclose()


def _check_environment(settings: Settings, options: dict[str, Any]) -> list[Finding]:
    from cli.origins import effective_settings, exposed  # noqa: PLC0415 - see the top of main.py
    from common.redis.diagnosis import Finding  # noqa: PLC0415
    from common.setting_names import misspelt  # noqa: PLC0415
    from common.settings import Settings  # noqa: PLC0415

    slips = [
        Finding(
            "settings",
            "warn",
            f"{wrong} is no setting and does nothing",
            f"did you mean {meant}?" if meant else "`barque config` lists all there are",
        )
        for wrong, meant in misspelt(Settings.prefix, Settings.names())
    ]
    told = [
        Finding("settings", "warn", f"{file} holds {', '.join(names)} and can be read by everybody", f"chmod o= {file}")
        for file, names in exposed(effective_settings(settings, options)).items()
    ]
    return [*slips, *told]


def _table(findings: list[Finding]) -> Table:
    from rich.table import Table  # noqa: PLC0415 - not for --json, not for --help

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        text = styled(finding.detail)
        if finding.advice:
            text.append_text(styled(f"\n→ {finding.advice}", "italic"))
        table.add_row(styled(finding.status, _STYLES[finding.status]), styled(finding.name), text)
    return table
