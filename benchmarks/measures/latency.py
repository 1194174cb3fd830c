"""How long a job is on its way when nothing else is: to the task's first line, and back to the caller.

All processes read one monotonic clock, so the sender's time can be subtracted from the worker's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from benchmarks.adapters import Adapter
from benchmarks.harness import Bench, Scale
from benchmarks.summary import percentile

__all__ = ["Pickup", "RoundTrip"]

_RATE = 50.0
_SETTLE = 0.5
"""Seconds between the first job, which shows that the worker is up, and what is measured."""

_PAUSE, _MOST_SECONDS = 0.02, 10.0
"""Seconds between one result and the next job, and of a repetition: a peer that polls would take minutes."""


def _percentiles(latencies_ns: Sequence[int]) -> dict[str, float]:
    return {
        "p50_ms": percentile(latencies_ns, 0.50) / 1e6,
        "p99_ms": percentile(latencies_ns, 0.99) / 1e6,
        "jobs": len(latencies_ns),
    }


class Pickup:
    """From just before the enqueue to the task's first line, 50 jobs a second."""

    name = "pickup"
    title = "Pickup from idle, 50 jobs/s"

    def repetitions(self, scale: Scale) -> int:
        """Return how often it is run."""
        return scale.repeat_latency

    def subjects(self, adapters: Mapping[str, Adapter]) -> Sequence[str]:
        """Return all peers."""
        return list(adapters)

    def run(self, bench: Bench, subject: str) -> dict[str, float]:
        """Start a worker, show it one job, then send jobs at a steady pace."""
        adapter = bench.adapters[subject]
        jobs = round(_RATE * bench.scale.paced_seconds)
        with bench.client(adapter) as client, bench.worker(adapter, wanted=100, expect=jobs + 1) as worker:
            client.ask("paced", jobs=1, rate=_RATE)
            worker.wait_for("first", timeout=60)
            time.sleep(_SETTLE)
            client.ask("paced", jobs=jobs, rate=_RATE)
            latencies = worker.wait_for(timeout=60)["latencies_ns"]
        return _percentiles(latencies[1:])


class RoundTrip:
    """From just before the enqueue until the caller has the result, one job at a time."""

    name = "round_trip"
    title = "Enqueue to result in the caller's hand, idle"

    def repetitions(self, scale: Scale) -> int:
        """Return how often it is run."""
        return scale.repeat_latency

    def subjects(self, adapters: Mapping[str, Adapter]) -> Sequence[str]:
        """Return the peers that keep results."""
        return [name for name, adapter in adapters.items() if adapter.keeps_results]

    def run(self, bench: Bench, subject: str) -> dict[str, float]:
        """Start a worker, show it some jobs, then send one after the other."""
        adapter = bench.adapters[subject]
        with bench.client(adapter) as client, bench.worker(adapter, wanted=100, expect=1) as worker:
            client.ask("bulk", task="noop", jobs=1)
            worker.wait_for(timeout=60)
            time.sleep(_SETTLE)
            client.ask("round_trip", jobs=5, pause=_PAUSE, most_seconds=_MOST_SECONDS)
            jobs = bench.scale.round_trips
            answer = client.ask("round_trip", jobs=jobs, pause=_PAUSE, most_seconds=_MOST_SECONDS)
        return _percentiles(answer["latencies_ns"])
