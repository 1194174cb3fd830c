"""A worker process's end of the line to its supervisor.

Owns a thread that tells how the worker is, answers what is asked, says when the process has had its share of jobs or
memory, and has it stop in order when the supervisor is gone. Without a supervisor there is none of it.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import structlog

from workers.own_memory import memory_or_most
from workers.supervisor.cores import pin
from workers.supervisor.handover import Handover
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

if TYPE_CHECKING:
    from common.settings import Settings
    from workers.wellbeing import Wellbeing

__all__ = ["Line", "Run"]

log = structlog.get_logger("barque.worker")

_LOOK = 0.25
"""Seconds between two looks at how the worker is."""

_TELL = 2.0
"""Seconds after which it is told though nothing has changed."""

_ASK_AGAIN = 30.0
"""Seconds after which a process that had its share, and is still here, says so once more."""

_PATIENCE = 2.0
"""Seconds that what is said may take: a supervisor that stands still keeps no worker from ending."""

_PIECE = 65536


class Run(Protocol):
    """What is counted of a worker's run."""

    jobs_complete: int
    jobs_retried: int
    jobs_failed: int


class Line:
    """The line to the supervisor, from the process's first moment on.

    Args:
        handed: what the supervisor has handed to this process.
    """

    def __init__(self, handed: Handover) -> None:
        self.page = handed.page
        if handed.core is not None:
            pin(handed.core)
        self._socket = socket.socket(fileno=handed.fd)
        self._socket.settimeout(_PATIENCE)  # of what is said; what is heard is waited for apart
        self._saying = threading.Lock()
        self._wellbeing: Callable[[], Wellbeing] | None = None
        self._families: Callable[[], list[Family]] | None = None
        self._run: Run | None = None
        self._most_jobs = self._most_memory = 0
        self._said: tuple[bool, tuple[str, ...]] | None = None
        self._said_at = self._asked_at = float("-inf")
        self._doubtful = False
        self._lines = Lines(Ask)
        threading.Thread(target=self._listen, name="barque-supervised", daemon=True).start()

    def begin(self, settings: Settings, worker: str, run: Run) -> None:
        """Say that settings and tasks are right.

        A limit is drawn a little below what the settings say: processes that were started together are not to be
        replaced together.
        """
        self._run = run
        self._most_jobs = _somewhat_below(settings.max_jobs)
        self._most_memory = _somewhat_below(settings.max_memory)
        self._say(Configured(worker, settings.shutdown_grace, settings.block_limit))

    def show(self, wellbeing: Callable[[], Wellbeing], families: Callable[[], list[Family]] | None) -> None:
        """Tell from here on how the worker is, and what it has counted, where that is shown."""
        self._families = families
        self._wellbeing = wellbeing

    def end(self) -> None:
        """Say the last word on what was counted; tell no more."""
        families, self._wellbeing, self._families = self._families, None, None
        self._say(State(alive=True, reasons={"stopping": "it closes what its tasks share"}))
        if families is not None:
            self._say(Figures(0, families()))

    def counted(self, counts: Mapping[str, int]) -> None:
        """Say how many attempts ended how."""
        self._say(Counted(dict(counts)))

    def _listen(self) -> None:
        for data in self._arriving():
            try:
                self._answer(data)
                self._look()
            except Exception as error:  # a process that says nothing is taken for one that hangs, and is killed
                log.exception("supervisor_not_told", error=f"{type(error).__name__}: {error}")
        self._socket.close()
        log.warning("supervisor_gone")
        os.kill(os.getpid(), signal.SIGTERM)

    def _answer(self, data: bytes) -> None:
        for question in self._lines.feed(data):
            families = self._families
            if isinstance(question, Ask) and families is not None:
                self._say(Figures(question.number, families()))

    def _arriving(self) -> Iterator[bytes]:
        """Yield what arrives, and nothing a few times a second, until the supervisor is gone."""
        arrived = select.poll()
        arrived.register(self._socket, select.POLLIN)
        while True:
            if not arrived.poll(_LOOK * 1000):
                yield b""
                continue
            try:
                data = self._socket.recv(_PIECE)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            yield data

    def _look(self) -> None:
        wellbeing = self._wellbeing
        if wellbeing is None:
            return
        found = wellbeing()
        if not found.alive and not self._doubtful:
            self._doubtful = True  # a process that stood still as a whole: its event loop may turn by the next look
            return
        self._doubtful = not found.alive
        now, memory = time.monotonic(), memory_or_most()
        said = (found.alive, tuple(found.reasons))
        if said != self._said or now - self._said_at >= _TELL:
            self._said, self._said_at = said, now
            running = int(found.about.get("running", 0))
            self._say(State(found.alive, {str(name): why for name, why in found.reasons.items()}, running, memory))
        why = self._has_had_its_share(memory)
        if why and now - self._asked_at >= _ASK_AGAIN:
            self._asked_at = now
            self._say(Recycle(why))

    def _has_had_its_share(self, memory: int) -> str:
        run = self._run
        jobs = 0 if run is None else run.jobs_complete + run.jobs_retried + run.jobs_failed
        if self._most_jobs and jobs >= self._most_jobs:
            return f"it has had {jobs:,} jobs (BARQUE_MAX_JOBS)"
        if self._most_memory and memory >= self._most_memory:
            holds = f"{memory / 1024**2:,.0f} MiB"
            if jobs:
                return f"it holds {holds} (BARQUE_MAX_MEMORY)"
            # Another one would hold as much: they would replace one another without end.
            log.error("max_memory_too_low", holds=holds, advice="it has had no job yet: raise BARQUE_MAX_MEMORY")
            self._most_memory = 0
        return ""

    def _say(self, message: Message) -> None:
        with self._saying, contextlib.suppress(OSError):  # the listening thread sees that it is gone
            self._socket.sendall(encode(message))


def _somewhat_below(most: int) -> int:
    return round(most * random.uniform(0.9, 1.0)) if most else 0  # noqa: S311
