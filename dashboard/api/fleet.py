"""The fleet in the API: its workers, and the limits of its tasks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec

from common.redis.inspect import WorkerReport
from dashboard.api.documents import LimitDocument, Time, limit
from dashboard.api.operations import Asked, operation
from dashboard.security.masking import readable
from producer import Producer

__all__ = ["OPERATIONS"]


class WorkerDocument(msgspec.Struct, kw_only=True):
    """What a worker last said of itself."""

    worker: str
    host: str
    pid: int
    version: str
    queues: list[str]
    concurrency: int
    running: int
    started_at: Time
    reported_at: Time
    given_up: Annotated[int, msgspec.Meta(description="Attempts that would not be stopped, and run on")]
    succeeded: Annotated[int, msgspec.Meta(description="Attempts since its start")]
    retried: int
    failed: int


class WorkerList(msgspec.Struct, kw_only=True):
    """The workers that live."""

    workers: list[WorkerDocument]


class LimitList(msgspec.Struct, kw_only=True):
    """The limits in use."""

    limits: list[LimitDocument]


class LimitQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which limits."""

    name: Annotated[str | None, msgspec.Meta(description="Those of one name only")] = None


@operation("GET", "/workers", tag="fleet")
async def list_workers(asked: Asked) -> WorkerList:
    """List the workers that live, and what they last said of themselves."""

    async def read(producer: Producer) -> list[WorkerReport]:
        return await producer.inspector.workers()

    return WorkerList(workers=[_worker(each) for each in await asked.ask("the workers", read)])


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


def _worker(report: WorkerReport) -> WorkerDocument:
    return WorkerDocument(
        worker=readable(report.worker),
        host=readable(report.host),
        pid=report.pid,
        version=report.version,
        queues=[readable(name) for name in report.queues],
        concurrency=report.concurrency,
        running=report.running,
        started_at=_moment(report.started_ms),
        reported_at=_moment(report.reported_ms),
        given_up=report.given_up,
        succeeded=report.succeeded,
        retried=report.retried,
        failed=report.failed,
    )


def _moment(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(min(max(unix_ms, 0), 253402300799000) / 1000, tz=UTC)


OPERATIONS = (list_workers, list_limits, reset_limit)
