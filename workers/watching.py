"""Show a worker to those who watch it: its metrics, and whether it is well.

Owns the life of the page, and the appointments by which the event loop's lag is known. What is counted is metrics.py's,
how it is shown metrics_page.py's, and what "well" means wellbeing.py's. Without a port (`BARQUE_METRICS_PORT`) there is
none of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import structlog

from common.middleware import Middleware
from common.settings import Settings
from workers.attempt_log import AttemptLog
from workers.metrics import Metrics
from workers.observers import ObservedLog, Observer, observers_by
from workers.page_server import bracketed, reached_at
from workers.reports import version_of
from workers.wellbeing import Reasons, Wellbeing, blocked, still_limit

if TYPE_CHECKING:
    from workers.engine import Engine
    from workers.metrics_page import MetricsPage, Now
    from workers.supervisor.child import Line

__all__ = ["Watching"]

log = structlog.get_logger("barque.worker")

_APPOINTMENT = 0.25
"""Seconds between two appointments of the event loop: by how much it is late for them is its lag."""

_LAST_PAGE = 1.0
"""Seconds to wait, at a stop, until the page is closed; the process's end closes it in any case."""


class Watching:
    """What one worker shows of itself, from `async with` on until its end.

    Args:
        settings: whether, where, and how long the event loop may stand still before the worker is not alive.
        worker, queues: what tells this one from others.
        connected: tells whether the worker has its server; asked from another thread.

    Attributes:
        metrics: to be counted in; None where nobody is shown them.
        address: where the page is, as others may reach it: host:port; "" where there is none.
        line: to the supervisor, which has the page where this is one of several processes; else None.
    """

    def __init__(
        self, settings: Settings, worker: str, queues: Sequence[str], *, connected: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._labels = {"worker": worker, "queues": ",".join(queues)}
        self._connected = connected
        self.metrics = Metrics() if settings.metrics_port is not None else None
        self.address = ""
        self.line: Line | None = None
        self._engine: Engine | None = None
        self._page: MetricsPage | None = None
        self._kept_at = time.monotonic()
        self._next: asyncio.TimerHandle | None = None
        self._observers: tuple[Observer, ...] = ()

    def around(self, middleware: Sequence[Middleware]) -> tuple[Middleware, ...]:
        """Return what goes around each attempt: what observes it, as the settings say, and then what was given.

        Raises:
            ConfigurationError: an extra is not installed that a setting needs.
        """
        around = (*observers_by(self._settings, middleware), *middleware)
        self._observers = tuple(one for one in around if isinstance(one, Observer))
        return around

    def attempt_log(self, worker: str) -> AttemptLog:
        """Return what writes the line of each attempt, once those around it have been told how it ended."""
        return ObservedLog(worker, self._observers) if self._observers else AttemptLog(worker)

    async def __aenter__(self) -> Self:
        """Open the page: from here on a probe is told that the worker starts.

        Raises:
            ConfigurationError: the port is taken, or the `metrics` extra is not installed.
        """
        ports = self._settings.metrics_ports
        page = None
        if self.metrics is not None and ports is not None:
            from workers.metrics_page import MetricsPage  # noqa: PLC0415 - an extra, and for those who watch alone

            page = MetricsPage(
                self.metrics, now=self._now, wellbeing=self._wellbeing, labels=self._labels, build=_versions()
            )
        if self.line is not None:
            self._appoint(asyncio.get_running_loop())
            self.line.show(self._wellbeing, None if page is None else page.families)
            self.address = self.line.page
        elif page is not None and ports is not None:
            self._kept_at = time.monotonic()
            host = self._settings.metrics_host
            port = page.start(host, ports)
            self._page = page
            self._appoint(asyncio.get_running_loop())
            self.address = f"{reached_at(host)}:{port}"
            log.info("worker_metrics", url=f"http://{bracketed(host)}:{port}/metrics")
        return self

    def show(self, engine: Engine) -> None:
        """Show what this engine does, too."""
        self._engine = engine

    async def __aexit__(self, *_: object) -> None:
        """Close the page; does nothing where there is none."""
        page, self._page = self._page, None
        if self.line is not None:
            self.line.end()
        self._engine, self.address = None, ""
        if self._next is not None:
            self._next.cancel()
        if page is not None:
            with contextlib.suppress(TimeoutError):  # jobs may have taken all threads, and not give them back
                await asyncio.wait_for(asyncio.to_thread(page.stop), _LAST_PAGE)

    def _appoint(self, loop: asyncio.AbstractEventLoop) -> None:
        self._kept_at = time.monotonic()
        self._next = loop.call_later(_APPOINTMENT, self._keep, loop)

    def _keep(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.metrics is not None:
            self.metrics.loop_lag.add(max(0.0, time.monotonic() - self._kept_at - _APPOINTMENT))
        self._appoint(loop)

    def _now(self) -> Now:
        from workers.metrics_page import Now  # noqa: PLC0415 - as above

        engine = self._engine
        if engine is None:
            return Now()
        executor, watch = engine.executor, engine.loop_watch
        gauges: dict[str, float] = {
            "barque_jobs_in_flight": executor.running,
            "barque_concurrency": engine.options.concurrency,
            "barque_jobs_given_up": executor.given_up,
            "barque_outcomes_waiting": engine.outcomes_waiting,
        }
        counters: dict[str, float] = {
            "barque_event_loop_blocks": watch.blocks,
            "barque_event_loop_blocked_seconds": watch.blocked_s,
        }
        return Now(gauges, counters)

    def _wellbeing(self) -> Wellbeing:
        still = max(0.0, time.monotonic() - self._kept_at - _APPOINTMENT)
        limit = self._settings.block_limit
        about: dict[str, Any] = {"worker": self._labels["worker"], "pid": os.getpid(), "loop_still_s": round(still, 3)}
        engine = self._engine
        if engine is None:
            reasons = self._starting()
        else:
            reasons = engine.condition.reasons()
            about |= engine.condition.about()
        if still >= still_limit(limit):
            reasons["loop_blocked"] = blocked(still, limit)
        return Wellbeing(still < limit, reasons, about)

    def _starting(self) -> Reasons:
        if self._connected():
            return {"starting": "it opens what its tasks share (@lifespan, on_startup)"}
        return {"starting": "it waits for its server, for BARQUE_START_WAIT at the most, and tries again by itself"}


def _versions() -> dict[str, str]:
    versions = {"version": "barque", "arq": "arq"}
    return {label: version_of(package) for label, package in versions.items()} | {"python": platform.python_version()}
