"""`barque abort`: end jobs before their time, by id or by what they are."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.asking import ask, confirm
from cli.completing import queue_names, states
from cli.exit_codes import FAILED, OK
from cli.options import JobIds, Json, OfTask, RedisUrl, Yes, read_settings
from cli.output import machine, note, visible
from cli.values import pairs, seconds
from cli.words import jobs

if TYPE_CHECKING:
    from common.settings import Settings
    from producer import Job, Producer
    from producer.aborting import Aborted, AbortFilters

__all__ = ["AbortProgress", "abort"]

_STATES = ("scheduled", "queued", "running")

_TOLD = {
    "cancelled": "aborted",
    "running": "runs still: its worker has been told to cancel it",
    "unknown": "not there: never enqueued in the queues looked in (--queue names another), or no longer kept",
}


def abort(
    job_ids: JobIds = None,
    *,
    task: OfTask = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue",
            metavar="QUEUE",
            help="Those of this queue; else BARQUE_QUEUES and those that workers serve.",
            autocompletion=queue_names,
        ),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state", metavar="STATE,STATE", help="Those that are scheduled, queued or running.", autocompletion=states
        ),
    ] = None,
    older: Annotated[
        float | None,
        typer.Option(
            "--older", metavar="TIME", parser=seconds, help="Those enqueued longer ago than this: 90s, 2h, 1d."
        ),
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Option(
            "--argument", metavar="KEY=VALUE", help="Those with this argument: by place, 0=…, or by name; repeat it."
        ),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", "-m", metavar="KEY=VALUE", help="Those with this metadata; repeat it for each."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All jobs there are.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Abort none, and say how many fit.")] = False,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", metavar="TIME", parser=seconds, help="With ids: how long to wait for one that runs; 0 does not."
        ),
    ] = 10.0,
    yes: Yes = False,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""End jobs as cancelled: at once where they wait, by their workers where they run.

    Name them by id, choose them by options that must all fit, or take --all; unless they are named by id, it asks. It
    goes through the queues a hundred jobs at a time, so that the fleet works on. With --dry-run it only counts.

    Exit codes: 1 a job that was named has not ended as cancelled, 2 wrong usage or not confirmed, 3 no server.

    \b
    Examples:
      barque abort 0UBfkBsn000A6EgfFyh0
      barque abort --task send_mail --queue low --dry-run
      barque abort --task 'report_*' --state scheduled,queued --older 2h
      barque abort --task send_mail --argument customer=17 --yes
      barque abort --queue low --all
    """
    chosen = _filters(task, queue, state, older, arguments, metadata)
    named, described = bool(job_ids), bool(chosen.keys() - {"queue"}) or (queue is not None and not job_ids)
    if named == (described or everything) or (everything and chosen.keys() - {"queue"}):
        raise typer.BadParameter(
            "say which: ids, or options such as --task, --state, --older, or --all; one of the three"
        )
    if dry_run and named:
        raise typer.BadParameter(
            "it counts what options fit; ids are looked at by `barque status`", param_hint="--dry-run"
        )
    settings = read_settings(redis_url=redis_url)
    if job_ids:
        raise typer.Exit(_abort_named(settings, job_ids, queue, wait, as_json=as_json))
    everything = everything and queue is None
    if not (yes or dry_run):
        _confirm(settings, chosen, everything=everything)
    shown = AbortProgress(dry_run=dry_run)
    done = ask(
        settings,
        lambda producer: producer.abort_where(everything=everything, dry_run=dry_run, progress=shown, **chosen),
    )
    shown.clear()
    _report(done, dry_run=dry_run, as_json=as_json)


