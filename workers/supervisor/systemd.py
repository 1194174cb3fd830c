"""Tell systemd how the service is: `Type=notify` and `Type=notify-reload`, without a library.

Owns the few words of sd_notify(3). Where NOTIFY_SOCKET is not set, nothing is said.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time

__all__ = ["ready", "reloading", "stopping"]


def ready(status: str) -> None:
    """Say that the service has started, or that its reload is done."""
    _notify("READY=1", f"STATUS={status}")


def reloading() -> None:
    """Say that a reload has begun."""
    _notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")


def stopping() -> None:
    """Say that the service stops."""
    _notify("STOPPING=1", "STATUS=letting running jobs end")


def _notify(*lines: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.settimeout(1.0)
        end.sendto("\n".join(lines).encode(), address)
