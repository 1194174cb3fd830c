"""`barque dead …`: see the jobs that failed for good, and replay or delete them.

What is printed of them is dead_view.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli.asking import ask, confirm
from cli.completing import queue_names
from cli.exit_codes import FAILED, OK
from cli.options import JobId, JobIds, Json, OfTask, RedisUrl, Yes, read_settings
from cli.output import machine, note, visible
from cli.values import seconds
from cli.words import jobs

if TYPE_CHECKING:
    from common.settings import Settings
    from producer import Producer
    from producer.dead import DeadPage
    from producer.dead_filter import DeadFilters

__all__ = ["COMMANDS", "dead"]

Error = Annotated[
    str | None,
    typer.Option("--error", metavar="CLASS", help="Those of this exception, as ValueError or my_app.errors.*"),
]
Queue = Annotated[
    str | None, typer.Option("--queue", metavar="QUEUE", help="Those of this queue.", autocompletion=queue_names)
]
Older = Annotated[
    float | None,
    typer.Option("--older", metavar="TIME", parser=seconds, help="Those that failed longer ago than this."),
]
Newer = Annotated[
    float | None, typer.Option("--newer", metavar="TIME", parser=seconds, help="Those that failed since: 90s, 2h, 1d.")
]
Most = Annotated[
    int | None, typer.Option("--limit", metavar="NUMBER", min=1, help="So many of them, the oldest first.")
]
All = Annotated[bool, typer.Option("--all", help="All there are; asks before.")]

_NAMED = 10
"""Ids named one by one of jobs that were not replayed."""


def dead() -> None:
    r"""See the jobs that failed for good, and replay or delete them.

    A job that failed on its last attempt, timed out, or could not even be decoded leaves a dead letter: its payload,
    how often it was tried, and its error. Letters are kept for BARQUE_DEAD_KEEP (7 days), the last BARQUE_DEAD_LIMIT
    (10,000) of them. All commands have --json.

    \b
    Examples:
      barque dead list
      barque dead show 0UBfkBsn000A6EgfFyh0
      barque dead replay --task fetch_url --error ConnectError
      barque dead delete --older 3d
    """


def list_(
    *,
    task: OfTask = None,
    error: Error = None,
    queue: Queue = None,
    older: Older = None,
    newer: Newer = None,
    limit: Annotated[int, typer.Option("--limit", metavar="NUMBER", min=1, help="So many of them.")] = 50,
    after: Annotated[
        str | None, typer.Option("--after", metavar="PLACE", help="Go on where the page before ended: its `next`.")
    ] = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""List jobs that failed for good, the newest first.

    All options that are given must fit. With --json the letters of a page are under `letters`, and `next` is what
    --after takes.

    \b
    Examples:
      barque dead list
      barque dead list --task 'fetch_*' --newer 1h
      barque dead list --error ConnectError --limit 500 --json | jq -r '.letters[].job_id'
    """
    chosen = _filters(task, error, queue, older, newer)

    async def look(producer: Producer) -> tuple[DeadPage, int]:
        return await producer.dead.list(limit=limit, after=after, **chosen), await producer.dead.count()

    page, total = ask(read_settings(redis_url=redis_url), look)
    from cli import dead_view  # noqa: PLC0415 - see the top of main.py

    dead_view.show_list(page, total, filtered=bool(chosen), as_json=as_json)


