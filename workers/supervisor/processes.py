"""The worker processes of a supervisor as the system has them: started, heard, signalled, reaped.

Owns processes and sockets. What is to be started or stopped is fleet.py's decision. Each process has one end of a pair
of sockets: over it come its messages, and its question-and-answer for figures; and when the supervisor is gone, however
it went, the process reads the end of it.

A process is a program of its own, started anew (no fork): it reads code and settings as they are now.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Sequence

import structlog

from workers.supervisor.cores import core_of
from workers.supervisor.handover import VARIABLE
from workers.supervisor.messages import (
    Ask,
    Configured,
    Counted,
    Family,
    Figures,
    Lines,
    Message,
    Recycle,
    State,
    encode,
)
from workers.supervisor.sums import Totals

__all__ = ["Process", "Processes"]

log = structlog.get_logger("barque.supervisor")

_PIECE = 256 * 1024

_NOT_FOR_CHILDREN = {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"}
"""What systemd tells the service's main process alone."""


class Process:
    """One worker process.

    Attributes:
        place: its number.
        configured: what it said when it began; None before.
        state: how it is, as it last said; None before it has.
        heard: when it last said anything.
        figures: what it has counted, as it last said.
        answered: the last question it has answered.
    """

    def __init__(self, place: int, popen: subprocess.Popen[bytes], end: socket.socket) -> None:
        self.place = place
        self.popen = popen
        self.socket = end
        self.lines = Lines(Message)
        self.configured: Configured | None = None
        self.state: State | None = None
        self.heard = time.monotonic()
        self.figures: list[Family] = []
        self.answered = 0

    @property
    def name(self) -> str:
        """Its worker's id, once it is known."""
        return f"process {self.place}" if self.configured is None else self.configured.worker

    def ask(self, number: int) -> bool:
        """Ask for the figures; return whether an answer may be expected."""
        try:
            self.socket.send(encode(Ask(number)))
        except OSError:  # it has ended, or does not read
            return False
        return True


class Processes:
    """Starts worker processes and knows those that live.

    Args:
        command: starts one.
        page: where the metrics of all are, as others may reach it; "" where nowhere.
        pinned: keep each to one core.
        compiled: let them write what Python compiles. It is told from the source by size and second: what is changed
            twice within one would be run as it was.

    Attributes:
        by_pid: those that live. Changed in the supervisor's thread alone; `changed` is held meanwhile.
        past: what those counted that have ended.
        counts: how many of their attempts ended how, of those that have ended.
    """

    def __init__(
        self,
        command: Sequence[str],
        selector: selectors.BaseSelector,
        *,
        page: str = "",
        pinned: bool = False,
        compiled: bool = True,
    ) -> None:
        self.page = page
        self.by_pid: dict[int, Process] = {}
        self.past = Totals()
        self.counts: dict[str, int] = {}
        self.changed = threading.Condition()
        self._command = list(command)
        self._selector = selector
        self._pinned = pinned
        self._more = {} if compiled else {"PYTHONDONTWRITEBYTECODE": "1"}
        self._folder = _folder()
        self._asked = itertools.count(1)

    def start(self, place: int) -> int:
        """Start one; return its pid.

        Raises:
            OSError: the system gives none.
        """
        ours, theirs = socket.socketpair()
        try:
            handed = {"fd": theirs.fileno(), "process": place, "page": self.page}
            if self._pinned:
                handed["core"] = core_of(place)
            environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN}
            popen = subprocess.Popen(  # noqa: S603 - ourselves once more
                self._command,
                env=environment | self._more | {VARIABLE: json.dumps(handed)},
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Ctrl-C goes to all of a terminal's foreground group: they would get it twice.
                process_group=0,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        process = Process(place, popen, ours)
        with self.changed:
            self.by_pid[popen.pid] = process
        self._selector.register(ours, selectors.EVENT_READ, process)
        return popen.pid

    def send(self, pid: int, signum: int) -> None:
        """Send a signal; does nothing where the process has ended."""
        process = self.by_pid.get(pid)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.popen.send_signal(signum)

    def receive(self, process: Process) -> list[Configured | State | Recycle]:
        """Take what a process has said, and return what is to be acted on."""
        found: list[Configured | State | Recycle] = []
        while True:
            try:
                data = process.socket.recv(_PIECE)
            except BlockingIOError:
                return found
            except OSError:
                data = b""
            if not data:
                self._hear_no_more(process)
                return found
            process.heard = time.monotonic()
            for message in process.lines.feed(data):
                if isinstance(message, Configured | State | Recycle):
                    found.append(message)
                self._note(process, message)

    def _note(self, process: Process, message: Message | Ask) -> None:
        if isinstance(message, Configured):
            process.configured = message
        elif isinstance(message, State):
            process.state = message
        elif isinstance(message, Counted):
            for name, count in message.counts.items():
                self.counts[name] = self.counts.get(name, 0) + count
        elif isinstance(message, Figures):
            with self.changed:
                process.figures = message.families
                process.answered = max(process.answered, message.asked)
                self.changed.notify_all()

    def _hear_no_more(self, process: Process) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(process.socket)

    def reap(self) -> list[tuple[int, int]]:
        """Return the pid and the exit code of each that has ended since."""
        ended = [(pid, process) for pid, process in self.by_pid.items() if process.popen.poll() is not None]
        for pid, process in ended:
            self.receive(process)  # its last words
            self._hear_no_more(process)
            process.socket.close()
            with self.changed:
                self.past.add(process.figures, has_ended=True)
                del self.by_pid[pid]
                self.changed.notify_all()
        if os.getpid() == 1:
            _reap_adopted(set(self.by_pid))
        return [(pid, process.popen.returncode) for pid, process in ended]

    def totals(self, within: float) -> Totals:
        """Return what all have counted, up to now where they answer in time; called from any thread.

        Args:
            within: seconds to wait for answers; of who gives none, the figures are those of the last time.
        """
        number = next(self._asked)
        by = time.monotonic() + within
        with self.changed:
            asked = [process for process in self.by_pid.values() if process.state is not None and process.ask(number)]
            while any(one.answered < number and one.popen.pid in self.by_pid for one in asked):
                if not self.changed.wait(by - time.monotonic()):
                    break
            totals = Totals()
            for process in self.by_pid.values():
                totals.add(process.figures)
            totals.add(self.past.families(), has_ended=True)
            return totals


def _folder() -> str:
    """Return the current folder by the name it was entered by: a link in it may lead elsewhere after a deployment."""
    here = os.getcwd()  # noqa: PTH109 - as it goes to the system
    named = os.environ.get("PWD", "")
    with contextlib.suppress(OSError):
        if named.startswith("/") and os.path.samefile(named, here):  # noqa: PTH121 - likewise
            return named
    return here


def _reap_adopted(ours: set[int]) -> None:
    """Take note of the end of processes that have become ours as theirs went: we are the first in a container."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid in ours:  # one of ours: the next round takes it
            return
        os.waitpid(found.si_pid, 0)
