"""Limits in the API: how they stand, and having them begin anew."""

from __future__ import annotations

from typing import Annotated

import msgspec

from dashboard.api.documents import LimitDocument, limit
from dashboard.api.operations import Asked, operation

__all__ = ["OPERATIONS"]


class LimitList(msgspec.Struct, kw_only=True):
    """The limits in use."""

    limits: list[LimitDocument]


class LimitQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which limits."""

    name: Annotated[str | None, msgspec.Meta(description="Those of one name only")] = None


@operation("GET", "/limits", tag="limits")
async def list_limits(asked: Asked, query: LimitQuery) -> LimitList:
    """List how each limit stands that is in use; idle ones are forgotten after a minute."""
    producer = await asked.dashboard.source.producer()
    return LimitList(limits=[limit(asked, each) for each in await producer.limits.list(query.name)])


@operation("POST", "/limits/{limit}/reset", tag="limits")
async def reset_limit(asked: Asked) -> LimitList:
    """Have the limits of one name begin anew, those of all its keys; tells how they stood before."""
    producer = await asked.dashboard.source.producer()
    return LimitList(limits=[limit(asked, each) for each in await producer.limits.reset(asked.path["limit"])])


OPERATIONS = (list_limits, reset_limit)
