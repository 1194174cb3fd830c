"""`barque metrics`: the fleet's figures in Prometheus' format, once or served. Their names are fleet_metrics.py's."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import RedisUrl, read_settings

if TYPE_CHECKING:
    from cli.fleet_metrics import Fleet
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
            help="Serve them at /metrics, read anew for each request, until interrupted. HOST is 127.0.0.1 by default.",
        ),
    ] = None,
    queues: Annotated[
        str | None,
        typer.Option(
            "--queues", metavar="A,B", help="Queues to look at, instead of BARQUE_QUEUES and those that workers serve."
        ),
    ] = None,
    redis_url: RedisUrl = None,
) -> None:
    r"""Print what Redis knows of the fleet, as Prometheus reads it: queues, the oldest due job, workers, dead letters.

    To scale on: barque_queue_oldest_due_seconds, for how long the first due job of a queue has waited. What a worker
    counts of its own work it shows itself, where BARQUE_METRICS_PORT is set.

    Exit codes: 2 the address cannot be listened on, 3 no server.

    \b
    Examples:
      barque metrics
      barque metrics --listen 9465
      barque metrics --listen 0.0.0.0:9465 --queues high,low
    """
    settings = read_settings(redis_url=redis_url, queues=queues)
    from cli.fleet_metrics import as_text  # noqa: PLC0415 - see the top of main.py

    only = queues is not None
    if listen is None:
        typer.echo(as_text(asyncio.run(_read(settings, only=only))).decode(), nl=False)
        return
    _serve(*_address(listen), settings, only=only)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise typer.BadParameter(f"{listen!r}: give a port, or HOST:PORT", param_hint="--listen")
    return host.strip("[]") or "127.0.0.1", int(port)


def _serve(host: str, port: int, settings: Settings, *, only: bool) -> None:
    from cli.fleet_metrics import as_text  # noqa: PLC0415 - see the top of main.py
    from cli.output import note  # noqa: PLC0415
    from common.errors import ConfigurationError, RedisUnavailable  # noqa: PLC0415
    from workers.page_server import METRICS, Answer, PageServer  # noqa: PLC0415

    reading = threading.Lock()

    def answer(path: str) -> Answer | None:
        if path != "/metrics":
            return None
        try:
            with reading:  # however many ask at once, the server is asked by one
                return Answer(200, METRICS, as_text(asyncio.run(_read(settings, only=only))))
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


async def _read(settings: Settings, *, only: bool) -> Fleet:
    from cli.asking import asking  # noqa: PLC0415
    from cli.fleet_metrics import Fleet  # noqa: PLC0415 - see the top of main.py
    from common.redis.inspect import queues_in_use  # noqa: PLC0415
    from producer import Producer  # noqa: PLC0415

    with asking(settings):
        async with Producer(settings=settings) as producer:
            inspector = producer.inspector
            workers = await inspector.workers()
            queues = settings.queues if only else queues_in_use(settings.queues, workers)
            reports = [await inspector.queue(queue) for queue in queues]
            return Fleet(reports, workers, await inspector.dead_letters())
