"""`barque tail`: attempts as they end, on the whole fleet. What a line looks like is tail_view.py's."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.completing import outcomes, queue_names, task_names, worker_names
from cli.exit_codes import OK
from cli.options import Json, RedisUrl, read_settings
from cli.output import note
from cli.values import seconds

if TYPE_CHECKING:
    from common.attempt_filter import AttemptFilter
    from common.settings import Settings

__all__ = ["tail"]


def tail(
    *,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="NAME",
            help="Of this task, or of those like fetch_*; repeat it for each.",
            autocompletion=task_names,
        ),
    ] = None,
    outcomes: Annotated[
        list[str] | None,
        typer.Option(
            "--outcome",
            metavar="WORD",
            help="That ended so: succeeded, failed, …; repeat it for each.",
            autocompletion=outcomes,
        ),
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="That failed in any way, be they retried or not; for four --outcome.")
    ] = False,
    queues: Annotated[
        list[str] | None,
        typer.Option("--queue", metavar="NAME", help="Of this queue; repeat it for each.", autocompletion=queue_names),
    ] = None,
    workers: Annotated[
        list[str] | None,
        typer.Option(
            "--worker",
            metavar="ID",
            help="Of this worker, or of those like web1-*; repeat it for each.",
            autocompletion=worker_names,
        ),
    ] = None,
    slower: Annotated[
        float | None,
        typer.Option("--slower", metavar="TIME", parser=seconds, help="That ran for so long at least: 0.5, 500ms, 2m."),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", metavar="N", min=1, help="End after so many.", show_default="never")
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", "-l", help="Say queue, worker, wait and event loop time, too.")
    ] = False,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Show attempts as they end, on the whole fleet, until Ctrl-C.

    A line has the time (UTC), how it ended, for how long it ran, task and job. What is given more than once fits if one
    fits; what is given of several kinds has to fit all. Arguments are never shown. Workers tell only while somebody
    follows, and each of 200 a second and some more: how many were left out is said on stderr. What was before is in
    the workers' logs.

    With --json, one object a line: job_id, task, queue, attempt, outcome, ended_ms (Unix ms), queued_ms, run_ms,
    busy_ms, worker, error, retry_in_ms.

    Exit codes: 0 after --count, 2 wrong usage, 3 no server, 130 ended by Ctrl-C.

    \b
    Examples:
      barque tail
      barque tail --failed --task 'fetch_*'
      barque tail --slower 2s --long
      barque tail --json --count 1000 | jq -s 'group_by(.task) | map({task: .[0].task, n: length})'
    """
    settings = read_settings(redis_url=redis_url)
    wanted = _wanted(tasks, outcomes, queues, workers, failed=failed, slower=slower)
    asyncio.run(_follow(settings, wanted, count, long=long, as_json=as_json))
    raise typer.Exit(OK)


def _wanted(
    tasks: list[str] | None,
    outcomes: list[str] | None,
    queues: list[str] | None,
    workers: list[str] | None,
    *,
    failed: bool,
    slower: float | None,
) -> AttemptFilter:
    from common.attempt_filter import AttemptFilter  # noqa: PLC0415 - see the top of main.py
    from common.jobs import OutcomeKind  # noqa: PLC0415
    from common.worker_reports import FAILURES  # noqa: PLC0415

    known = [kind.value for kind in OutcomeKind if kind not in {OutcomeKind.PASSED_ON, OutcomeKind.HELD_BACK}]
    for outcome in outcomes or ():
        if outcome not in known:
            raise typer.BadParameter(f"{outcome}: no outcome; there are {', '.join(known)}", param_hint="--outcome")
    words = frozenset(outcomes or ()) | (FAILURES if failed else frozenset())
    slower_ms = (slower or 0.0) * 1000
    return AttemptFilter(tuple(tasks or ()), tuple(queues or ()), tuple(workers or ()), words, slower_ms)


async def _follow(settings: Settings, wanted: AttemptFilter, most: int | None, *, long: bool, as_json: bool) -> None:
    from cli.asking import asking  # noqa: PLC0415 - see the top of main.py
    from cli.tail_view import gap_words, show_attempt  # noqa: PLC0415
    from common.redis.fleet import FleetReader, Gap  # noqa: PLC0415
    from producer import Producer  # noqa: PLC0415

    shown = 0
    with asking(settings):
        async with Producer(settings=settings) as producer:
            reader = FleetReader(producer.store.client)
            async with reader.follow(wanted) as feed:
                if sys.stderr.isatty():
                    _say_who_tells(len((await reader.snapshot()).workers))
                async for item in feed:
                    if isinstance(item, Gap):
                        note(gap_words(item))
                        continue
                    try:
                        show_attempt(item, long=long, as_json=as_json)
                    except BrokenPipeError:  # whoever read it has seen enough: `barque tail | head`
                        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                        return
                    shown += 1
                    if shown == most:
                        return


def _say_who_tells(workers: int) -> None:
    if workers:
        note(f"Following {workers} worker{'' if workers == 1 else 's'}; Ctrl-C ends it.")
    else:
        note("No worker is alive: there is nothing to follow until one is. Ctrl-C ends it.")
