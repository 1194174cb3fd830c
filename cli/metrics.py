"""`barque metrics`: the fleet's figures in Prometheus' format, once or served; and where the workers' own are.

What is read is fleet_reading.py's, under which names it is shown fleet_metrics.py's.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import LookedAtQueues, RedisUrl, read_settings

if TYPE_CHECKING:
    from common.settings import Settings
    from workers.page_server import Answer

__all__ = ["metrics"]


def metrics(
    *,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="[HOST:]PORT",
            help="Serve them at /metrics, and --targets at /targets, read anew for each request, until interrupted. "
            "HOST is 127.0.0.1 by default.",
        ),
    ] = None,
    targets: Annotated[
        bool, typer.Option("--targets", help="Print where the pages of live workers are, for Prometheus' file_sd.")
    ] = False,
    queues: LookedAtQueues = None,
    redis_url: RedisUrl = None,
) -> None:
    r"""Print what Redis knows of the fleet, as Prometheus reads it: queues, limits, schedules, workers, dead letters.

    To scale on: barque_queue_oldest_due_seconds, for how long the first due job of a queue has waited. What a worker
    counts of its own work it shows itself, where BARQUE_METRICS_PORT is set; --targets says where.

    Exit codes: 2 the address cannot be listened on, 3 no server.

    \b
    Examples:
      barque metrics
      barque metrics --listen 9465
      barque metrics --listen 0.0.0.0:9465 --queues high,low
      barque metrics --targets > /etc/prometheus/barque.json
    """
    settings = read_settings(redis_url=redis_url, queues=queues)
    only = queues is not None
    if listen is not None:
        _serve(*_address(listen), settings, only=only)
        return
    from cli.fleet_metrics import as_text  # noqa: PLC0415 - see the top of main.py
    from cli.fleet_reading import read_fleet, read_targets  # noqa: PLC0415

    text = read_targets(settings) if targets else as_text(read_fleet(settings, only=only))
    typer.echo(text.decode(), nl=False)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise typer.BadParameter(f"{listen!r}: give a port, or HOST:PORT", param_hint="--listen")
    return host.strip("[]") or "127.0.0.1", int(port)


def _serve(host: str, port: int, settings: Settings, *, only: bool) -> None:
    from cli.fleet_metrics import as_text  # noqa: PLC0415 - see the top of main.py
    from cli.fleet_reading import read_fleet, read_targets  # noqa: PLC0415
    from cli.output import note  # noqa: PLC0415
    from common.errors import ConfigurationError, RedisUnavailable  # noqa: PLC0415
    from workers.page_server import METRICS, Answer, PageServer  # noqa: PLC0415

    reading = threading.Lock()

    def answer(path: str) -> Answer | None:
        if path not in {"/metrics", "/targets"}:
            return None
        try:
            with reading:  # however many ask at once, the server is asked by one
                if path == "/targets":
                    return Answer(200, "application/json", read_targets(settings))
                return Answer(200, METRICS, as_text(read_fleet(settings, only=only)))
        except RedisUnavailable as error:
            return Answer(503, "text/plain; charset=utf-8", f"{error}\n".encode())

    try:
        server = PageServer(answer, host, port)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    note(f"http://{host}:{server.port}/metrics (Ctrl-C ends it)")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    server.stop()
