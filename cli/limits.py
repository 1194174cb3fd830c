"""`barque limits …`: see how rates, concurrency limits and circuit breakers stand, and have them begin anew.

Keys come from the arguments of jobs, which may be secret: they are shown when they are asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.asking import ask
from cli.completing import limit_names
from cli.exit_codes import FAILED, OK
from cli.options import Json, RedisUrl, read_settings
from cli.output import listing, machine, note, show, styled, to_jsonable, visible

if TYPE_CHECKING:
    from common.redis.limits import LimitInfo

__all__ = ["COMMANDS", "limits"]

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The limit's name: its task's, if it has none.", autocompletion=limit_names),
]
Keys = Annotated[bool, typer.Option("--keys", help="Show keys, too: they are taken from arguments, and may be secret.")]

_KINDS = {"rate": "rate", "concurrency": "at once", "breaker": "breaker", "door": "door"}
_STYLES = {"open": "red", "half_open": "yellow", "shut": "yellow", "closed": "green"}


def limits() -> None:
    r"""See how the limits of tasks stand, on the whole fleet, and have them begin anew.

    A limit is shown for each key in use; idle ones are forgotten after a minute. All commands have --json.

    \b
    Examples:
      barque limits list
      barque limits list fetch_page --keys
      barque limits reset fetch_page
    """


def list_(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Those of one name only.", show_default=False, autocompletion=limit_names
        ),
    ] = None,
    *,
    keys: Keys = False,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""List the limits in use: what is taken, who waits, when the next may start, which breakers are open.

    \b
    Examples:
      barque limits list
      barque limits list fetch_page --keys
      barque limits list --json | jq '.[] | select(.state == "open")'
    """
    found = ask(read_settings(redis_url=redis_url), lambda producer: producer.limits.list(name))
    if as_json:
        machine([_document(info, keys=keys) for info in found])
    elif not found:
        show(styled("No limits are in use." if name is None else f"No limit called {visible(name)} is in use."))
    else:
        _show(found, keys=keys)


def reset(name: Name, *, redis_url: RedisUrl = None, as_json: Json = False) -> None:
    r"""Have the limits of this name begin anew, all keys: rates forget the past, breakers close and let jobs go.

    Jobs that run keep their places; nobody starts beyond a concurrency limit for it.

    Exit codes: 1 none of this name is in use, 3 no server.

    \b
    Examples:
      barque limits reset fetch_page
    """
    before = ask(read_settings(redis_url=redis_url), lambda producer: producer.limits.reset(name))
    if as_json:
        machine({"reset": len(before)})
    else:
        note(_reset_words(name, len(before)))
    raise typer.Exit(OK if before else FAILED)


def _reset_words(name: str, found: int) -> str:
    if found:
        return f"Reset {found:,} {'limit' if found == 1 else 'limits'} called {visible(name)}."
    return (
        f"No limit called {visible(name)} is in use: a limit has its task's name, unless it says name=, and one that "
        "is idle for a minute begins anew by itself. `barque limits list` shows those in use"
    )


COMMANDS: dict[str, Callable[..., None]] = {"list": list_, "reset": reset}


def _show(found: Sequence[LimitInfo], *, keys: bool) -> None:
    titles = ("Limit", *(("Key",) if keys else ()), "Kind", "In use", "Waiting", "Next", "State")
    table = listing(*((title, len(title)) for title in titles))
    now = datetime.now(UTC)
    for info in found:
        table.add_row(
            styled(info.name if keys or info.key is None else info.gate.partition(":")[2]),
            *((styled("-" if info.key is None else info.key),) if keys else ()),
            styled(_KINDS.get(info.kind, info.kind)),
            styled(_in_use(info)),
            styled("-" if info.waiting is None else info.waiting),
            styled(_next(info, now)),
            styled(info.state.replace("_", " ") or "-", _STYLES.get(info.state, "") if info.kind != "door" else ""),
        )
    show(table)


def _in_use(info: LimitInfo) -> str:
    if info.kind == "concurrency":
        return f"{info.in_use}/{info.limit:g}"
    return f"{info.limit:.3g}/s" if info.kind == "rate" else str(info.in_use)


def _next(info: LimitInfo, now: datetime) -> str:
    from cli.words import age  # noqa: PLC0415 - see the top of main.py

    return "-" if info.next_free is None else f"in {age(max(0.0, (info.next_free - now).total_seconds()))}"


def _document(info: LimitInfo, *, keys: bool) -> dict[str, Any]:
    named = dataclasses.asdict(info)
    if not keys:
        del named["key"]
    document: dict[str, Any] = to_jsonable(named).value
    return document
