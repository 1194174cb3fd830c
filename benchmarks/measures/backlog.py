"""Whether a long queue is slower to work on than a short one: due jobs, and scheduled ones behind them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.adapters import OURS, Adapter
from benchmarks.harness import Bench, Scale
from benchmarks.processes import Client

__all__ = ["ClaimWithBacklog"]

_SHORT = 10_000
_DRAINS = 3
"""Times that ten thousand jobs are worked off, each by a worker of its own; the median counts. The results of more
would take the server's table of keys past 2**20 entries: Redis then moves all of it, and every command pays."""
_PART = 50_000
_A_DAY = 86_400


class ClaimWithBacklog:
    """How fast Barque's worker does the first 10,000 jobs of a queue, by what else is in it."""

    name = "backlog"
    title = "Claiming with a backlog"

    def repetitions(self, scale: Scale) -> int:  # noqa: ARG002 - each run is an average of its own
        """Return how often it is run."""
        return 1

    def subjects(self, adapters: Mapping[str, Adapter]) -> Sequence[str]:
        """Return the kinds of backlog."""
        return ["short", "long", "scheduled"] if OURS in adapters else []

    def run(self, bench: Bench, subject: str) -> dict[str, float]:
        """Fill the queue, then work off ten thousand jobs, several times."""
        adapter = bench.adapters[OURS]
        jobs = min(_SHORT, bench.scale.most_jobs)
        rates = []
        with bench.client(adapter) as client:
            if subject == "long":
                _fill(client, "bulk", bench.scale.backlog)
            elif subject == "scheduled":
                _fill(client, "schedule", bench.scale.backlog, delay=_A_DAY)
            for _ in range(_DRAINS):
                if subject != "long":
                    client.ask("bulk", task="noop", jobs=jobs)
                with bench.worker(adapter, wanted=100, expect=jobs) as worker:
                    marks = worker.wait_for(timeout=60)
                rates.append(jobs / (marks["ended_ns"] - marks["began_ns"]) * 1e9)
        return {"jobs_per_s": statistics.median(rates), "backlog": jobs if subject == "short" else bench.scale.backlog}


def _fill(client: Client, do: str, jobs: int, **details: int) -> None:
    for start in range(0, jobs, _PART):
        client.ask(do, task="noop", jobs=min(_PART, jobs - start), **details)
