"""Whether a long queue is slower to work on than a short one: due jobs, and scheduled ones behind them."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.adapters import OURS, Adapter
from benchmarks.harness import Bench, Scale
from benchmarks.processes import Client
from benchmarks.server import Server
from common.redis.keys import RESULT
from common.settings import DEFAULT_QUEUE

__all__ = ["ClaimWithBacklog"]

_SHORT = 10_000
_DRAINS = 15
"""Times that ten thousand jobs are worked off, each by a worker of its own; the median counts. Their results are
forgotten in between: those of more than four drains would take the server's table of keys past 2**20 entries, and Redis
then moves all of it, for which every command pays."""
_PART = 50_000
_A_DAY = 86_400


class ClaimWithBacklog:
    """How fast Barque's worker does the first 10,000 jobs of a queue, by what else is in it.

    Ten thousand jobs are a fifth of a second, and the machine's speed changes from one minute to the next. So each kind
    of backlog has a server of its own, all are filled first, and then drained in turn.
    """

    name = "backlog"
    title = "Claiming with a backlog"

    def __init__(self) -> None:
        self._rates: dict[str, list[float]] = {}

    def repetitions(self, scale: Scale) -> int:  # noqa: ARG002 - each run is an average of its own
        """Return how often it is run."""
        return 1

    def subjects(self, adapters: Mapping[str, Adapter]) -> Sequence[str]:
        """Return the kinds of backlog."""
        return ["short", "long", "scheduled"] if OURS in adapters else []

    def run(self, bench: Bench, subject: str) -> dict[str, float]:
        """Measure all kinds, unless that was done, and return what there is of this one."""
        jobs = min(_SHORT, bench.scale.most_jobs)
        if not self._rates:
            self._rates = _in_turn(bench, jobs)
        rates, short = self._rates[subject], self._rates["short"]
        found = {"jobs_per_s": statistics.median(rates)}
        if subject == "short":
            return found | {"backlog": jobs}
        # Of each turn, as it took some seconds, in which a machine is as fast as it was; of all turns it is not.
        of_short = statistics.median(rate / its for rate, its in zip(rates, short, strict=True))
        return found | {"backlog": bench.scale.backlog, "of_short": of_short}


def _in_turn(bench: Bench, jobs: int) -> dict[str, list[float]]:
    adapter = bench.adapters[OURS]
    rates: dict[str, list[float]] = {"short": [], "long": [], "scheduled": []}
    with contextlib.ExitStack() as stack:
        sites = {}
        for kind in rates:
            server = bench.server if kind == "short" else stack.enter_context(Server())
            site = Bench(server, bench.adapters, bench.folder / f"backlog-{kind}", bench.scale)
            sites[kind] = site, stack.enter_context(site.client(adapter))
        _fill(sites["long"][1], "bulk", bench.scale.backlog - jobs)
        _fill(sites["scheduled"][1], "schedule", bench.scale.backlog, delay=_A_DAY)
        for _ in range(_DRAINS):
            for kind, (site, client) in sites.items():
                missing = bench.scale.backlog - site.server.count(DEFAULT_QUEUE) if kind == "long" else jobs
                client.ask("bulk", task="noop", jobs=missing)
                with site.worker(adapter, wanted=100, expect=jobs) as worker:
                    marks = worker.wait_for(timeout=60)
                rates[kind].append(jobs / (marks["ended_ns"] - marks["began_ns"]) * 1e9)
                site.server.forget(RESULT)
    return rates


def _fill(client: Client, do: str, jobs: int, **details: int) -> None:
    for start in range(0, jobs, _PART):
        client.ask(do, task="noop", jobs=min(_PART, jobs - start), **details)
