"""`barque enqueue`: add one job, and wait for it if asked to.

Owns the options and the order of things; how text becomes values is values.py's, whether a task takes them
task_check.py's.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.completing import priorities
from cli.options import (
    At,
    CheckCall,
    Delay,
    JobTimeout,
    Json,
    Keywords,
    Positional,
    Raw,
    RedisUrl,
    TaskName,
    TaskQueue,
    Tasks,
    WaitTimeout,
    add_current_folder,
    read_settings,
)
from cli.output import machine, note
from cli.values import as_value, pairs, seconds

if TYPE_CHECKING:
    from common.settings import Settings
    from common.tasks import Call

__all__ = ["enqueue"]

_LIKE_A_KEYWORD = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Whether to wait for the job, and how long (seconds; None is without end)."""

    asked: bool
    timeout: float | None


def enqueue(
    task: TaskName,
    arguments: Positional = None,
    *,
    keywords: Keywords = None,
    raw: Raw = False,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the result, and print it.")] = False,
    timeout: WaitTimeout = None,
    delay: Delay = None,
    at: At = None,
    expires: Annotated[
        float | None,
        typer.Option("--expires", metavar="TIME", parser=seconds, help="From now; after that it is not started."),
    ] = None,
    job_id: Annotated[
        str | None,
        typer.Option("--job-id", metavar="ID", help="An id of your own; nothing is added while a job has it."),
    ] = None,
    queue: TaskQueue = None,
    job_timeout: JobTimeout = None,
    soft_timeout: Annotated[
        float | None,
        typer.Option(
            "--soft-timeout", metavar="TIME", parser=seconds, help="When an attempt is told to come to an end."
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            "--deadline",
            metavar="TIME",
            parser=seconds,
            help="From when it is due; by then it has ended, one way or other.",
        ),
    ] = None,
    max_attempts: Annotated[
        int | None,
        typer.Option("--max-attempts", metavar="N", min=1, help="Attempts in all, instead of what the task says."),
    ] = None,
    priority: Annotated[
        str | None,
        typer.Option(
            "--priority",
            metavar="0-9",
            help="0 is normal, 9 most urgent; or high, urgent, critical.",
            autocompletion=priorities,
        ),
    ] = None,
    fair_key: Annotated[
        str | None,
        typer.Option("--fair-key", metavar="KEY", help="Whose job it is, where the tenants of a queue take turns."),
    ] = None,
    limit_key: Annotated[
        str | None,
        typer.Option("--limit-key", metavar="KEY", help="What its task's limits know it by, instead of their key=."),
    ] = None,
    limit_cost: Annotated[
        float | None,
        typer.Option("--limit-cost", metavar="NUMBER", help="What it counts for at its task's rates."),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", "-m", metavar="KEY=VALUE", help="Travels with the job; repeat it for each."),
    ] = None,
    check: CheckCall = True,
    tasks: Tasks = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Add one job, and print its id; with --wait, its result.

    An argument that is JSON travels as what it says (5, true, null, \[1, 2], {"a": 1}, "5"), any other as text.
    After a `--` everything is an argument, also what starts with a dash. With --wait the result is printed as JSON,
    bytes in it as base64.

    Exit codes: 1 the job failed or was cancelled, 2 wrong usage, 3 no server, 4 no result within --timeout.

    \b
    Examples:
      barque enqueue fetch_url https://example.com --wait --timeout 30
      barque enqueue resize '{"width": 80}' -k quality=90 --delay 5m
      barque enqueue greet --raw 007
      barque enqueue add -- 1 -2
      barque enqueue their_task 1 --no-check --queue theirs
    """
    if timeout is not None and not wait:
        raise typer.BadParameter(
            "it says how long to --wait; what one attempt may take is --job-timeout", param_hint="--timeout"
        )
    settings = read_settings(redis_url=redis_url, tasks=tasks)
    from common.tasks import Call  # noqa: PLC0415 - brings in msgspec; not for --help

    positional = [as_value(text, raw=raw) for text in arguments or ()]
    call: Call[Any] = Call(task, *positional, **pairs(keywords, "--kwargs", raw=raw))
    if keywords and not check and any(_LIKE_A_KEYWORD.match(text) for text in arguments or ()):
        note("Note: an argument that looks like KEY=VALUE travels as a positional one; each keyword wants its own -k.")
    if check:
        from cli.task_check import check_call  # noqa: PLC0415 - the tasks import a lot; not for --help

        add_current_folder()
        call = check_call(call, settings, must_import=tasks is not None)
    options = {
        "delay": delay,
        "at": at,
        "expires": expires,
        "job_id": job_id,
        "queue": queue,
        "timeout": job_timeout,
        "soft_timeout": soft_timeout,
        "deadline": deadline,
        "max_attempts": max_attempts,
        "priority": int(priority) if priority is not None and priority.isdecimal() else priority,
        "fair_key": fair_key,
        "limit_key": limit_key,
        "limit_cost": limit_cost,
        "metadata": pairs(metadata, "--metadata", raw=raw) or None,
    }
    code = asyncio.run(_enqueue(call, settings, options, _Waiting(wait, timeout), as_json=as_json))
    raise typer.Exit(code)


async def _enqueue(
    call: Call[Any], settings: Settings, options: dict[str, Any], waiting: _Waiting, *, as_json: bool
) -> int:
    from cli.asking import asking  # noqa: PLC0415 - see the top of main.py
    from cli.outcome import show_ending, wait_for  # noqa: PLC0415
    from producer import Producer  # noqa: PLC0415

    with asking(settings):
        async with Producer(settings=settings) as producer:
            job = await producer.enqueue(call, **options)
            head = {"job_id": job.job_id, "task": call.name, "queue": job.queue, "is_new": job.is_new}
            if job.replaced:
                note(f"Job {job.job_id} of the same unique key waited, and has these arguments now.")
            elif not job.is_new:
                note(f"Nothing was added: job {job.job_id} is there, by its id or unique key, or its result is kept.")
            if waiting.asked:
                if job.is_new:
                    note(f"Job {job.job_id} is in {job.queue}; waiting for its result.")
                # A handle without the task: the result as plain data, as JSON wants it.
                ending = await wait_for(producer.job(job.job_id, queue=job.queue), waiting.timeout)
    if waiting.asked:
        return show_ending(ending, as_json=as_json, head=head)
    if as_json:
        machine(head)
    else:
        print(job.job_id)
        if job.is_new:
            note(f"Enqueued {call.name} in {job.queue}.")
    return 0
