"""What a worker and a process of its pool say to each other, over a pair of sockets: msgpack with its length before it.

Owns the words and their bytes. Arguments and results stay as they are on the wire (msgpack): what a process runs is
decoded there, and the worker, whose event loop has others to serve, only passes it on. Pickles cross where there is
no other way; both ends are one program.
"""

from __future__ import annotations

import socket
from typing import Any, Literal

import msgspec

__all__ = [
    "HEADER",
    "Emits",
    "Emitted",
    "FromProcess",
    "Hello",
    "Logged",
    "Prepare",
    "Progressed",
    "Raised",
    "Ready",
    "Returned",
    "RunCall",
    "RunTask",
    "ToProcess",
    "Told",
    "pack",
    "read_from_process",
    "receive",
]

HEADER = 8
"""Bytes of the length before each frame."""


class Hello(msgspec.Struct, tag="hello"):
    """The first frame: how the process is to log, and what `sys.argv` is there."""

    level: int
    argv: list[str]


class Prepare(msgspec.Struct, tag="prepare"):
    """Import a module; answered by Ready, or by Raised.

    Attributes:
        main: how the program's main module is found, where the module is that one, in multiprocessing's words.
        task: the task that is to be there, if one is.
    """

    module: str
    main: dict[str, str] = {}
    task: str | None = None


class RunTask(msgspec.Struct, tag="task"):
    """Run a task; answered by Returned or Raised, with others before it.

    Attributes:
        context: the fields of its Context, pickled: an id may be any bytes.
        args, kwargs: as msgpack.
        objects: both as a pickle, instead of that.
        time_left: seconds until it is stopped, if it is.
    """

    task: str
    context: bytes
    args: bytes
    kwargs: bytes
    objects: bytes | None = None
    time_left: float | None = None


class Told(msgspec.Struct, tag="told"):
    """The task is to come to an end by itself: why, and the seconds it still has."""

    why: Literal["soft_timeout", "shutdown"]
    time_left: float | None


class RunCall(msgspec.Struct, tag="call"):
    """Run a function: a pickle of it and its arguments; answered by Returned or Raised."""

    call: bytes


class Emitted(msgspec.Struct, tag="emitted"):
    """The answer to Emits: the item has room, or the pickle of an error."""

    error: bytes | None = None


class Ready(msgspec.Struct, tag="ready"):
    """The module is imported."""


class Returned(msgspec.Struct, tag="returned"):
    """What was returned.

    Attributes:
        value: of a task as msgpack, of a function as a pickle.
        memory: bytes the process holds now.
    """

    value: bytes
    memory: int


class Raised(msgspec.Struct, tag="raised"):
    """What was raised.

    Attributes:
        error: a pickle of it and of its cause.
        traceback: in words.
        final: nothing of the task's is to blame that another attempt would mend: its arguments are not what it takes,
            or what it returned has no form on the wire.
    """

    error: bytes
    traceback: str
    memory: int
    final: bool = False


class Logged(msgspec.Struct, tag="logged"):
    """A log line: its level, what happened, and the rest as a msgpack map."""

    level: int
    event: str
    fields: bytes


class Progressed(msgspec.Struct, tag="progressed"):
    """How far the task is."""

    done: float
    total: float | None
    message: str


class Emits(msgspec.Struct, tag="emits"):
    """An item of the task's stream, as msgpack; answered by Emitted."""

    value: bytes


ToProcess = Hello | Prepare | RunTask | RunCall | Told | Emitted
FromProcess = Ready | Returned | Raised | Logged | Progressed | Emits

_encoder = msgspec.msgpack.Encoder()
_to_process = msgspec.msgpack.Decoder(ToProcess)
_from_process = msgspec.msgpack.Decoder(FromProcess)


def pack(frame: ToProcess | FromProcess) -> bytes:
    """Return a frame as bytes, its length before it."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(HEADER, "big") + body


def read_from_process(body: bytes) -> Any:
    """Return the frame in these bytes, one of `FromProcess`."""
    return _from_process.decode(body)


def receive(line: socket.socket) -> Any:
    """Return the next frame, one of `ToProcess`; None when the worker has hung up."""
    header = _exactly(line, HEADER)
    body = None if header is None else _exactly(line, int.from_bytes(header, "big"))
    return None if body is None else _to_process.decode(body)


def _exactly(line: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        try:
            part = line.recv(min(count - len(parts), 1024 * 1024))
        except ConnectionError:
            return None
        if not part:
            return None
        parts += part
    return bytes(parts)
