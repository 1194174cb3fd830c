"""What a pause is, and how what was said of it is kept: who paused a queue or a task, and why.

Pure. Where it is kept is common/redis/control.py's; what a worker does about it workers/pauses.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from common.values import MALFORMED

__all__ = ["LONGEST_REASON", "Pause", "encode_said", "read_pause"]

LONGEST_REASON = 500
"""Characters of a reason, and of who paused."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A queue or a task that is paused.

    Attributes:
        since: by the server's clock.
        by: who paused it, as far as that was said.
        waiting: of a task, jobs that were claimed and put aside since; None of a queue, and where nobody asked.
        is_new: whether this call paused it; False where it was paused already.
    """

    kind: Literal["queue", "task"]
    name: str
    since: datetime
    by: str
    reason: str | None = None
    waiting: int | None = None
    is_new: bool = False


class _Said(msgspec.Struct, omit_defaults=True):
    by: str = ""
    reason: str | None = None


def encode_said(by: str, reason: str | None) -> bytes:
    """Return what is kept of who paused, and why."""
    return msgspec.json.encode(_Said(by, reason))


def read_pause(kind: Literal["queue", "task"], name: str, since_ms: int, said: bytes) -> Pause:
    """Return a pause as it is kept; whatever a foreign program wrote there pauses as well."""
    try:
        known = msgspec.json.decode(said, type=_Said)
    except MALFORMED:
        known = _Said()
    return Pause(
        kind, name, datetime.fromtimestamp(min(since_ms, 253402300799000) / 1000, tz=UTC), known.by, known.reason
    )
