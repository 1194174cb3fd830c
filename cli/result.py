"""`barque result`: what became of one job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from cli.completing import queue_names
from cli.exit_codes import NOT_YET
from cli.options import JobId, Json, RedisUrl, WaitTimeout, read_settings
from cli.output import machine, note

if TYPE_CHECKING:
    from cli.outcome import Ending
    from common.settings import Settings

__all__ = ["result"]


def result(
    job_id: JobId,
    *,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until it has one.")] = False,
    timeout: WaitTimeout = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue",
            metavar="QUEUE",
            help="Where it was enqueued; asked for only while it has no result.",
            autocompletion=queue_names,
        ),
    ] = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Print the result of a job as JSON, or the error it ended with.

    Bytes in a result are printed as base64. An error is printed on stderr with the worker's traceback.

    Exit codes: 1 the job failed, was cancelled or is not there, or its result cannot be read here, 3 no server,
    4 no result yet.

    \b
    Examples:
      barque result 0UBfkBsn000A6EgfFyh0
      barque result greet-ada --wait --timeout 1m
      barque result greet-ada --json | jq .result
    """
    if timeout is not None and not wait:
        raise typer.BadParameter("it says how long to --wait", param_hint="--timeout")
    settings = read_settings(redis_url=redis_url)
    state, ending = asyncio.run(_find(job_id, settings, queue, wait=wait, timeout=timeout))
    if ending is not None:
        from cli.outcome import show_ending  # noqa: PLC0415 - see the top of main.py

        raise typer.Exit(show_ending(ending, as_json=as_json))
    if as_json:
        machine({"job_id": job_id, "state": state})
    note(f"Job {job_id} is {state}: it has no result yet; --wait waits for it.")
    raise typer.Exit(NOT_YET)


async def _find(
    job_id: str, settings: Settings, queue: str | None, *, wait: bool, timeout: float | None
) -> tuple[str, Ending | None]:
    """Return the job's state, and how it ended if it has.

    Raises:
        JobNotFound: there is no such job.
        ResultTimeout: it had not ended when `timeout` was over.
    """
    from cli.asking import asking  # noqa: PLC0415 - see the top of main.py
    from cli.lookup import find_job  # noqa: PLC0415
    from cli.outcome import wait_for  # noqa: PLC0415
    from common.errors import JobNotFound  # noqa: PLC0415
    from common.jobs import JobState  # noqa: PLC0415
    from producer import Producer  # noqa: PLC0415

    with asking(settings):
        async with Producer(settings=settings) as producer:
            if not wait:
                queues = [queue] if queue else await producer.inspector.queues_in_use(settings.queues)
                info = await find_job(producer.inspector, job_id, queues)
                if info.state is JobState.UNKNOWN:
                    raise JobNotFound(
                        f"job {job_id} is not there: it was never enqueued in {', '.join(queues)} (--queue names "
                        "another), or it ended and its result is no longer kept",
                        job_id=job_id,
                    )
                if not info.state.ended:
                    return info.state.value, None
            ending = await wait_for(producer.job(job_id, queue=queue), timeout)
            return ending.state.value, ending
