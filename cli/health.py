"""`barque health`: are the workers of this host well, as an exit code. How they are found out is probing.py's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.exit_codes import FAILED, OK
from cli.options import Json, RedisUrl
from cli.output import machine, note, visible

if TYPE_CHECKING:
    from cli.probing import Found

__all__ = ["health"]


def health(
    *,
    live: Annotated[
        bool, typer.Option("--live", help="Fail only where a restart would help. So it is, if neither is said.")
    ] = False,
    ready: Annotated[bool, typer.Option("--ready", help="Fail too where it takes no jobs now.")] = False,
    port: Annotated[
        str | None,
        typer.Option("--port", metavar="PORT", help="The worker's page, or pages (9464-9467); BARQUE_METRICS_PORT."),
    ] = None,
    pid: Annotated[
        int | None, typer.Option("--pid", metavar="PID", min=1, help="That worker process alone, of several here.")
    ] = None,
    at_least: Annotated[
        int, typer.Option("--at-least", metavar="N", min=1, help="Fail unless there are so many worker processes here.")
    ] = 1,
    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", min=0.05, help="What an answer may take."),
    ] = 3.0,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    r"""Tell whether the workers of this host are well: exit code 0, or 1.

    It asks their pages, where BARQUE_METRICS_PORT is set. Without one (or with 0) it looks for their reports in Redis:
    a worker that lives reports every five seconds, and its report is there for fifteen.

    --live, the default, is for what restarts a worker that fails it: a liveness probe, Docker's HEALTHCHECK. It fails
    where a worker hangs or is gone, and never because Redis is away: a worker that is restarted then loses the outcomes
    it holds. --ready fails too while a worker starts, stops, is paused, or has no server; the reason is printed.

    In Kubernetes, and wherever CPU is dear, have the kubelet ask /livez and /readyz of the page itself: that starts no
    process.

    \b
    Examples:
      barque health
      barque health --ready --json
      barque health --live --pid "$MAINPID"
      barque health --port 9464-9467 --at-least 4

    \b
    Dockerfile: HEALTHCHECK --interval=15s --timeout=10s --start-period=20s CMD barque health
    compose:    test: barque health
    Kubernetes: livenessProbe   httpGet  path: /livez   port: 9464, or exec  barque health
                readinessProbe  httpGet  path: /readyz  port: 9464, or exec  barque health --ready

    Exit codes: 0 well, 1 not, or not to be known; 2 wrong usage.
    """
    if live and ready:
        raise typer.BadParameter("ask for one of the two", param_hint="--live, --ready")
    from cli.probing import probe  # noqa: PLC0415 - see the top of main.py

    found = probe(port=port, redis_url=redis_url, pid=pid, seconds=timeout)
    well = found.is_well(ready=ready, at_least=at_least)
    if as_json:
        machine(found.document(well=well, asked="ready" if ready else "live"))
    else:
        _say(found, at_least=at_least)
    raise typer.Exit(OK if well else FAILED)


def _say(found: Found, *, at_least: int) -> None:
    for worker in found.workers:
        print(visible(worker.line()), flush=True)
    if found.trouble:
        note(f"barque: {found.trouble}")
    elif found.workers and len(found.workers) < at_least:
        note(f"barque: {len(found.workers)} of the {at_least} worker processes that are to be here")
