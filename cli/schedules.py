"""`barque schedules …`: see the fleet's schedules, and add, change, pause, run and remove them.

What is printed of them is schedules_view.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.asking import ask
from cli.completing import one_of, schedule_names
from cli.exit_codes import FAILED, OK
from cli.options import (
    CheckCall,
    Json,
    Keywords,
    Positional,
    Raw,
    RedisUrl,
    TaskName,
    TaskQueue,
    Tasks,
    add_current_folder,
    read_settings,
)
from cli.output import machine, note
from cli.values import as_value, pairs, seconds

if TYPE_CHECKING:
    from common.jobs import JobState
    from common.schedule_records import ScheduleInfo
    from common.schedules import Missed, Timetable
    from common.tasks import Call
    from producer import Producer

__all__ = ["COMMANDS", "schedules"]

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The schedule's name.", show_default=False, autocompletion=schedule_names)
]
Arguments = Annotated[bool, typer.Option("--arguments", help="Show the calls' arguments, too: they may be secret.")]


def schedules() -> None:
    r"""See the fleet's schedules, and add, change, pause, run and remove them.

    Schedules declared in code (@cron, @every) are listed, paused and run here; what they do is changed in the code.
    Those added here are known to every worker at once. All commands have --json.

    \b
    Examples:
      barque schedules list
      barque schedules add tidy-eu tidy eu --cron '30 6 * * mon-fri'
      barque schedules add poll poll_feeds --every 90s --missed skip
      barque schedules pause tidy-eu
      barque schedules run-now tidy-eu
    """


def list_(*, arguments: Arguments = False, redis_url: RedisUrl = None, as_json: Json = False) -> None:
    r"""List all schedules: when they run next, and what became of their last run.

    The next to run come first, then those that are paused, or whose code no worker runs any more.

    \b
    Examples:
      barque schedules list
      barque schedules list --json | jq '.[].next_run'
    """

    async def look(producer: Producer) -> list[tuple[ScheduleInfo, JobState | None]]:
        return [(info, await _outcome(producer, info)) for info in await producer.schedules.list()]

    found = ask(read_settings(redis_url=redis_url), look)
    from cli import schedules_view  # noqa: PLC0415 - see the top of main.py

    schedules_view.show_list(found, arguments=arguments, as_json=as_json)


def show(name: Name, *, arguments: Arguments = False, redis_url: RedisUrl = None, as_json: Json = False) -> None:
    r"""Show all there is of one schedule, and its next five runs.

    Exit codes: 1 there is none of this name, 3 no server.

    \b
    Examples:
      barque schedules show tidy-eu
      barque schedules show tidy-eu --arguments --json
    """

    async def look(producer: Producer) -> tuple[ScheduleInfo, JobState | None]:
        info = await producer.schedules.get(name)
        return info, await _outcome(producer, info)

    info, outcome = ask(read_settings(redis_url=redis_url), look)
    from cli import schedules_view  # noqa: PLC0415 - see the top of main.py

    schedules_view.show_one(info, outcome, arguments=arguments, as_json=as_json)


def add(
    name: Name,
    task: TaskName,
    arguments: Positional = None,
    *,
    cron: Annotated[
        str | None, typer.Option("--cron", metavar="EXPRESSION", help="Times: '*/5 * * * *', six fields, or @daily.")
    ] = None,
    every: Annotated[
        float | None, typer.Option("--every", metavar="TIME", parser=seconds, help="Or an interval: 90s, 5m, 2h, 1d.")
    ] = None,
    timezone: Annotated[
        str, typer.Option("--timezone", metavar="ZONE", help="Whose clock --cron is read on, as Europe/Berlin.")
    ] = "UTC",
    missed: Annotated[
        str,
        typer.Option(
            "--missed",
            metavar="POLICY",
            help="Of ticks nobody was there for: once, skip or all.",
            autocompletion=one_of("once", "skip", "all"),
        ),
    ] = "once",
    jitter: Annotated[
        float | None, typer.Option("--jitter", metavar="TIME", parser=seconds, help="Put each run off by up to this.")
    ] = None,
    overlap: Annotated[
        bool, typer.Option("--overlap/--no-overlap", help="Whether to run while the job before has not ended.")
    ] = True,
    keywords: Keywords = None,
    raw: Raw = False,
    queue: TaskQueue = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change one of this name that was added so.")] = False,
    check: CheckCall = True,
    tasks: Tasks = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Add a schedule; every worker knows of it at once.

    Arguments are read as by `barque enqueue`. Added again as it is, a schedule stays as it is.

    Exit codes: 2 wrong usage, or another schedule has this name, 3 no server.

    \b
    Examples:
      barque schedules add tidy-eu tidy eu --cron @daily --timezone Asia/Tokyo
      barque schedules add poll poll_feeds --every 90s --jitter 5s --no-overlap
      barque schedules add poll poll_feeds --every 2m --replace
      barque schedules add theirs their_task -k size=5 --every 1h --no-check
    """
    settings = read_settings(redis_url=redis_url, tasks=tasks)
    from common.tasks import Call  # noqa: PLC0415 - brings in msgspec; not for --help

    when = _timetable(cron, every, timezone, missed, jitter or 0.0, overlap=overlap)
    positional = [as_value(text, raw=raw) for text in arguments or ()]
    call: Call[Any] = Call(task, *positional, **pairs(keywords, "--kwargs", raw=raw))
    if check:
        from cli.task_check import check_call  # noqa: PLC0415 - the tasks import a lot; not for --help

        add_current_folder()
        call = check_call(call, settings, must_import=tasks is not None)
    info = ask(settings, lambda producer: producer.schedules.add(name, call, when, queue=queue, replace=replace))
    from cli import schedules_view  # noqa: PLC0415 - see the top of main.py

    schedules_view.show_one(info, None, arguments=False, as_json=as_json)


