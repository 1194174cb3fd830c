"""What `barque top --json` prints: one look at the fleet for a program. Asks nothing itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cli.fleet_look import queue_document
from cli.workers_view import attempt_document, worker_document
from common.fleet import Distribution, TaskActivity, WorkerActivity

if TYPE_CHECKING:
    from cli.top_view import Picture

__all__ = ["document_of"]


def document_of(picture: Picture) -> dict[str, Any]:
    """Return a picture as plain data; lengths of time are in seconds."""
    snapshot, activity = picture.snapshot, picture.activity
    return {
        "taken_at": datetime.fromtimestamp(snapshot.taken_ms / 1000, tz=UTC).isoformat(),
        "server": picture.where,
        "observed": snapshot.observed,
        "running": snapshot.running(),
        "slots": snapshot.concurrency,
        "dead_letters": picture.dead_letters,
        "per_second": _rates(WorkerActivity(activity.succeeded, activity.retried, activity.failed, activity.cpu)),
        "queues": [queue_document(queue) for queue in picture.queues],
        "workers": [
            {
                **{k: v for k, v in worker_document(worker).items() if k not in {"longest", "failures", "figures"}},
                "per_second": _rates(did) if (did := activity.workers.get(worker.worker)) is not None else None,
            }
            for worker in snapshot.workers
        ],
        "tasks": [_task(name, did) for name, did in activity.tasks.items()],
        "running_longest": [attempt_document(attempt) for attempt in snapshot.longest()],
        "failures": [attempt_document(attempt) for attempt in snapshot.failures()],
        "slowest": [attempt_document(attempt) for attempt in snapshot.slowest()],
    }


def _rates(did: WorkerActivity) -> dict[str, float]:
    return {
        "ended": round(did.ended, 3),
        "succeeded": round(did.succeeded, 3),
        "retried": round(did.retried, 3),
        "failed": round(did.failed, 3),
        "cpu": round(did.cpu, 4),
    }


def _task(name: str, did: TaskActivity) -> dict[str, Any]:
    return {
        "task": name,
        "per_second": round(did.ended, 3),
        "failed_per_second": round(did.failed, 3),
        "outcomes": dict(did.summary.outcomes),
        "run": _distribution(did.summary.run),
        "queue_wait": _distribution(did.summary.queue_wait),
        "busy_seconds": round(did.summary.busy_s, 6),
    }


def _distribution(values: Distribution) -> dict[str, float | None]:
    return {"mean": values.mean, **{f"p{percent}": values.percentile(percent) for percent in (50, 95, 99)}}
