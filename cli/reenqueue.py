"""`barque reenqueue`: a new job like an earlier one, with some things changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.asking import ask
from cli.completing import priorities, queue_names
from cli.options import At, CheckCall, Delay, JobTimeout, Json, RedisUrl, Tasks, add_current_folder, read_settings
from cli.output import machine, note
from cli.values import pairs

if TYPE_CHECKING:
    from common.settings import Settings
    from producer import Job, Producer
    from producer.editing import Reenqueued

__all__ = ["reenqueue"]


def reenqueue(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The earlier job's id.", show_default=False)],
    *,
    arguments: Annotated[
        list[str] | None,
        typer.Option(
            "--argument", metavar="KEY=VALUE", help="Another argument: by place, 0=…, or by name; repeat it for each."
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Take all values as text, none as JSON.")] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Take the earlier one away: one that waits ends, a dead letter is deleted."),
    ] = False,
    delay: Delay = None,
    at: At = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue", metavar="QUEUE", help="Where the new one goes, instead of the same.", autocompletion=queue_names
        ),
    ] = None,
    in_queue: Annotated[
        str | None,
        typer.Option(
            "--in-queue",
            metavar="QUEUE",
            help="Where the earlier one is, if no worker serves that queue.",
            autocompletion=queue_names,
        ),
    ] = None,
    priority: Annotated[
        str | None,
        typer.Option(
            "--priority",
            metavar="0-9",
            help="Another one; or high, urgent, critical.",
            autocompletion=priorities,
        ),
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option("--max-attempts", metavar="N", min=1, help="Attempts in all.")
    ] = None,
    job_timeout: JobTimeout = None,
    new_id: Annotated[
        str | None, typer.Option("--new-id", metavar="ID", help="The new job's id, instead of a fresh one.")
    ] = None,
    check: CheckCall = True,
    tasks: Tasks = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Add a new job like an earlier one, which waits, has ended or is dead, and print its id.

    What is not given is as it was: task, arguments, queue, metadata, options. Its attempts are counted anew. The new
    one is there before anything is taken away from the earlier one. To run a dead one again as it is, under its own id,
    take `barque dead replay`.

    Exit codes: 1 nothing is kept of the earlier one, or it runs and was to be replaced, 2 wrong usage, 3 no server.

    \b
    Examples:
      barque reenqueue 0UBfkBsn000A6EgfFyh0 --argument url=https://example.org
      barque reenqueue charge-ada --argument 0=17 --delay 5m --replace
      barque reenqueue charge-ada --queue low --max-attempts 1
    """
    settings = read_settings(redis_url=redis_url, tasks=tasks)
    given = pairs(arguments, "--argument", raw=raw)
    changed = {int(key) if key.isdecimal() else key: value for key, value in given.items()}
    options: dict[str, Any] = {
        "delay": delay,
        "at": at,
        "queue": queue,
        "in_queue": in_queue,
        "priority": int(priority) if priority is not None and priority.isdecimal() else priority,
        "max_attempts": max_attempts,
        "timeout": job_timeout,
        "new_id": new_id,
    }
    if check:
        _import_tasks(settings, must_import=tasks is not None)

    async def add(producer: Producer) -> Reenqueued[Job[Any]]:
        return await producer.reenqueue(job_id, arguments=changed or None, replace=replace, **options)

    done = ask(settings, add)
    job = done.job
    if as_json:
        machine(
            {
                "job_id": job.job_id,
                "queue": job.queue,
                "is_new": job.is_new,
                "earlier": {"job_id": job_id, "state": done.earlier.value, "replaced": done.replaced},
            }
        )
        return
    print(job.job_id)
    if not job.is_new:
        note(f"Nothing was added: job {job.job_id} is there, or its result is kept.")
    elif done.replaced:
        note(f"Enqueued in {job.queue}; job {job_id} was taken away.")
    else:
        why = "there was nothing to take away" if done.earlier.ended else "it began or ended meanwhile"
        note(f"Enqueued in {job.queue}{f'; job {job_id} stays as it is: {why}' if replace else ''}.")


def _import_tasks(settings: Settings, *, must_import: bool) -> None:
    """Import the tasks, whose arguments are checked then; say it where that cannot be."""
    from common.errors import ConfigurationError, DuplicateTask  # noqa: PLC0415 - see the top of main.py
    from common.tasks import import_tasks  # noqa: PLC0415

    add_current_folder()
    try:
        import_tasks(settings.tasks)
    except ConfigurationError as error:
        if must_import or isinstance(error, DuplicateTask):
            raise
        note(f"Arguments are not checked (--no-check does without this line): {error}")
