"""For users' own tests: producer, server and worker in one process, and a clock that jumps.

Owns no part of Barque: what runs is the worker as it is. Needs the `testing` extra. The fixtures for pytest are
pytest_barque.py's. This imports nothing until it is asked for something: a task's module may name it for types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.testing.sandbox import Ran, Sandbox

__all__ = ["Ran", "Sandbox"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from workers.testing import sandbox  # noqa: PLC0415 - see above

    return getattr(sandbox, name)
