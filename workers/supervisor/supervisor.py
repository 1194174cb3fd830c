"""Run several worker processes and look after them, until they have ended.

Owns the loop: it waits for signals, for what processes say and for what is due, and passes all of it to fleet.py,
which decides. It imports neither the engine nor users' tasks, and speaks to no server: what a task does to its process
(memory, a crash, a blocked loop) does not reach it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from common.errors import ConfigurationError
from workers import farewell
from workers.page_server import PageServer, bracketed, reached_at, serve_at_first_free
from workers.supervisor import systemd
from workers.supervisor.cores import cores_in_use
from workers.supervisor.fleet import Fleet
from workers.supervisor.messages import Configured, Recycle, State
from workers.supervisor.page import Page
from workers.supervisor.processes import Process, Processes
from workers.supervisor.watch import SourceWatch, folders_of

if TYPE_CHECKING:
    from common.settings import Settings

__all__ = ["Ended", "Supervisor"]

log = structlog.get_logger("barque.supervisor")

_LOOK = 1.0
"""Seconds between looks, where nothing happens."""

_SILENT = 10.0
"""Seconds past BARQUE_BLOCK_LIMIT without a word after which a process hangs: it speaks every two, from a thread."""

_STOOD_STILL = 5.0
"""Seconds between two looks by which it is known that the supervisor itself stood still, and its processes may have."""

_BEGUN: frozenset[str] = frozenset({"paused"})
"""What a process may lack that counts as ready for its place: it does not wait for a paused queue."""


class Ended(NamedTuple):
    """How it ended: the exit code, and how many attempts ended how."""

    code: int
    counts: dict[str, int]


class Supervisor:
    """Runs `settings.processes` worker processes.

    Args:
        command: starts one worker process.
        settings_again: reads the settings anew, for a reload; raises ConfigurationError where they are wrong.
        burst: the processes end by themselves.
        watch: start them anew when the code changes.

    Raises:
        ConfigurationError: the page's port is taken, or an extra is missing.
    """

    def __init__(
        self,
        settings: Settings,
        command: Sequence[str],
        *,
        settings_again: Callable[[], Settings],
        burst: bool = False,
        watch: bool = False,
    ) -> None:
        self._settings = settings
        self._settings_again = settings_again
        self._selector = selectors.DefaultSelector()
        self._processes = Processes(command, self._selector, pinned=settings.cpu_affinity, compiled=not watch)
        self._size = settings.processes or cores_in_use()
        self.fleet = Fleet(
            self._size, self._processes, grace=settings.shutdown_grace, burst=burst, waits_for_changes=watch
        )
        self._watch = watch
        self._turned = time.monotonic()
        self._signals: deque[int] = deque()
        self._changes: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._waking, self._wake = os.pipe()
        os.set_blocking(self._waking, False)
        os.set_blocking(self._wake, False)
        self._terminal = _has_terminal()
        self._outlives_terminal = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # nohup
        self._told_ready = self._told_reloading = self._terminal_closed = False

    def run(self) -> Ended:
        """Run until all processes have ended: told to by a signal, done with a burst, or unable to start."""
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        with contextlib.ExitStack() as opened:
            page = self._open_page()
            if page is not None:
                opened.callback(page.stop)
            if self._watch:
                watch = SourceWatch(folders_of(self._settings.tasks), self._changed)
                opened.callback(watch.stop)
            for number in _SIGNALS:
                opened.callback(signal.signal, number, before[number])
                signal.signal(number, self._signalled)
            opened.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False))
            opened.callback(self._close)
            self._selector.register(self._waking, selectors.EVENT_READ)
            log.info("supervisor_started", processes=self._size, pid=os.getpid())
            self.fleet.start()
            while (code := self.fleet.over) is None:
                self._turn()
            log.info("supervisor_stopped", code=code, **self._processes.counts)
        return Ended(code, dict(self._processes.counts))

    def _turn(self) -> None:
        due = self.fleet.next_due()
        wait = _LOOK if due is None else min(_LOOK, max(0.0, due - time.monotonic()))
        for key, _ in self._selector.select(wait):
            process: Process | None = key.data
            if process is None:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._waking, 65536)
                continue
            for message in self._processes.receive(process):
                self._heard(process, message)
        self._note_the_time()
        while self._signals:
            self._on_signal(self._signals.popleft())
        with contextlib.suppress(queue.Empty):
            self.fleet.changed(self._changes.get_nowait())
        for pid, code in self._processes.reap():
            self.fleet.ended(pid, code)
        self.fleet.tick()
        self._look_for_the_silent()
        self._tell_systemd()

    def _heard(self, process: Process, message: Configured | State | Recycle) -> None:
        pid = process.popen.pid
        if isinstance(message, Configured):
            self.fleet.configured(pid, message.grace)
        elif isinstance(message, Recycle):
            self.fleet.replace(pid, message.why)
        elif not message.alive:
            self.fleet.hung(pid, message.reasons.get("loop_blocked", "its event loop stands still"))
        elif message.reasons.keys() <= _BEGUN:
            self.fleet.ready(pid)

    def _note_the_time(self) -> None:
        now = time.monotonic()
        if now - self._turned > _STOOD_STILL:
            for process in self._processes.by_pid.values():
                process.heard = now
        self._turned = now

    def _look_for_the_silent(self) -> None:
        for pid, process in list(self._processes.by_pid.items()):
            if process.state is None or process.configured is None or "stopping" in process.state.reasons:
                continue
            silent = self._turned - process.heard
            if silent > process.configured.block_limit + _SILENT:
                process.heard = self._turned  # once
                self.fleet.hung(pid, f"it has said nothing for {silent:.0f} s: the whole process stands still")

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            if not self._terminal or _has_terminal():
                self._reload()
                return
            if self._outlives_terminal or self._terminal_closed:
                return
            # The kernel and the shell may both tell of one closed window.
            self._terminal_closed = True
            number = signal.SIGTERM
        if number in {signal.SIGTERM, signal.SIGINT}:
            self._tell_person(number)
            self.fleet.stop(number)
            systemd.stopping()

    def _reload(self) -> None:
        if self._watch:
            self.fleet.changed([])
            return
        try:
            self._settings_again()
        except ConfigurationError as error:
            self.fleet.reload(fault=str(error))
        else:
            self.fleet.reload()

    def _tell_person(self, number: int) -> None:
        if self.fleet.stops == 0:
            seconds = self._settings.shutdown_grace
            farewell.draining_all(number, processes=len(self._processes.by_pid), seconds=seconds)
        elif self.fleet.stops == 1:
            farewell.releasing_all(number)
        else:
            farewell.ended(number)

    def _tell_systemd(self) -> None:
        if self.fleet.stopping:
            return
        if self.fleet.reloading != self._told_reloading:
            self._told_reloading = self.fleet.reloading
            if self._told_reloading:
                systemd.reloading()
            else:
                systemd.ready(f"{self._size} processes")
        if not self._told_ready and self.fleet.all_ready:
            self._told_ready = True
            systemd.ready(f"{self._size} processes")

    def _open_page(self) -> PageServer | None:
        ports, host = self._settings.metrics_ports, self._settings.metrics_host
        if ports is None:
            return None
        page = Page(self.fleet, self._processes, lambda: self._turned)
        server = serve_at_first_free(page.answer, host, ports)
        self._processes.page = f"{reached_at(host)}:{server.port}"
        log.info("worker_metrics", url=f"http://{bracketed(host)}:{server.port}/metrics")
        return server

    def _signalled(self, number: int, frame: Any) -> None:  # noqa: ARG002 - as Python calls it
        self._signals.append(number)

    def _changed(self, files: list[str]) -> None:
        self._changes.put(files)
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b"\0")

    def _close(self) -> None:
        self._selector.close()


_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def _has_terminal() -> bool:
    """Return whether this process has a terminal whose window may be closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
