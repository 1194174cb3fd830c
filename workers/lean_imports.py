"""Import a library without the optional ones it looks for.

structlog imports rich and greenlet where they are installed, to draw tracebacks and to serve greenlets. A worker
process does neither (common/logs.py formats tracebacks itself, so that they show no arguments), and would carry
them, 7 MB, all its life. Owns that, and that nobody else's import of them is in the way.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["import_structlog"]

_UNUSED = ("rich", "greenlet")


def import_structlog() -> None:
    """Import structlog, if nobody has yet, without what it would use for things a worker does not do."""
    hiding = _Hiding()
    sys.meta_path.insert(0, hiding)
    try:
        importlib.import_module("structlog")
    finally:
        sys.meta_path.remove(hiding)


class _Hiding:
    """Tells the thread it was made in that these are not installed; another thread may import them meanwhile."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Refuse what is not to be imported; leave all else to the finders after this one."""
        del path, target
        if name in _UNUSED and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None
