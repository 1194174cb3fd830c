"""`barque jobs` and `barque job`: which jobs there are, and all about one. What they print is jobs_view.py's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.asking import ask
from cli.completing import queue_names, states, task_names
from cli.exit_codes import FAILED, OK
from cli.options import JobId, Json, RedisUrl, read_settings
from cli.output import machine, note

if TYPE_CHECKING:
    from common.pauses import Pause
    from producer import Producer
    from producer.job_filters import JobFilters
    from producer.listing import JobPage

__all__ = ["job", "jobs"]

_PAGE = 50
_PAGE_OF_ALL = 500

Arguments = Annotated[bool, typer.Option("--arguments", help="Show arguments, too: they may be secret.")]


def jobs(
    *,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help="running, queued, waiting (for a limit), scheduled, dead, succeeded, failed, cancelled, ended "
            "(unreadable); several with commas.",
            autocompletion=states,
        ),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue",
            metavar="QUEUE",
            help="Of this queue; else of BARQUE_QUEUES and all that are served.",
            autocompletion=queue_names,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", metavar="NAME", help="Of this task; * and ? stand for any characters.", autocompletion=task_names
        ),
    ] = None,
    job_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="The one of this id, found at once.")] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="Of this limit key or fair key; with --task, of this unique key."),
    ] = None,
    error: Annotated[
        str | None,
        typer.Option("--error", metavar="TEXT", help="Ended with an error whose class or message has this text."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="NUMBER", min=1, max=_PAGE_OF_ALL, help="So many on a page.")
    ] = _PAGE,
    cursor: Annotated[
        str | None,
        typer.Option("--cursor", metavar="PLACE", help="Go on where the page before ended, with the same options."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Go on page by page, to the end.")] = False,
    arguments: Arguments = False,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""List jobs: by default all there are, those that run first.

    Options that are given must all fit. A page looks at about two thousand jobs, however few of them fit, and says
    where the next one begins; --all goes on to the end. With --json each page is a document of its own, on a line.

    Of the dead `barque dead list` tells more. What is kept is what can be listed: results for BARQUE_KEEP_RESULT.

    \b
    Examples:
      barque jobs
      barque jobs --state running,queued --queue high
      barque jobs --state failed --error 'connection refused'
      barque jobs --task 'send_*' --key acme --all --json | jq -r '.jobs[].job_id'
    """
    filters: JobFilters = {"queue": queue, "task": task, "id": job_id, "key": key, "error": error}
    if state is not None:
        filters["state"] = [name.strip() for name in state.split(",")]
    settings = read_settings(redis_url=redis_url)
    from cli.jobs_view import Listing  # noqa: PLC0415 - see the top of main.py

    async def go_through(producer: Producer) -> None:
        listing = Listing(everything=everything, arguments=arguments, as_json=as_json)
        following = cursor
        while True:
            page = await producer.jobs(limit=_PAGE_OF_ALL if everything else limit, cursor=following, **filters)
            listing.show(page)
            following = page.next
            if following is None or not everything:
                break
        listing.end(page)

    ask(settings, go_through)


def job(
    job_id: JobId,
    *,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue", metavar="QUEUE", help="Where it is, if no worker serves that queue.", autocompletion=queue_names
        ),
    ] = None,
    arguments: Arguments = False,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Show all there is of one job: where it stands, its attempts, its error and traceback; arguments if asked for.

    It is found in whatever state it is, as long as something is kept of it. Its result is what `barque result` prints.

    Exit codes: 1 there is no such job, 3 no server.

    \b
    Examples:
      barque job 0UBfkBsn000A6EgfFyh0
      barque job charge-ada --arguments --json
    """

    async def find(producer: Producer) -> tuple[JobPage, list[Pause]]:
        return await producer.jobs(id=job_id, queue=queue), await producer.pauses()

    page, pauses = ask(read_settings(redis_url=redis_url), find)
    if not page.jobs:
        if as_json:
            machine(None)
        note(f"There is no job {job_id}: never enqueued in the queues looked in (--queue names another), or not kept.")
        raise typer.Exit(FAILED)
    from cli import job_view  # noqa: PLC0415 - see the top of main.py

    job_view.show_job(page.jobs[0], pauses, arguments=arguments, as_json=as_json)
    raise typer.Exit(OK)
