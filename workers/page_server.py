"""A small web server in a thread of its own: some pages to read, for machines that ask every few seconds.

Owns the sockets and threads. What the pages say is the caller's. It answers though the event loop stands still, and
keeps no process from ending.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from common.errors import ConfigurationError

__all__ = ["METRICS", "Answer", "PageServer", "bracketed", "reached_at", "serve_at_first_free"]

METRICS = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of Prometheus' text format."""

_TEXT = "text/plain; charset=utf-8"

_END_SEEN_AFTER = 0.1
"""Seconds between looks whether the server is to stop: what a stop may take."""

_PATIENCE = 10
"""Seconds a client may take to send its request."""


class Answer(NamedTuple):
    """What a page says."""

    status: int
    content_type: str
    body: bytes


class PageServer:
    """Serves pages until it is stopped.

    Args:
        answer: makes the answer of a path, without a slash at its end; None is not found. Called from a thread.
        host, port: where to listen, IPv4 or IPv6; port 0 takes a free one.

    Attributes:
        port: where it listens.

    Raises:
        OSError: it cannot listen there.
    """

    def __init__(self, answer: Callable[[str], Answer | None], host: str, port: int) -> None:
        self._answer = answer
        kind = _Server6 if ":" in host else _Server
        self._server = make_server(host, port, self._serve, server_class=kind, handler_class=_QuietHandler)
        self.port = self._server.server_port
        serve = functools.partial(self._server.serve_forever, _END_SEEN_AFTER)
        threading.Thread(target=serve, name="barque-pages", daemon=True).start()

    def stop(self) -> None:
        """Close the port; returns once it is closed."""
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method = environ.get("REQUEST_METHOD")
        answer: Answer | None
        if method not in {"GET", "HEAD"}:
            answer = Answer(405, _TEXT, b"these pages are for reading\n")
        else:
            answer = self._answer(environ.get("PATH_INFO", "/").rstrip("/")) or Answer(404, _TEXT, b"no such page\n")
        status = HTTPStatus(answer.status)
        headers = [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [] if method == "HEAD" else [answer.body]


def serve_at_first_free(answer: Callable[[str], Answer | None], host: str, ports: range) -> PageServer:
    """Serve a worker's page at the first of these ports that is free; 0 takes any.

    Raises:
        ConfigurationError: none is free, or the address cannot be listened on.
    """
    for port in ports:
        try:
            return PageServer(answer, host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port == ports[-1]:
                raise ConfigurationError(_not_listening(host, port, ports, error)) from None
    raise AssertionError(ports)  # there is one at least: common/ports.py


def reached_at(host: str) -> str:
    """Return where others reach what is listened for at this address: all addresses have this host's name."""
    return os.uname().nodename if host in {"", "0.0.0.0", "::"} else bracketed(host)  # noqa: S104 - compared, not bound


def bracketed(host: str) -> str:
    """Return a host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def _not_listening(host: str, port: int, ports: range, error: OSError) -> str:
    if len(ports) > 1 and error.errno == errno.EADDRINUSE:
        return (
            f"BARQUE_METRICS_PORT: none of the ports {ports[0]}-{ports[-1]} of {host} is free: there are more workers "
            "on this host than ports, or other programs have them. Give a longer range"
        )
    return (
        f"BARQUE_METRICS_PORT: cannot listen on {host}:{port}: {error.strerror or error}. Several workers on one "
        "host need a port each: give a range, such as 9464-9467, of which each takes the first that is free; or 0, "
        "and the line worker_metrics names what it took"
    )


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread: one that sends its request slowly keeps no other waiting."""

    daemon_threads = True
    allow_reuse_address = True


class _Server6(_Server):
    """The same at an IPv6 address: `::` has both kinds where the system has."""

    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    """One probe a second would be a log line a second."""

    timeout = _PATIENCE

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name of the overridden method's
        """Say nothing."""
