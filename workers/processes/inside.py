"""The inside of a process of the pool: take work off the line, run it, answer.

Owns what a task sees in a process: its context, what becomes of its log lines, and that the process ends with the
worker whatever the task does. One job at a time, in the main thread, as a program of its own would run it.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import inspect
import logging
import os
import pickle
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec
import structlog

from common.context import Context
from common.errors import ConfigurationError, NotSerializable, PayloadError
from common.stopping import Lifetime
from common.tasks import registered_tasks
from common.values import encode
from workers.own_memory import memory_or_most
from workers.processes.copies import say_in_a_copy, watch_forks
from workers.processes.frames import (
    Emits,
    Emitted,
    FromProcess,
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
    pack,
    receive,
)

__all__ = ["ProcessContext", "main"]

_SECONDS_TO_LEAVE = 2.0
"""After the line is closed, for what runs at the end of a program (`atexit`)."""

_PROGRESS_EVERY = 0.05
"""Seconds between two words on how far a task is; the last one is sent in any case."""

_NOT_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_PR_SET_PDEATHSIG = 1


def main(descriptor: int, parent: int) -> None:
    """Serve a worker until it hangs up.

    Args:
        descriptor: of this end of the line.
        parent: the worker's process id.
    """
    _end_with(parent)
    for number in _NOT_OURS:
        # They may reach a whole group or container; the worker decides what ends. Not SIG_IGN, which programs that a
        # task starts would inherit.
        signal.signal(number, lambda *_: None)
    faulthandler.enable()
    line = socket.socket(fileno=descriptor)
    line.set_inheritable(False)  # what a task starts may live on, and the worker sees by the line's end that this ended
    served = _Served(line)
    watch_forks(served.be_a_copy, heeding=_NOT_OURS)
    _or_end(served.serve)


def _or_end(serve: Callable[[], None]) -> None:
    """End the process with what serves it: without, it would keep its job for ever."""
    try:
        serve()
    except BaseException:  # no memory for a frame, most likely
        traceback.print_exc()
        os._exit(1)


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its worker is gone, where it does so: a task may hold the interpreter."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class _Served:
    """The process's end of the line."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._sending = threading.Lock()
        self._work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._busy = False
        self._is_copy = False
        self._lifetime = _Lifetime(None)

    def serve(self) -> None:
        """Do what comes until the worker hangs up."""
        threading.Thread(target=_or_end, args=(self._listen,), name="barque-line", daemon=True).start()
        while (work := self._work.get()) is not None:
            self._busy = True
            self._do(work)
            self._busy = False

    def be_a_copy(self) -> None:
        """Leave the line to the process that has forked this one: the worker wants one answer to one job."""
        self._is_copy = True
        self._line.close()

    def send(self, frame: FromProcess) -> None:
        """Send a frame; ends the process if nobody is there to take it."""
        if self._is_copy:
            say_in_a_copy(frame)
            return
        data = pack(frame)
        try:
            with self._sending:
                self._line.sendall(data)
        except OSError:
            os._exit(1)

    def emit(self, value: bytes) -> None:
        """Add an item to the stream; returns when there was room."""
        if self._is_copy:
            raise RuntimeError("a process that a task has forked has no stream: emit in the task itself")
        self.send(Emits(value))
        error = self._answers.get()
        if error is not None:
            raise pickle.loads(error)  # noqa: S301 - the worker's own

    def _listen(self) -> None:
        while (frame := receive(self._line)) is not None:
            if isinstance(frame, Emitted):
                self._answers.put(frame.error)
            elif isinstance(frame, Told):
                self._lifetime.until(frame.time_left)
                self._lifetime.tell(frame.why)
            else:
                self._work.put(frame)
        if self._busy:  # nobody wants the outcome
            os._exit(1)
        self._work.put(None)
        time.sleep(_SECONDS_TO_LEAVE)
        os._exit(0)

    def _do(self, work: Any) -> None:
        if isinstance(work, Hello):
            sys.argv[:] = work.argv
            _forward_logs(self.send, work.level)
        elif isinstance(work, Prepare):
            self.send(self._answer(self._prepare, work))
        elif isinstance(work, RunTask):
            structlog.contextvars.clear_contextvars()
            self.send(self._answer(self._run_task, work))
        elif isinstance(work, RunCall):
            structlog.contextvars.clear_contextvars()
            self.send(self._answer(_run_call, work))

    @staticmethod
    def _answer(act: Callable[[Any], FromProcess], work: Any) -> FromProcess:
        try:
            return act(work)
        except _FinalError as error:
            return _raised(error.cause, final=True)
        except BaseException as error:  # SystemExit too: the process is the worker's to end
            return _raised(error)

    @staticmethod
    def _prepare(work: Prepare) -> Ready:
        if work.main:
            from multiprocessing import spawn  # noqa: PLC0415 - rarely needed

            spawn.prepare(work.main)  # without what stands under `if __name__ == "__main__"`
        importlib.import_module(work.module)
        if work.task is not None and work.task not in registered_tasks():
            raise ConfigurationError(
                f"importing {work.module} in a process does not declare the task {work.task!r}, as it did in the "
                "worker: it must be declared whenever its module is imported, at its top level"
            )
        return Ready()

    def _run_task(self, work: RunTask) -> Returned:
        task = registered_tasks()[work.task]
        try:
            if work.objects is not None:
                args, kwargs = pickle.loads(work.objects)  # noqa: S301 - made by the worker, a moment ago
            else:
                args, kwargs = task.arguments.read(work.args, work.kwargs)
        except PayloadError as error:
            raise _FinalError(error) from None
        self._lifetime = _Lifetime(work.time_left)
        context = ProcessContext(self, lifetime=self._lifetime, **pickle.loads(work.context))  # noqa: S301 - likewise
        try:
            value: Any = task.function(context, *args, **kwargs)
        finally:
            context.end()
        if inspect.iscoroutine(value):
            value.close()
            raise TypeError(
                f"{work.task} is a plain `def` and returned a coroutine, which nothing would run: write `async def`, "
                "or return a value"
            )
        try:
            encoded = encode(value)
        except NotSerializable as error:
            raise _FinalError(error) from None
        return Returned(encoded, memory_or_most())


