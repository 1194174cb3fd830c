"""How fast one worker process empties a queue.

The jobs are enqueued while no worker runs; then one is started. Its own task code takes the time when the first job
begins and when the last one ends (peers/shared/counting.py), so that start-up, which differs by seconds, does not
count, and nobody has to know a peer's keys to see the end. What a worker still has to record at that moment is at
most what it runs at once; a drain has several times as many jobs. (It is time not counted, so it flatters whoever
records late; Barque records a batch of outcomes within milliseconds.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.adapters import Adapter
from benchmarks.harness import Bench, Scale

__all__ = ["Drain"]

_ROUNDS = 4
"""A drain has at least so many times the jobs that run at once."""


class Drain:
    """Jobs per second, and the CPU time each costs in the worker and in the server."""

    def __init__(self, name: str, title: str, *, task: str, wanted: int, task_seconds: float) -> None:
        self.name = name
        self.title = title
        self._task = task
        self._wanted = wanted
        self._task_seconds = task_seconds

    def repetitions(self, scale: Scale) -> int:
        """Return how often it is run."""
        return scale.repeat

    def subjects(self, adapters: Mapping[str, Adapter]) -> Sequence[str]:
        """Return all peers."""
        return list(adapters)

    def run(self, bench: Bench, subject: str) -> dict[str, float]:
        """Fill the queue, start a worker, wait for the last job."""
        adapter = bench.adapters[subject]
        rate: float = adapter.drain_rate
        if self._task_seconds:
            rate = min(rate, adapter.at_once(self._wanted) / self._task_seconds)
        jobs = bench.scale.jobs(rate, least=_ROUNDS * adapter.at_once(self._wanted))
        with bench.client(adapter) as client:
            client.ask("bulk", task=self._task, jobs=jobs)
            used = bench.server.cpu_seconds()
            with bench.worker(adapter, wanted=self._wanted, expect=jobs) as worker:
                marks = worker.wait_for(timeout=60 + 10 * jobs / rate)
                used = bench.server.cpu_seconds() - used
        return {
            "jobs_per_s": jobs / (marks["ended_ns"] - marks["began_ns"]) * 1e9,
            "worker_us": marks["cpu_ns"] / jobs / 1000,
            "redis_us": used / jobs * 1e6,
            "jobs": jobs,
        }
