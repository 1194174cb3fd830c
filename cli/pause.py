"""`barque pause` and `barque resume`: have nothing more of a queue or of a task started, until it is to go on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.asking import ask
from cli.completing import queue_names, task_names
from cli.options import Json, RedisUrl, read_settings
from cli.output import machine, note, visible
from cli.words import ago

if TYPE_CHECKING:
    from common.pauses import Pause
    from producer import Producer

__all__ = ["described", "pause", "pause_document", "resume"]

Queues = Annotated[
    list[str] | None,
    typer.Option("--queue", metavar="QUEUE", help="This queue; repeat it for each.", autocompletion=queue_names),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task", metavar="NAME", help="This task, in every queue; repeat it for each.", autocompletion=task_names
    ),
]


def pause(
    *,
    queues: Queues = None,
    tasks: Tasks = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why, for who looks on and reads logs; no secrets.")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who; this user and host by default.", show_default=False)
    ] = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Start no more jobs of a queue, or of a task, until it is resumed. Those that run go on.

    It holds at once for the whole fleet, and survives restarts of workers and server. `barque status` shows what is
    paused. Stock arq workers know nothing of it.

    Exit codes: 2 wrong usage, 3 no server.

    \b
    Examples:
      barque pause --queue low --reason "moving the database"
      barque pause --task send_mail --task send_text
    """
    wanted = _wanted(queues, tasks)

    async def each(producer: Producer) -> tuple[list[Pause], list[str]]:
        found = [await producer.pause(**{kind: name}, reason=reason, by=by) for kind, name in wanted]
        return found, [name for kind, name in wanted if kind == "queue" and await _is_strange(producer, name)]

    found, strange = ask(read_settings(redis_url=redis_url), each)
    if as_json:
        machine([{**pause_document(each), "is_new": each.is_new} for each in found])
    for made in found if not as_json else ():
        if made.is_new:
            note(f"{_title(made.kind, made.name)}: paused.")
        else:
            note(f"{_title(made.kind, made.name)}: was paused already, {described(made)}.")
    for name in strange:
        note(f"No live worker serves queue {visible(name)}, and nothing is in it: is that its name?")


def resume(
    *,
    queues: Queues = None,
    tasks: Tasks = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Start jobs of a paused queue, or of a paused task, again: each where it stood.

    Exit codes: 2 wrong usage, 3 no server.

    \b
    Examples:
      barque resume --queue low
      barque resume --task send_mail --task send_text
    """
    wanted = _wanted(queues, tasks)

    async def each(producer: Producer) -> list[bool]:
        return [await producer.resume(**{kind: name}) for kind, name in wanted]

    changed = ask(read_settings(redis_url=redis_url), each)
    states = ["resumed" if was_paused else "was not paused" for was_paused in changed]
    if as_json:
        shown = zip(wanted, states, strict=True)
        machine([{"kind": kind, "name": name, "state": state} for (kind, name), state in shown])
        return
    for (kind, name), state in zip(wanted, states, strict=True):
        note(f"{_title(kind, name)}: {state}.")


def described(paused: Pause) -> str:
    """Return since when, by whom and why, in words."""
    said = ago(paused.since, datetime.now(UTC))
    if paused.by:
        said += f" by {paused.by}"
    return f"{said}: {paused.reason}" if paused.reason else said


def pause_document(paused: Pause) -> dict[str, Any]:
    """Return a pause for a program."""
    return {
        "kind": paused.kind,
        "name": paused.name,
        "since": paused.since.isoformat(),
        "by": paused.by,
        "reason": paused.reason,
        "waiting": paused.waiting,
    }


def _wanted(queues: list[str] | None, tasks: list[str] | None) -> list[tuple[Literal["queue", "task"], str]]:
    wanted: list[tuple[Literal["queue", "task"], str]] = [("queue", name) for name in queues or ()]
    wanted += [("task", name) for name in tasks or ()]
    if not wanted:
        raise typer.BadParameter("say which: --queue low, or --task send_mail")
    return list(dict.fromkeys(wanted))


async def _is_strange(producer: Producer, queue: str) -> bool:
    """Whether nobody serves a queue and nothing is in it: a slip in its name, perhaps."""
    if any(queue in worker.queues for worker in await producer.inspector.workers()):
        return False
    report = await producer.inspector.queue(queue)
    return report.queued + report.scheduled == 0


def _title(kind: str, name: str) -> str:
    return f"{kind.capitalize()} {name}"
