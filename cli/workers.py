"""`barque workers`: the workers that live, and what each does right now. What it prints is workers_view.py's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.asking import ask
from cli.exit_codes import FAILED, OK
from cli.options import Json, RedisUrl, read_settings

if TYPE_CHECKING:
    from common.fleet import FleetSnapshot
    from producer import Producer

__all__ = ["workers"]

_REPORTED_WITHIN = 2.0
"""Seconds that workers have to say what they do now."""


def workers(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORKERS", help="Workers, by id or by its beginning: all there is to say of each."),
    ] = None,
    *,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Show the workers that live: load, state, lag of the event loop, memory, what they did since their start.

    Of a worker that is named: what it runs now, longest first, what failed last, versions, why it takes no jobs.
    Workers report every five seconds; one that died is forgotten after fifteen. "Lag" is by how much its event loop
    was late, at the worst since the report before: a task that blocks it keeps all others of that worker waiting.

    Exit codes: 1 no worker lives, or none of those named does, 3 no server.

    \b
    Examples:
      barque workers
      barque workers web1-4711
      barque workers --json | jq -r '.[] | select(.state != "running") | .worker'
    """
    settings = read_settings(redis_url=redis_url)
    from cli import workers_view  # noqa: PLC0415 - see the top of main.py

    async def look(producer: Producer) -> FleetSnapshot:
        from cli.fleet_look import Looker  # noqa: PLC0415 - see the top of main.py

        looker = Looker(producer, settings, only=True)
        found = await looker.snapshot()
        if ids and found.workers:  # what runs now is not what ran five seconds ago
            async with looker.reader.observing() as may:
                return await looker.reported_since(found, _REPORTED_WITHIN) if may else found
        return found

    snapshot = ask(settings, look)
    found = [worker for worker in snapshot.workers if not ids or worker.worker.startswith(tuple(ids))]
    workers_view.show_workers(snapshot, found, named=bool(ids), as_json=as_json)
    raise typer.Exit(OK if found else FAILED)
