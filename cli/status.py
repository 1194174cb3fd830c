"""`barque status`: how queues and workers are doing, or where some jobs stand.

What it prints is status_view.py's, and of jobs job_view.py's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from cli.completing import queue_list
from cli.exit_codes import FAILED, OK
from cli.options import Json, RedisUrl, read_settings

if TYPE_CHECKING:
    from cli.status_view import Overview
    from common.jobs import JobInfo
    from common.pauses import Pause
    from common.settings import Settings

__all__ = ["status"]


def status(
    job_ids: Annotated[
        list[str] | None, typer.Argument(metavar="IDS", help="Jobs; without any, all is looked over.")
    ] = None,
    *,
    queues: Annotated[
        str | None,
        typer.Option(
            "--queues",
            metavar="A,B",
            help="Queues to look in, instead of BARQUE_QUEUES and those that workers serve.",
            autocompletion=queue_list,
        ),
    ] = None,
    arguments: Annotated[
        bool, typer.Option("--arguments", help="Show the jobs' arguments, too: they may be secret.")
    ] = False,
    logs: Annotated[
        bool, typer.Option("--logs", help="Show the lines that the jobs' attempts logged, where their tasks keep some.")
    ] = False,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Show the server, the queues and the workers that live; or where these jobs stand.

    A queue's "queued" jobs are due and wait for a worker. "Scheduled or running" are those that are due later, and
    those that run: a running job's place is the end of its lease. Workers report every five seconds.

    Of a job each attempt is shown, the oldest first, if it had more than one: when it ran, on which worker, and how it
    ended.

    Exit codes: 1 a job is not there, or has ended and its result cannot be read here, 3 no server.

    \b
    Examples:
      barque status
      barque status --queues high,low --json
      barque status 0UBfkBsn000A6EgfFyh0
      barque status 0UBfkBsn000A6EgfFyh0 --logs
    """
    settings = read_settings(redis_url=redis_url, queues=queues)
    if not job_ids:
        from cli import status_view  # noqa: PLC0415 - see the top of main.py

        status_view.show_overview(asyncio.run(_overview(settings, only=queues is not None)), as_json=as_json)
        raise typer.Exit(OK)
    infos, pauses = asyncio.run(_jobs(job_ids, settings, only=queues is not None))
    from cli import job_view  # noqa: PLC0415 - see the top of main.py

    job_view.show_jobs(infos, pauses, arguments=arguments, logs=logs, as_json=as_json)
    raise typer.Exit(FAILED if any(info.state.value in {"unknown", "ended"} for info in infos) else OK)


async def _overview(settings: Settings, *, only: bool) -> Overview:
    from cli.asking import asking  # noqa: PLC0415 - see the top of main.py
    from cli.status_view import Overview  # noqa: PLC0415
    from common.redis.connection import describe  # noqa: PLC0415
    from common.redis.inspect import queues_in_use  # noqa: PLC0415
    from common.redis.server_report import read_server  # noqa: PLC0415
    from producer import Producer  # noqa: PLC0415

    with asking(settings):
        async with Producer(settings=settings) as producer:
            inspector = producer.inspector
            workers = await inspector.workers()
            queues = settings.queues if only else queues_in_use(settings.queues, workers)
            reports = [await inspector.queue(queue) for queue in queues]
            server = await read_server(producer.store.client)
            pauses = await producer.pauses()
    return Overview(describe(settings), server, reports, workers, pauses)


async def _jobs(job_ids: list[str], settings: Settings, *, only: bool) -> tuple[list[JobInfo], list[Pause]]:
    from cli.asking import asking  # noqa: PLC0415 - see the top of main.py
    from cli.lookup import find_job  # noqa: PLC0415
    from producer import Producer  # noqa: PLC0415

    with asking(settings):
        async with Producer(settings=settings) as producer:
            inspector = producer.inspector
            queues = settings.queues if only else await inspector.queues_in_use(settings.queues)
            infos = [await find_job(inspector, job_id, queues) for job_id in job_ids]
            return infos, await producer.pauses()
