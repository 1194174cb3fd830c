"""Variables of the log context that travel with a job: `BARQUE_LOG_CONTEXT=request_id,tenant`.

Owns which values travel and in what form. A producer takes them from structlog's context variables; a worker binds
them, in workers/log_context.py, and takes none that its own setting does not name: a payload may come from anybody.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from common.codec import Extras

__all__ = ["LONGEST_VALUE", "LogContext", "LogValue"]

LogValue = str | int | float | bool

LONGEST_VALUE = 1000
"""Characters of one value that travel."""

_MOST_BITS = 63  # what msgpack holds of an integer


class LogContext:
    """The chosen variables, into a payload and out of it."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(dict.fromkeys(names))

    def carry(self, extras: Extras) -> None:
        """Put what is bound here now into a job's extras."""
        bound = structlog.contextvars.get_contextvars()
        found = {name: _plain(bound[name]) for name in self.names if bound.get(name) is not None}
        if found:
            extras.log = found

    def read(self, extras: Extras | None) -> dict[str, LogValue]:
        """Return the chosen ones among those that came with a job."""
        carried = None if extras is None else extras.log
        if not isinstance(carried, dict):
            return {}
        return {name: _plain(carried[name]) for name in self.names if carried.get(name) is not None}


def _plain(value: object) -> LogValue:
    if isinstance(value, bool | float) or (isinstance(value, int) and value.bit_length() <= _MOST_BITS):
        return value
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception as error:  # a value of the user's own; it is only for the log
        text = f"<{type(value).__name__} whose str raised {type(error).__name__}>"
    return str(text[:LONGEST_VALUE].encode(errors="backslashreplace").decode())
