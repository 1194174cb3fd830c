"""streaq."""

from benchmarks.adapters.base import Program, PythonPeer


class Streaq(PythonPeer):
    def worker(self, at_once: int) -> Program:  # noqa: ARG002 - app.py reads BENCH_CONCURRENCY
        return self.program("streaq", "run", "app:worker")


ADAPTER = Streaq(
    name="streaq",
    title="streaq",
    settings="concurrency as wanted; uvloop by anyio_kwargs; its own log (INFO: two lines a job); results kept an "
    "hour; `enqueue_many`, ten thousand a call; results pushed",
    drain_rate=1_000,
    enqueue_rate=14_000,
    versions_of=("streaq", "coredis", "uvloop"),
)