def _filters(
    task: str | None,
    queue: str | None,
    state: str | None,
    older: float | None,
    arguments: list[str] | None,
    metadata: list[str] | None,
) -> AbortFilters:
    """Return what was given, and nothing else."""
    chosen: AbortFilters = {}
    if task is not None:
        chosen["task"] = task
    if queue is not None:
        chosen["queue"] = queue
    if state is not None:
        states = [part.strip() for part in state.split(",")]
        if not all(part in _STATES for part in states):
            raise typer.BadParameter(f"give {', '.join(_STATES)}, or several, with commas", param_hint="--state")
        chosen["state"] = states
    if older is not None:
        chosen["older_than"] = older
    if arguments:
        given = pairs(arguments, "--argument")
        chosen["arguments"] = {int(key) if key.isdecimal() else key: value for key, value in given.items()}
    if metadata:
        chosen["metadata"] = pairs(metadata, "--metadata")
    return chosen


def _abort_named(settings: Settings, job_ids: list[str], queue: str | None, wait: float, *, as_json: bool) -> int:
    """Abort jobs one by one, say what became of each, and return the exit code."""
    from cli.lookup import find_job  # noqa: PLC0415 - see the top of main.py

    async def abort_each(producer: Producer) -> dict[str, str]:
        queues = [queue] if queue else await producer.inspector.queues_in_use(settings.queues)
        states = {}
        for job_id in dict.fromkeys(job_ids):
            info = await find_job(producer.inspector, job_id, queues)
            states[job_id] = info.state.value
            if info.queue is not None and not info.state.ended:
                job: Job[Any] = producer.job(job_id, queue=info.queue)
                aborted = await job.abort(wait=wait)
                states[job_id] = "cancelled" if aborted else (await job.status()).value
        return states

    states = ask(settings, abort_each)
    if as_json:
        machine([{"job_id": job_id, "state": state} for job_id, state in states.items()])
    else:
        for job_id, state in states.items():
            note(f"{visible(job_id)}  {_TOLD.get(state, f'not aborted: it has {state}')}")
    return OK if all(state == "cancelled" for state in states.values()) else FAILED


def _confirm(settings: Settings, chosen: AbortFilters, *, everything: bool) -> None:
    def count() -> int:
        shown = AbortProgress(dry_run=True)
        asked = ask(
            settings,
            lambda producer: producer.abort_where(everything=everything, dry_run=True, progress=shown, **chosen),
        )
        shown.clear()
        return asked.matched

    confirm("abort", count, lambda found: f"Abort {jobs(found)}, for good")


def _report(done: Aborted, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        machine({**dataclasses.asdict(done), "dry_run": dry_run})
        return
    if dry_run:
        note(f"{jobs(done.matched)} of {done.looked_at:,} would be aborted.")
    else:
        parts = [f"Aborted {jobs(done.cancelled)} that waited"]
        if done.told:
            parts.append(f"told the workers of {done.told:,} that run")
        if done.left:
            parts.append(f"left {done.left:,} alone that had ended, had begun or were enqueued anew")
        note(f"{'; '.join(parts)}.")
    if done.unreadable:
        note(f"Left {jobs(done.unreadable)} alone that cannot be read here; choose them by --queue and --state alone.")


class AbortProgress:
    """Says at a terminal, some times a second, how far it is."""

    def __init__(self, *, dry_run: bool) -> None:
        self._dry_run = dry_run
        self._shown_at = 0.0
        self._last = ""

    def __call__(self, so_far: Aborted) -> None:
        """Say how far it is."""
        if not sys.stderr.isatty() or time.monotonic() - self._shown_at < 0.1:
            return
        self._shown_at = time.monotonic()
        verb = "fit" if self._dry_run else "aborted"
        count = so_far.matched if self._dry_run else so_far.cancelled + so_far.told
        self._write(f"{so_far.looked_at:,} looked at, {count:,} {verb} …")

    def clear(self) -> None:
        """Take the line away again."""
        if self._last:
            self._write("")

    def _write(self, text: str) -> None:
        print(f"\r{text:<{len(self._last)}}\r{text}", end="", file=sys.stderr, flush=True)
        self._last = text
