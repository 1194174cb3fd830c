"""All operations of the API, and their routes."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from dashboard.api import dead, enqueueing, fleet, jobs, limits, queues, schedules
from dashboard.api.openapi import document_of
from dashboard.api.operations import ROOT, Operation
from dashboard.routing import ExactRoute

__all__ = ["OPERATIONS", "api_routes"]

OPERATIONS: tuple[Operation, ...] = (
    *queues.OPERATIONS,
    *enqueueing.OPERATIONS,
    *jobs.OPERATIONS,
    *dead.OPERATIONS,
    *schedules.OPERATIONS,
    *fleet.OPERATIONS,
    *limits.OPERATIONS,
)


def api_routes() -> list[ExactRoute]:
    """Return the routes of the API; one with a name in its place comes before one with a parameter there."""
    ordered = sorted(OPERATIONS, key=lambda one: one.path.count("{"))
    return [ExactRoute(f"{ROOT}/openapi.json", _openapi, name="openapi"), *(one.route() for one in ordered)]


async def _openapi(request: Request) -> Response:
    document = document_of(OPERATIONS, root_path=request.scope.get("root_path", ""))
    return Response(msgspec.json.encode(document), media_type="application/json")
