"""The peers: one module each, a few lines long, with an `ADAPTER`."""

from __future__ import annotations

import importlib
import pkgutil

from benchmarks.adapters.base import Adapter

__all__ = ["Adapter", "discover"]

OURS = "barque"


def discover() -> dict[str, Adapter]:
    """Return all adapters by name, Barque's own first."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__) if info.name != "base")
    found = (importlib.import_module(f"{__name__}.{name}").ADAPTER for name in names)
    return {adapter.name: adapter for adapter in sorted(found, key=lambda adapter: adapter.name != OURS)}
