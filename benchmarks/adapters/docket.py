"""docket."""

from benchmarks.adapters.base import Program, PythonPeer
from benchmarks.environments import PEERS


class Docket(PythonPeer):
    def worker(self, at_once: int) -> Program:  # noqa: ARG002 - app.py reads BENCH_CONCURRENCY
        return self.program("python", str(PEERS / self.name / "app.py"))


ADAPTER = Docket(
    name="docket",
    title="docket",
    settings="concurrency as wanted; a worker of the documented `Worker` class under uvloop (its command line "
    "starts none), hiredis, as many connections as it asks for; log level INFO, its default (two lines a "
    "job); `add_many` in its own batches of a thousand; results pushed",
    drain_rate=300,
    enqueue_rate=3_000,
    in_goals=False,
    versions_of=("pydocket", "redis", "hiredis", "uvloop"),
)
