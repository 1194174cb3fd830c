"""What more worker processes bring, and what a job costs the server from its enqueue to its end.

The workers are started and idle; they are stopped (SIGSTOP) while the jobs are enqueued, and all let go at once, so
that neither their start nor their order decides. The end is when the queue is empty: a job of Barque's leaves it when
its outcome is recorded.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Mapping, Sequence

from benchmarks.adapters import OURS, Adapter
from benchmarks.harness import Bench, Scale
from benchmarks.processes import wait_until
from common.redis.keys import WORKERS
from common.settings import DEFAULT_QUEUE

__all__ = ["Scaling"]


class Scaling:
    """Throughput of several of Barque's worker processes, and the server's CPU time per job."""

    name = "scaling"
    title = "1, 2, 4 and 8 worker processes"

    def repetitions(self, scale: Scale) -> int:
        """Return how often it is run."""
        return scale.repeat_scaling

    def subjects(self, adapters: Mapping[str, Adapter]) -> Sequence[str]:
        """Return the numbers of processes."""
        return ["1", "2", "4", "8"] if OURS in adapters else []

    def run(self, bench: Bench, subject: str) -> dict[str, float]:
        """Start workers, stop them, enqueue, let them go, wait for the queue to be empty."""
        adapter, processes = bench.adapters[OURS], int(subject)
        jobs = bench.scale.jobs(adapter.drain_rate)
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(bench.client(adapter))
            workers = [stack.enter_context(bench.worker(adapter, wanted=100, expect=0)) for _ in range(processes)]
            wait_until(
                lambda: bench.server.count(WORKERS) >= processes, workers, timeout=60, what="all workers' reports"
            )
            for worker in workers:
                worker.signal(signal.SIGSTOP)
            used, in_scripts = bench.server.cpu_seconds(), bench.server.script_microseconds()
            client.ask("bulk", task="noop", jobs=jobs)
            began = time.monotonic()
            for worker in workers:
                worker.signal(signal.SIGCONT)
            wait_until(lambda: not bench.server.count(DEFAULT_QUEUE), workers, timeout=60, what="the queue's end")
            seconds = time.monotonic() - began
            used = bench.server.cpu_seconds() - used
            in_scripts = bench.server.script_microseconds() - in_scripts
        return {
            "jobs_per_s": jobs / seconds,
            "redis_us": used / jobs * 1e6,
            "scripts_us": in_scripts / jobs,
            "jobs": jobs,
        }
