"""Limits and circuit breakers in use: how each stands; having those of one name begin anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.redis.limits import LimitInfo
from dashboard.pages.acting import Asked
from dashboard.pages.notices import Notice
from dashboard.pages.view import Page, View

__all__ = ["LIMITS", "reset_limit"]

_MOST = 200
"""Limits that are shown: there is one for each key, and there may be as many keys as customers."""


async def _read(view: View) -> Mapping[str, Any]:
    found = await view.ask("the limits in use", lambda producer: producer.limits.list())
    shown = [limit for limit in found if limit.kind != "door"]  # a paused task's: the page of the queues has it
    rows = sorted(shown, key=_most_telling)[:_MOST]
    masking = view.dashboard.masking
    keys = {each.gate: None if each.key is None else masking.text(each.key) for each in rows}
    return {"rows": rows, "keys": keys, "left_out": len(shown) - len(rows)}


LIMITS = Page("limits.html", "limits", _read)


async def reset_limit(asked: Asked) -> Notice:
    """Have the limits of one name begin anew."""
    name = asked.view.path["name"]
    found = await asked.producer.limits.reset(name)
    if not found:
        return Notice(f"No limit called {name} is in use any more.", "plain")
    return Notice(f"Reset {name}: rates without a past, breakers closed. Jobs that run keep their places.")


def _most_telling(info: LimitInfo) -> tuple[int, int, str, str]:
    """Sort open breakers first, then what most jobs wait for."""
    return (0 if info.state in {"open", "half_open"} else 1, -(info.waiting or 0), info.name, info.key or "")
