"""The dashboard as a process of its own: uvicorn, started and stopped.

Owns the socket, signals and uvicorn's settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from common.errors import ConfigurationError
from common.logs import configure_logs
from common.settings import Settings
from dashboard.app import create_app
from dashboard.context import Dashboard
from dashboard.live import Live
from dashboard.settings import DashboardSettings

__all__ = ["serve"]

_GRACE = 2
"""Seconds that requests under way get at a stop; those that follow events never end by themselves."""


def serve(settings: Settings, dashboard_settings: DashboardSettings, *, ready: Callable[[str], None]) -> None:
    """Serve the dashboard until SIGTERM or Ctrl-C.

    Args:
        ready: called with its URL once it listens.

    Raises:
        ConfigurationError: the address cannot be listened on, or is open to others without a credential.
    """
    app = create_app(settings, dashboard_settings)
    configure_logs(settings)
    listening = _listen(dashboard_settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,  # security/peers.py trusts only the proxies it is told of
        lifespan="on",
        timeout_graceful_shutdown=_GRACE,
        ws="none",
    )
    shared: Dashboard = app.state.dashboard
    server = _Server(config, shared.live)
    host, port = listening.getsockname()[:2]
    ready(f"http://{f'[{host}]' if ':' in host else host}:{port}{dashboard_settings.root_path}/")
    try:
        asyncio.run(server.serve(sockets=[listening]))
    finally:
        listening.close()


class _Server(uvicorn.Server):
    """uvicorn's, but a stop that was asked for ends in exit code 0: uvicorn's own dies of the signal it was sent.

    Args:
        live: the streams that are ended by a stop: by themselves they go on for as long as somebody looks.
    """

    def __init__(self, config: uvicorn.Config, live: Live) -> None:
        super().__init__(config)
        self._live = live

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        super().handle_exit(sig, frame)
        self._live.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for each in signals:
            loop.add_signal_handler(each, self.handle_exit, each, None)
        try:
            yield
        finally:
            for each in signals:
                loop.remove_signal_handler(each)


def _listen(settings: DashboardSettings) -> socket.socket:
    where = f"{settings.host}:{settings.port}"
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"the dashboard cannot listen on {where}: {error.strerror or error}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"the dashboard cannot listen on {where}: {error.strerror or error}; "
            "another port is taken with --port, or BARQUE_DASHBOARD_PORT"
        ) from None
    return listening
