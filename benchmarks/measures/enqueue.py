"""How fast jobs are enqueued while no worker runs: in bulk, and one by one with 32 calls in flight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.adapters import Adapter
from benchmarks.harness import Bench, Scale

__all__ = ["BulkEnqueue", "SingleEnqueue"]

_MOST_SINGLE = 20_000


class _Enqueue:
    def repetitions(self, scale: Scale) -> int:
        """Return how often it is run."""
        return scale.repeat

    def subjects(self, adapters: Mapping[str, Adapter]) -> Sequence[str]:
        """Return all peers."""
        return list(adapters)

    def _measured(self, bench: Bench, adapter: Adapter, do: str, jobs: int, **details: Any) -> dict[str, float]:
        with bench.client(adapter) as client:
            client.ask(do, task="noop", jobs=min(jobs, 100), **details)  # connections, scripts, first imports
            used = bench.server.cpu_seconds()
            seconds = client.ask(do, task="noop", jobs=jobs, **details)["seconds"]
            used = bench.server.cpu_seconds() - used
        return {"jobs_per_s": jobs / seconds, "redis_us": used / jobs * 1e6, "jobs": jobs}


class BulkEnqueue(_Enqueue):
    """Jobs per second by the peer's bulk call, or by what its adapter says it has instead."""

    name = "bulk"
    title = "Bulk enqueue"

    def run(self, bench: Bench, subject: str) -> dict[str, float]:
        """Enqueue many."""
        adapter = bench.adapters[subject]
        return self._measured(bench, adapter, "bulk", bench.scale.jobs(adapter.enqueue_rate))


class SingleEnqueue(_Enqueue):
    """Jobs per second by single calls, 32 of them waiting for the server at any time."""

    name = "single"
    title = "Single enqueues, 32 in flight"

    def run(self, bench: Bench, subject: str) -> dict[str, float]:
        """Enqueue one by one."""
        adapter = bench.adapters[subject]
        jobs = min(_MOST_SINGLE, bench.scale.jobs(adapter.enqueue_rate))
        return self._measured(bench, adapter, "single", jobs, in_flight=32)