class _Lifetime(Lifetime):
    """The time of one attempt, as the worker has told it."""

    __slots__ = ("_ends_at",)

    def __init__(self, seconds: float | None) -> None:
        super().__init__()
        self.until(seconds)

    def until(self, seconds: float | None) -> None:
        """Have it end after so many seconds from now; None is never."""
        self._ends_at = None if seconds is None else time.monotonic() + seconds

    @property
    def time_left(self) -> float | None:
        """Seconds until the attempt is stopped; None is no limit."""
        return None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())


class ProcessContext(Context):
    """The Context of an attempt in a process: plain data, and a line to the worker."""

    __slots__ = ("_over", "_pending", "_said_at", "_served")

    def __init__(self, served: _Served, **fields: Any) -> None:
        super().__init__(**fields)
        self._served = served
        self._said_at = 0.0
        self._over = False
        self._pending: Progressed | None = None

    def __getitem__(self, key: Any) -> NoReturn:
        """Refuse."""
        raise ConfigurationError(
            f"{self.task} runs in a process of its own (cpu=True), where nothing of the worker is: neither ctx.state "
            "nor what a @lifespan function opened. Open what it needs in its own module"
        )

    async def open(self, resource: Any) -> Any:
        """Refuse."""
        return self[resource]

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far this job is."""
        if self._over:  # a thread that the task has left behind
            return
        self._pending = Progressed(done, total, message)
        if time.monotonic() - self._said_at >= _PROGRESS_EVERY:
            self._say()
            self._said_at = time.monotonic()

    def end(self) -> None:
        """Send what was said last, and take no more: the next words are another job's."""
        self._say()
        self._over = True

    def _say(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            self._served.send(pending)

    def emit_now(self, item: Any) -> None:
        """Add an item to this job's stream."""
        if self._over:
            raise RuntimeError(f"{self.task}: its attempt is over, and its stream with it")
        self._served.emit(encode(item))


class _FinalError(Exception):
    """What no other attempt would mend."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


def _run_call(work: RunCall) -> Returned:
    function, args, kwargs = pickle.loads(work.call)  # noqa: S301 - made by the worker, a moment ago
    return Returned(pickle.dumps(function(*args, **kwargs)), memory_or_most())


def _raised(error: BaseException, *, final: bool = False) -> Raised:
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    try:
        words = "".join(traceback.format_exception(type(error), error, frames))
    except BaseException:  # notes that raise, a SyntaxError without a text
        words = "".join(traceback.format_tb(frames))
    return Raised(_pickled(error), words.encode(errors="backslashreplace").decode(), memory_or_most(), final)


def _pickled(error: BaseException) -> bytes:
    for cause in (error.__cause__, None):
        try:
            packed = pickle.dumps((error, cause))
            pickle.loads(packed)  # noqa: S301 - many an exception cannot be made again from its arguments
        except Exception:  # noqa: S112 - then without its cause, or in words
            continue
        else:
            return packed
    try:
        text = str(error)
    except BaseException:
        text = "<its text cannot be shown>"
    return pickle.dumps((RuntimeError(f"{type(error).__name__}: {text}"), None))


def _forward_logs(send: Callable[[FromProcess], None], level: int) -> None:
    """Send every log line to the worker, to be written where its own are."""

    def forward(_logger: Any, _method: str, line: structlog.typing.EventDict) -> NoReturn:
        event = str(line.pop("event", ""))
        number = logging.getLevelNamesMapping().get(str(line.pop("level", "info")).upper(), logging.INFO)
        send(_logged(number, event, dict(line)))
        raise structlog.DropEvent

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            forward,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(),
    )
    handler = _Forwarding(send)
    handler.setFormatter(logging.Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))  # libraries speak from there up, as in the worker


class _Forwarding(logging.Handler):
    """Sends records of `logging` to the worker."""

    def __init__(self, send: Callable[[FromProcess], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            fields: dict[str, Any] = {"logger": record.name}
            if record.exc_info:
                fields["exception"] = (self.formatter or logging.Formatter()).formatException(record.exc_info)
            self._send(_logged(record.levelno, record.getMessage(), fields))
        except Exception:
            self.handleError(record)


def _logged(level: int, event: str, fields: dict[str, Any]) -> Logged:
    try:
        encoded = msgspec.msgpack.encode(fields, enc_hook=repr)
    except Exception:  # a lone surrogate in an id from elsewhere, a repr that raises
        encoded = msgspec.msgpack.encode({_plain(name): _plain(value) for name, value in fields.items()})
    return Logged(level, _plain(event), encoded)


def _plain(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text.encode(errors="backslashreplace").decode()
