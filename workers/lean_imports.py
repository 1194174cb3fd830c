"""Import a library without the optional ones it looks for.

structlog imports rich and greenlet where they are installed, to draw tracebacks and to serve greenlets. A worker
process does neither (common/logs.py formats tracebacks itself, so that they show no arguments), and would carry
them, 7 MB, all its life. Owns that, and that nobody else's import of them is in the way.
"""

from __future__ import annotations

import importlib
import sys

__all__ = ["import_structlog"]

_UNUSED = ("rich", "greenlet")


def import_structlog() -> None:
    """Import structlog, if nobody has yet, without what it would use for things a worker does not do."""
    hidden = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: what asks for it is told that it is not there
    try:
        importlib.import_module("structlog")
    finally:
        for name in hidden:
            del sys.modules[name]