def remove(name: Name, *, redis_url: RedisUrl = None, as_json: Json = False) -> None:
    r"""Remove a schedule. Jobs that came of it are left alone.

    Exit codes: 1 there is none of this name, 2 the code of live workers declares it, 3 no server.

    \b
    Examples:
      barque schedules remove tidy-eu
    """
    removed = ask(read_settings(redis_url=redis_url), lambda producer: producer.schedules.remove(name))
    _report(name, "removed" if removed else "missing", as_json=as_json)
    raise typer.Exit(OK if removed else FAILED)


def pause(name: Name, *, redis_url: RedisUrl = None, as_json: Json = False) -> None:
    r"""Let a schedule run no more until it is resumed, restarts and deploys included.

    Exit codes: 1 there is none of this name, 3 no server.

    \b
    Examples:
      barque schedules pause tidy-eu
    """
    changed = ask(read_settings(redis_url=redis_url), lambda producer: producer.schedules.pause(name))
    _report(name, "paused" if changed else "was paused already", as_json=as_json)


def resume(name: Name, *, redis_url: RedisUrl = None, as_json: Json = False) -> None:
    r"""Let a paused schedule run again, from its next time on.

    Exit codes: 1 there is none of this name, 3 no server.

    \b
    Examples:
      barque schedules resume tidy-eu
    """
    changed = ask(read_settings(redis_url=redis_url), lambda producer: producer.schedules.resume(name))
    _report(name, "resumed" if changed else "was not paused", as_json=as_json)


def run_now(name: Name, *, redis_url: RedisUrl = None, as_json: Json = False) -> None:
    r"""Enqueue one run of a schedule at once, paused or not, and print the job's id.

    Its next run stays as it is.

    Exit codes: 1 there is none of this name, 3 no server.

    \b
    Examples:
      barque schedules run-now tidy-eu
      barque result $(barque schedules run-now tidy-eu) --wait
    """
    job = ask(read_settings(redis_url=redis_url), lambda producer: producer.schedules.run_now(name))
    if as_json:
        machine({"name": name, "job_id": job.job_id, "queue": job.queue})
    else:
        print(job.job_id)
        note(f"Enqueued a run of {name} in {job.queue}.")


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_,
    "show": show,
    "add": add,
    "pause": pause,
    "resume": resume,
    "run-now": run_now,
    "remove": remove,
}


def _timetable(
    expression: str | None, interval: float | None, timezone: str, missed: str, jitter: float, *, overlap: bool
) -> Timetable:
    from common.schedules import cron, every  # noqa: PLC0415 - see the top of main.py

    if (expression is None) == (interval is None):
        raise typer.BadParameter("say when: --cron '*/5 * * * *', or --every 90s, one of the two")
    policy: Missed = missed  # type: ignore[assignment]  # Timetable says what there is
    if expression is not None:
        return cron(expression, timezone=timezone, missed=policy, jitter=jitter, overlap=overlap)
    if timezone != "UTC":
        raise typer.BadParameter("an interval has no time zone; it goes with --cron", param_hint="--timezone")
    assert interval is not None
    return every(interval, missed=policy, jitter=jitter, overlap=overlap)


def _report(name: str, state: str, *, as_json: bool) -> None:
    if as_json:
        machine({"name": name, "state": state})
    elif state == "missing":
        note(f"There is no schedule called {name}.")
    else:
        note(f"Schedule {name}: {state}.")


async def _outcome(producer: Producer, info: ScheduleInfo) -> JobState | None:
    """Return where the job of the last run stands; None if there was none."""
    if info.last_job_id is None:
        return None
    return (await producer.inspector.job(info.last_job_id, info.queue)).state
