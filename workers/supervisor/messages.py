"""What a worker process and its supervisor tell each other: JSON, one message a line, over a pair of sockets.

Owns the form. Who says what, and when, is child.py's and processes.py's. Nothing of a job is in it but numbers and the
names of tasks and limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

__all__ = ["Ask", "Configured", "Counted", "Family", "Figures", "Lines", "Message", "Recycle", "State", "encode"]


class Family(msgspec.Struct, array_like=True):
    """A series of Prometheus': its name without `_total` and the like, its kind, what it tells, and its samples."""

    name: str
    kind: str
    help: str
    samples: list[tuple[str, dict[str, str], float]]


class Configured(msgspec.Struct, tag="configured"):
    """The worker's settings are right and its tasks are imported: it begins.

    Attributes:
        grace: seconds that its running jobs have after the first signal.
        block_limit: seconds that its event loop may stand still.
    """

    worker: str
    grace: float
    block_limit: float


class State(msgspec.Struct, tag="state", omit_defaults=True):
    """How the worker is. Attributes as those of workers.wellbeing.Wellbeing; `memory` is in bytes."""

    alive: bool
    reasons: dict[str, str]
    running: int = 0
    memory: int = 0


class Recycle(msgspec.Struct, tag="recycle"):
    """The worker has had its share of jobs, or of memory, and asks for another in its place."""

    why: str


class Figures(msgspec.Struct, tag="figures"):
    """What the worker has counted; `asked` is the question's number, 0 for its last word."""

    asked: int
    families: list[Family]


class Counted(msgspec.Struct, tag="counted"):
    """How many attempts ended how, at the end of the run."""

    counts: dict[str, int]


Message = Configured | State | Recycle | Figures | Counted


class Ask(msgspec.Struct, tag="ask"):
    """The supervisor wants the figures."""

    number: int


def encode(message: Message | Ask) -> bytes:
    """Return a message as it is sent."""
    return msgspec.json.encode(message) + b"\n"


class Lines:
    """Makes messages of what arrives, in pieces of any size.

    Args:
        kind: of the messages that are expected; others are left out.
    """

    def __init__(self, kind: Any) -> None:
        self._decoder: msgspec.json.Decoder[Message | Ask] = msgspec.json.Decoder(kind)
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[Message | Ask]:
        """Yield the messages that are whole with this."""
        *whole, rest = data.split(b"\n")
        for line in whole:
            self._pieces.append(line)
            found, self._pieces = b"".join(self._pieces), []
            try:
                yield self._decoder.decode(found)
            except msgspec.MsgspecError:  # of another version, which a reload may bring
                continue
        if rest:
            self._pieces.append(rest)
