"""One process of the pool, as the worker sees it: started, given work one piece at a time, killed.

Owns the process and the line to it. Whose work it gets, and when it has had enough, is pool.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from typing import Any

import structlog

from common.context import Context
from common.errors import BarqueError
from common.values import to_plain
from workers.processes.frames import (
    HEADER,
    Emits,
    Emitted,
    Hello,
    Logged,
    Prepare,
    Progressed,
    Raised,
    Ready,
    Returned,
    RunCall,
    RunTask,
    Told,
    ToProcess,
    pack,
    read_from_process,
)

__all__ = ["Process", "ProcessLost", "RaisedInside"]

log = structlog.get_logger("barque.process")

_PROGRAM = (
    "import sys; descriptor, parent = map(int, sys.argv[1:3]); sys.path[:] = sys.argv[3:]; "
    "from workers.lean_imports import import_structlog; import_structlog(); "
    "from workers.processes.inside import main; main(descriptor, parent)"
)

_MODEST_WAIT = 0.002
_LONGEST_WAIT = 0.05


class ProcessLost(BarqueError):
    """A process died at work (out of memory, most often). Retried, in a new process."""


class RaisedInside(Exception):
    """What ran in a process raised; `error` is what, `traceback` where.

    Attributes:
        final: no other attempt would mend it.
    """

    def __init__(self, error: BaseException, traceback: str, *, final: bool) -> None:
        super().__init__()
        self.error = error
        self.traceback = traceback
        self.final = final


class Process:
    """A process that is there.

    Attributes:
        jobs: how many pieces of work it has had.
        memory: bytes it held after the last one.
        prepared: the tasks, and the modules, it has imported.
    """

    def __init__(
        self, popen: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._popen = popen
        self._reader = reader
        self._writer = writer
        self.jobs = 0
        self.memory = 0
        self.prepared: set[str] = set()

    @classmethod
    async def start(cls, level: int) -> Process:
        """Start a process; it imports what it needs while the first work is on its way.

        Args:
            level: of the log lines it sends.

        Raises:
            ProcessLost: the system gives none.
        """
        ours, theirs = socket.socketpair()
        # In the thread of the event loop, whose end the kernel takes for the worker's; it takes a millisecond or two.
        try:
            popen = subprocess.Popen(  # noqa: ASYNC220, S603 - see above; nothing in it is from elsewhere
                [
                    sys.executable,
                    *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing
                    "-c",
                    _PROGRAM,
                    str(theirs.fileno()),
                    str(os.getpid()),
                    *sys.path,
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,  # a group of its own: Ctrl-C is the worker's, and what it starts dies with it
            )
        except OSError as error:
            ours.close()
            raise ProcessLost(f"no process could be started: {error.strerror or error}") from error
        finally:
            theirs.close()
        ours.setblocking(False)
        try:
            process = cls(popen, *await asyncio.open_connection(sock=ours))
        except BaseException:
            popen.kill()
            popen.wait()
            ours.close()
            raise
        process.write(Hello(level, sys.argv))
        return process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        """Whether it is there and can be given work."""
        return self._popen.poll() is None and not self._reader.at_eof()

    def write(self, frame: ToProcess) -> None:
        """Send a frame."""
        self._writer.write(pack(frame))

    async def prepare(self, frame: Prepare) -> None:
        """Have a module imported.

        Raises:
            RaisedInside: importing it raised.
            ProcessLost: the process died.
        """
        await self._ask(frame, Ready, None, frame.task or frame.module)

    def tell(self, context: Context) -> None:
        """Tell the task it runs that it is to come to an end by itself, if this context has been told."""
        if context.lifetime.told:
            self.write(Told(context.lifetime.told, context.time_left))

    async def run(self, frame: RunTask | RunCall, what: str, context: Context | None = None) -> bytes:
        """Run a task or a function; return what it returned, as bytes.

        Args:
            what: names it in errors.
            context: whose progress and stream it has.

        Raises:
            RaisedInside: it raised.
            ProcessLost: the process died.
        """
        self.jobs += 1
        returned: Returned = await self._ask(frame, Returned, context, what)
        self.memory = returned.memory
        return returned.value

    def kill(self) -> None:
        """Kill it, at once, and what it has started."""
        if self._popen.returncode is None:  # until it is waited for, its number is its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.kill()
        self._writer.transport.abort()

    def dismiss(self) -> None:
        """Let it end in order; it has nothing to do."""
        self._writer.close()

    async def ended(self) -> int:
        """Wait until it has ended; return its exit code, negative for a signal."""
        wait = _MODEST_WAIT
        while (code := self._popen.poll()) is None:
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
        return code

    async def _ask(self, frame: ToProcess, wanted: type[Any], context: Context | None, what: str) -> Any:
        self.write(frame)
        try:
            await self._writer.drain()
            while True:
                header = await self._reader.readexactly(HEADER)
                reply = read_from_process(await self._reader.readexactly(int.from_bytes(header, "big")))
                if isinstance(reply, wanted):
                    return reply
                if isinstance(reply, Raised):
                    self.memory = reply.memory
                    raise _as_raised(reply)
                await self._attend_to(reply, context)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.kill()
            raise ProcessLost(_how_it_ended(await self.ended(), what)) from None

    async def _attend_to(self, reply: Any, context: Context | None) -> None:
        if isinstance(reply, Logged):
            fields = {f"{name}_" if name in _TAKEN else name: value for name, value in to_plain(reply.fields).items()}
            log.log(_named(reply.level), reply.event, **fields)
        elif isinstance(reply, Progressed) and context is not None:
            context.progress(reply.done, reply.total, reply.message)
        elif isinstance(reply, Emits) and context is not None:
            error = None
            try:
                await context.emit(to_plain(reply.value))
            except Exception as refused:
                error = pickle.dumps(refused)
            self.write(Emitted(error))


_TAKEN = {"self", "level", "event"}
"""What the method of a logger calls its own parameters."""


def _named(level: int) -> int:
    """Return the named level that one of a program's own comes after: structlog knows no others."""
    return max(logging.DEBUG, min(level // 10 * 10, logging.CRITICAL))


def _as_raised(reply: Raised) -> RaisedInside:
    try:
        error, cause = pickle.loads(reply.error)  # noqa: S301 - from a process of ours, which has tried it
    except Exception:
        # Its class is not to be had here, or is made in another way than there.
        error, cause = RuntimeError(reply.traceback.rstrip().rpartition("\n")[2]), None
    error.__cause__ = cause
    return RaisedInside(error, reply.traceback, final=reply.final)


def _how_it_ended(code: int, what: str) -> str:
    if code == -signal.SIGKILL:
        why = "it was killed (SIGKILL); out of memory is the usual cause, and the kernel's log says so (dmesg)"
    elif code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        why = f"it crashed ({name}); where, stands on the worker's standard error"
    else:
        why = f"it ended with exit code {code}: something called os._exit, or the end of the interpreter"
    return f"the process that ran {what} died: {why}"
