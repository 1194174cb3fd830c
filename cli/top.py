"""`barque top`: the fleet on one screen, as it changes; once and plain where there is no screen.

Owns what is looked at, and how often. What is shown of it is top_view.py's, the terminal top_screen.py's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, LookedAtQueues, RedisUrl, read_settings
from cli.values import seconds

if TYPE_CHECKING:
    from cli.fleet_look import Looker
    from cli.top_view import Picture
    from common.fleet import FleetHistory, FleetSnapshot
    from common.settings import Settings

__all__ = ["top"]

_LEAST_EVERY = 0.2

_RATES_OVER = 10.0
"""Seconds over which rates and percentiles are taken."""

_ANSWER_WITHIN = 5.0

_FIRST_FIGURES = 3.0
"""Seconds that workers have to report what they count by task, where one look is all there is."""


def top(
    *,
    every: Annotated[
        float,
        typer.Option(
            "--every", metavar="TIME", parser=seconds, help="How often to look: 1, 500ms, 5s.", show_default="1s"
        ),
    ] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print one look as plain text, and end; as where stdout is no terminal.")
    ] = False,
    queues: LookedAtQueues = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Show what the fleet does right now: queues, workers, tasks, what runs longest, what failed last.

    Rates and percentiles are of the last ten seconds. While it is open, workers count by task and report every second:
    about 1 us more a job. One look takes as long as workers need to report twice, two seconds or so. With --json, one
    look as one object.

    \b
    Keys:
      q        end
      Tab, 1-6 one table alone: queues, workers, tasks, running, failures, slowest; 0: all
      s        sort tasks by another figure: rate, p95, failures, name
      Space    stand still; again: go on
      ?        help

    Exit codes: 2 wrong usage, 3 no server, 130 ended by Ctrl-C.

    \b
    Examples:
      barque top
      barque top --once > incident.txt
      barque top --json | jq '.tasks[] | select(.failed_per_second > 0)'
    """
    if every < _LEAST_EVERY:
        raise typer.BadParameter("five times a second at the most", param_hint="--every")
    settings = read_settings(redis_url=redis_url, queues=queues)
    from cli.top_screen import has_screen  # noqa: PLC0415 - see the top of main.py
    from cli.top_view import show_once  # noqa: PLC0415

    if once or as_json or not has_screen():
        show_once(asyncio.run(_one_look(settings, only=queues is not None)), as_json=as_json)
        return
    asyncio.run(_watch(settings, every, only=queues is not None))


async def _one_look(settings: Settings, *, only: bool) -> Picture:
    from cli.asking import asking  # noqa: PLC0415 - see the top of main.py
    from cli.fleet_look import Looker  # noqa: PLC0415
    from common.fleet import FleetHistory  # noqa: PLC0415
    from producer import Producer  # noqa: PLC0415

    with asking(settings):
        async with Producer(settings=settings) as producer:
            looker = Looker(producer, settings, only=only)
            history = FleetHistory(_RATES_OVER)
            async with looker.reader.observing() as may:
                first = await looker.snapshot()
                if may and first.workers:
                    first = await looker.reported_since(first, _FIRST_FIGURES)
                history.add(first)
                last = await looker.reported_since(first, _FIRST_FIGURES) if first.workers else first
            return await _picture(looker, settings, history, last, may=may)


async def _picture(
    looker: Looker, settings: Settings, history: FleetHistory, snapshot: FleetSnapshot, *, may: bool
) -> Picture:
    from cli.top_view import Picture  # noqa: PLC0415 - see the top of main.py
    from common.redis.connection import describe  # noqa: PLC0415

    return Picture(
        describe(settings),
        snapshot,
        history.add(snapshot),
        await looker.queues(snapshot),
        await looker.dead_letters(),
        may_observe=may,
    )


async def _watch(settings: Settings, every: float, *, only: bool) -> None:
    from cli.asking import asking  # noqa: PLC0415 - see the top of main.py
    from cli.fleet_look import Looker  # noqa: PLC0415
    from cli.top_screen import Screen  # noqa: PLC0415
    from common.fleet import FleetHistory  # noqa: PLC0415
    from common.redis.connection import TROUBLE  # noqa: PLC0415
    from common.redis.reasons import reason  # noqa: PLC0415
    from producer import Producer  # noqa: PLC0415

    with asking(settings):
        async with Producer(settings=settings) as producer:
            looker = Looker(producer, settings, only=only)
            history = FleetHistory(_RATES_OVER)
            async with looker.reader.observing() as may:
                picture = await _picture(looker, settings, history, await looker.snapshot(), may=may)
                with Screen(picture) as screen:
                    while await screen.shown_for(every):
                        try:
                            async with asyncio.timeout(_ANSWER_WITHIN):
                                snapshot = await looker.snapshot()
                                screen.show(await _picture(looker, settings, history, snapshot, may=may))
                        except TROUBLE as error:
                            why, advice = reason(error)
                            screen.show_trouble(f"Redis: {why}; {advice}. Asking again.")
