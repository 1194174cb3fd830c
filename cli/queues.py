"""`barque queues`: each queue with what waits in it, what runs, and who serves it. queues_view.py prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.asking import ask
from cli.options import Json, RedisUrl, read_settings

if TYPE_CHECKING:
    from cli.fleet_look import QueueStanding
    from producer import Producer

__all__ = ["queues"]


def queues(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUEUES",
            help="Queues; without any, those of BARQUE_QUEUES, that workers serve, and that are paused.",
        ),
    ] = None,
    *,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Show queues: what waits in each and for how long, what runs, which workers serve it, whether it is paused.

    Due are jobs that could run now, and wait for a worker. Scheduled are jobs that are due later. "Oldest" is for how
    long the first due job has waited: how many there are does not tell a thousand quick ones from a thousand slow ones.
    In red: jobs are due, and no worker serves their queue. Running is what workers last said (every five seconds);
    jobs of a worker that died stand under Scheduled until their lease ends.

    Exit codes: 3 no server.

    \b
    Examples:
      barque queues
      barque queues high low --json
      barque queues --json | jq -r '.[] | select(.oldest_due_seconds > 60) | .queue'
    """
    settings = read_settings(redis_url=redis_url, queues=",".join(names) if names else None)
    from cli import queues_view  # noqa: PLC0415 - see the top of main.py
    from cli.fleet_look import Looker  # noqa: PLC0415

    async def look(producer: Producer) -> list[QueueStanding]:
        looker = Looker(producer, settings, only=bool(names))
        return await looker.queues(await looker.snapshot())

    queues_view.show_queues(ask(settings, look), as_json=as_json)
