"""`barque reschedule`: have jobs that wait come due at another time."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.asking import ask
from cli.completing import queue_names
from cli.exit_codes import FAILED, OK
from cli.options import At, Delay, Json, RedisUrl, read_settings
from cli.output import machine, note, visible
from cli.words import moment as in_words

if TYPE_CHECKING:
    from producer import Producer

__all__ = ["reschedule"]


def reschedule(
    job_ids: Annotated[
        list[str], typer.Argument(metavar="ID", help="Jobs that wait, by their ids.", show_default=False)
    ],
    *,
    delay: Delay = None,
    at: At = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue",
            metavar="QUEUE",
            help="Where they are; else BARQUE_QUEUES and those that workers serve.",
            autocompletion=queue_names,
        ),
    ] = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Have jobs that wait come due at another time: queued, delayed, or between two attempts, which stay counted.

    A job that runs, or has ended, is left alone.

    Exit codes: 1 a job was left alone, or is not there, 2 wrong usage, 3 no server.

    \b
    Examples:
      barque reschedule 0UBfkBsn000A6EgfFyh0 --delay 0
      barque reschedule greet-ada greet-grace --delay 2h
      barque reschedule greet-ada --at 2030-01-31T08:00Z
    """
    if (delay is None) == (at is None):
        raise typer.BadParameter("say when: --delay 5m, or --at 2030-01-31T08:00Z, one of the two")
    settings = read_settings(redis_url=redis_url)

    async def each(producer: Producer) -> list[dict[str, Any]]:
        queues = [queue] if queue else await producer.inspector.queues_in_use(settings.queues)
        return [await _reschedule(producer, job_id, queues, delay, at) for job_id in dict.fromkeys(job_ids)]

    found = ask(settings, each)
    if as_json:
        machine([{**job, "due_at": job["due_at"] and job["due_at"].isoformat()} for job in found])
    else:
        for job in found:
            due = job["due_at"]
            note(f"{visible(job['job_id'])}  {f'due at {in_words(due)}' if due else job['error']}")
    raise typer.Exit(OK if all(job["due_at"] for job in found) else FAILED)


async def _reschedule(
    producer: Producer, job_id: str, queues: list[str], delay: float | None, at: datetime | None
) -> dict[str, Any]:
    """Return what became of one job: when it is due, or why it was left alone."""
    from cli.lookup import find_job  # noqa: PLC0415 - see the top of main.py
    from common.errors import ConfigurationError, JobError  # noqa: PLC0415

    info = await find_job(producer.inspector, job_id, queues)
    try:
        due = await producer.job(job_id, queue=info.queue or queues[0]).reschedule(delay=delay, at=at)
    except (JobError, ConfigurationError) as error:
        return {"job_id": job_id, "due_at": None, "error": str(error)}
    return {"job_id": job_id, "due_at": due, "error": None}
