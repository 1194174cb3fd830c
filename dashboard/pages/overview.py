"""The first page: how the fleet stands."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from common.redis.inspect import QueueReport
from dashboard.context import dashboard_of
from dashboard.pages.rendering import page
from producer import Producer

__all__ = ["overview"]


async def overview(request: Request) -> Response:
    """Show the queues."""
    source = dashboard_of(request).source

    async def read(producer: Producer) -> list[QueueReport]:
        queues = await producer.inspector.queues_in_use(source.settings.queues)
        return [await producer.inspector.queue(queue) for queue in queues]

    return page(request, "overview.html", {"queues": await source.ask("the queues", read)})
