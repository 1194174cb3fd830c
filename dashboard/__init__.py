"""The dashboard: pages for people, and a JSON API for programs, over what a producer can see and do.

It is an ASGI application, `create_app`, which `barque dashboard` serves. It needs the `dashboard` extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dashboard.app import create_app

__all__ = ["create_app"]


def __getattr__(name: str) -> Any:
    if name == "create_app":  # late: settings and rules of this package are of use without the extra
        from dashboard.app import create_app  # noqa: PLC0415

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
