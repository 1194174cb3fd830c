"""What workers cost while they wait: memory with many jobs in flight, memory when idle, and the server's time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import cast

from benchmarks.adapters import OURS, Adapter
from benchmarks.adapters.barque import Barque
from benchmarks.harness import Bench, Scale
from benchmarks.processes import Worker, wait_until
from benchmarks.summary import percentile
from common.redis.keys import WORKERS

__all__ = ["IdleMemory", "IdleServer", "InFlight"]

_SETTLE = 2.0


class InFlight:
    """Barque with thousands of jobs asleep: memory of each, and how late the event loop wakes a sleeper."""

    name = "in_flight"
    title = "10,000 jobs in flight, sleeping"

    def repetitions(self, scale: Scale) -> int:
        """Return how often it is run."""
        return scale.repeat_footprint

    def subjects(self, adapters: Mapping[str, Adapter]) -> Sequence[str]:
        """Return Barque."""
        return [OURS] if OURS in adapters else []

    def run(self, bench: Bench, subject: str) -> dict[str, float]:
        """Fill a worker, weigh it, then run one more job that sleeps 5 ms again and again."""
        adapter = bench.adapters[subject]
        jobs = min(10_000, bench.scale.most_jobs)
        with bench.client(adapter) as client, bench.worker(adapter, wanted=jobs + 10, expect=jobs + 1) as worker:
            client.ask("paced", jobs=1, rate=1)
            worker.wait_for("first", timeout=60)
            time.sleep(_SETTLE)
            empty = worker.resident_bytes()
            client.ask("bulk", task="hold", jobs=jobs)
            worker.wait_for("all-begun", timeout=60)
            time.sleep(_SETTLE)
            full = worker.resident_bytes()
            client.ask("bulk", task="tick", jobs=1)
            late = worker.wait_for("ticks", timeout=60)["late_ns"]
        return {
            "bytes_per_job": (full - empty) / jobs,
            "loop_late_p50_ms": percentile(late, 0.50) / 1e6,
            "loop_late_p99_ms": percentile(late, 0.99) / 1e6,
            "loop_late_max_ms": max(late) / 1e6,
            "jobs": jobs,
        }


class IdleMemory:
    """Resident memory of a worker that has run one job and waits for the next."""

    name = "idle_memory"
    title = "Idle worker: resident memory"

    def repetitions(self, scale: Scale) -> int:
        """Return how often it is run."""
        return scale.repeat_footprint

    def subjects(self, adapters: Mapping[str, Adapter]) -> Sequence[str]:
        """Return all peers."""
        return list(adapters)

    def run(self, bench: Bench, subject: str) -> dict[str, float]:
        """Start a worker, show it one job, wait, weigh."""
        adapter = bench.adapters[subject]
        with bench.client(adapter) as client, bench.worker(adapter, wanted=100, expect=1) as worker:
            client.ask("bulk", task="noop", jobs=1)
            worker.wait_for(timeout=60)
            time.sleep(_SETTLE)
            return {"resident_mb": worker.resident_bytes() / 1e6}


class IdleServer:
    """The server's CPU time with 100 idle workers of Barque's: 4 processes of 25 workers, each with its connections."""

    name = "idle_server"
    title = "100 idle workers: CPU time of the server"
    processes, workers_each = 4, 25

    def repetitions(self, scale: Scale) -> int:  # noqa: ARG002 - each run is an average of its own
        """Return how often it is run."""
        return 1

    def subjects(self, adapters: Mapping[str, Adapter]) -> Sequence[str]:
        """Return Barque."""
        return [OURS] if OURS in adapters else []

    def run(self, bench: Bench, subject: str) -> dict[str, float]:
        """Start the workers, wait until all have reported, watch the server."""
        adapter = cast("Barque", bench.adapters[subject])
        wanted = self.processes * self.workers_each
        bench.server.clear()
        with contextlib.ExitStack() as stack:
            workers = []
            for _ in range(self.processes):
                name, folder = bench.place("barque-idle")
                program = adapter.script("idle", str(self.workers_each))
                workers.append(stack.enter_context(Worker(program, folder, name, env=bench.env(), expect=0)))
            wait_until(
                lambda: bench.server.count(WORKERS) >= wanted, workers, timeout=60, what=f"{wanted} workers' reports"
            )
            time.sleep(_SETTLE)
            used, began = bench.server.cpu_seconds(), time.monotonic()
            time.sleep(bench.scale.idle_seconds)
            share = (bench.server.cpu_seconds() - used) / (time.monotonic() - began)
        return {"core_percent": 100 * share, "workers": wanted}