def show(
    job_id: JobId,
    *,
    arguments: Annotated[
        bool, typer.Option("--arguments", help="Show arguments and metadata, too: they may be secret.")
    ] = False,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Show all there is of one job that failed for good: attempts, error, traceback, payload.

    A payload that cannot be decoded is shown as hex: its first bytes, or with --arguments all of it.

    Exit codes: 1 there is no letter of this job, 3 no server.

    \b
    Examples:
      barque dead show 0UBfkBsn000A6EgfFyh0
      barque dead show charge-ada --arguments --json
    """
    letter = ask(read_settings(redis_url=redis_url), lambda producer: producer.dead.get(job_id))
    from cli import dead_view  # noqa: PLC0415 - see the top of main.py

    dead_view.show_one(letter, arguments=arguments, as_json=as_json)


def replay(
    job_ids: JobIds = None,
    *,
    task: OfTask = None,
    error: Error = None,
    queue: Queue = None,
    older: Older = None,
    newer: Newer = None,
    limit: Most = None,
    everything: All = False,
    delay: Annotated[
        float | None, typer.Option("--delay", metavar="TIME", parser=seconds, help="Run them so much later: 90s, 2h.")
    ] = None,
    yes: Yes = False,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Put jobs that failed for good back into their queues, under their ids, attempts counted anew.

    Name them by id, choose them by options that must all fit, or take --all. A job whose id was enqueued again
    meanwhile, or has another result by now, is left alone, and so is its letter.

    Exit codes: 1 a job that was named was not replayed, 2 wrong usage or not confirmed, 3 no server.

    \b
    Examples:
      barque dead replay 0UBfkBsn000A6EgfFyh0
      barque dead replay --task fetch_url --error ConnectError --newer 2h
      barque dead replay --error OperationalError --limit 10 --delay 5m
      barque dead replay --all --yes
    """
    chosen = _chosen(job_ids, _filters(task, error, queue, older, newer), limit, everything=everything)
    settings = read_settings(redis_url=redis_url)
    if everything and not yes:
        _confirm(settings, chosen, limit, "Replay", hint="as each may act twice")
    done = ask(
        settings,
        lambda producer: producer.dead.replay(
            *job_ids or (), limit=limit, delay=delay, everything=everything, **chosen
        ),
    )
    if as_json:
        machine({"replayed": done.replayed, "taken": list(done.taken), "missing": list(done.missing)})
    else:
        note(f"Replayed {jobs(done.replayed)}.")
        _name(done.taken, "left alone: a job of that id is there, or has ended since with another result")
        _name(done.missing, "not there: no letter is kept of it")
    raise typer.Exit(FAILED if job_ids and done.replayed < len(set(job_ids)) else OK)


def delete(
    job_ids: JobIds = None,
    *,
    task: OfTask = None,
    error: Error = None,
    queue: Queue = None,
    older: Older = None,
    newer: Newer = None,
    limit: Most = None,
    everything: All = False,
    yes: Yes = False,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Forget jobs that failed for good: they can be replayed no more. Their results stay as long as they are kept.

    Name them by id, choose them by options that must all fit, or take --all. Unless they are named by id, it asks.

    Exit codes: 1 a job that was named is not there, 2 wrong usage or not confirmed, 3 no server.

    \b
    Examples:
      barque dead delete 0UBfkBsn000A6EgfFyh0
      barque dead delete --task fetch_url --older 1d --yes
      barque dead delete --all
    """
    chosen = _chosen(job_ids, _filters(task, error, queue, older, newer), limit, everything=everything)
    settings = read_settings(redis_url=redis_url)
    if not job_ids and not yes:
        _confirm(settings, chosen, limit, "Delete", hint="for good")
    removed = ask(
        settings,
        lambda producer: producer.dead.delete(*job_ids or (), limit=limit, everything=everything, **chosen),
    )
    if as_json:
        machine({"deleted": removed})
    else:
        note(f"Deleted the dead letters of {jobs(removed)}.")
    raise typer.Exit(FAILED if job_ids and removed < len(set(job_ids)) else OK)


COMMANDS: dict[str, Callable[..., None]] = {"list": list_, "show": show, "replay": replay, "delete": delete}


def _filters(
    task: str | None, error: str | None, queue: str | None, older: float | None, newer: float | None
) -> DeadFilters:
    """Return what was given, and nothing else."""
    chosen: DeadFilters = {}
    for name, text in (("task", task), ("error", error), ("queue", queue)):
        if text is not None:
            chosen[name] = text  # type: ignore[literal-required]  # one of these three
    if older is not None:
        chosen["until"] = timedelta(seconds=older)
    if newer is not None:
        chosen["since"] = timedelta(seconds=newer)
    return chosen


def _chosen(job_ids: list[str] | None, chosen: DeadFilters, limit: int | None, *, everything: bool) -> DeadFilters:
    """Return the filters if it is clear which jobs are meant."""
    ways = [bool(job_ids), bool(chosen) or limit is not None, everything]
    if sum(ways) != 1:
        raise typer.BadParameter(
            "say which: ids, or options such as --task, --error, --older, or --all; one of the three"
        )
    return chosen


def _confirm(settings: Settings, chosen: DeadFilters, limit: int | None, verb: str, *, hint: str) -> None:
    """Ask whether to go on with so many; end the command if not."""

    def count() -> int:
        found = ask(settings, lambda producer: producer.dead.count(**chosen))
        return found if limit is None else min(found, limit)

    confirm(verb.lower(), count, lambda most: f"{verb} {jobs(most)}, {hint}")


def _name(job_ids: tuple[str, ...], why: str) -> None:
    for job_id in job_ids[:_NAMED]:
        note(f"  {visible(job_id)}  {why}")
    if len(job_ids) > _NAMED:
        note(f"  … and {len(job_ids) - _NAMED:,} more")
