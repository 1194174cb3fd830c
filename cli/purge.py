"""`barque purge`: end all jobs of a queue that wait."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from cli.abort import AbortProgress
from cli.asking import ask, confirm
from cli.completing import queue_names
from cli.options import Json, RedisUrl, Yes, read_settings
from cli.output import machine, note
from cli.words import jobs

if TYPE_CHECKING:
    from common.settings import Settings

__all__ = ["purge"]


def purge(
    queue: Annotated[
        str, typer.Argument(metavar="QUEUE", help="The queue's name.", show_default=False, autocompletion=queue_names)
    ],
    *,
    no_results: Annotated[
        bool, typer.Option("--no-results", help="Keep no result of them; a million results take their memory, too.")
    ] = False,
    yes: Yes = False,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""End all jobs of a queue that wait, as cancelled: due or due later, also those that wait for a limit.

    Those that run go on; dead letters stay. Whoever waits for one of them is told. It goes through the queue a hundred
    jobs at a time, so that the fleet works on; what is enqueued meanwhile may be among them or not. It asks first, with
    the number of jobs.

    Exit codes: 2 wrong usage or not confirmed, 3 no server.

    \b
    Examples:
      barque purge low
      barque pause --queue low && barque purge low --yes --no-results
    """
    settings = read_settings(redis_url=redis_url)
    if not yes:
        _confirm(settings, queue)
    shown = AbortProgress(dry_run=False)
    done = ask(settings, lambda producer: producer.purge(queue, keep_results=not no_results, progress=shown))
    shown.clear()
    if as_json:
        machine({**dataclasses.asdict(done), "queue": queue})
        return
    left = f"; left {jobs(done.left)} alone that had ended, had begun or were enqueued anew" if done.left else ""
    note(f"Queue {queue}: ended {jobs(done.cancelled)} that waited{left}.")


def _confirm(settings: Settings, queue: str) -> None:
    def count() -> int:
        report = ask(settings, lambda producer: producer.inspector.queue(queue))
        return report.queued + report.scheduled

    confirm("purge", count, lambda most: f"End up to {jobs(most)} of queue {queue}, all that do not run, for good")
