"""SAQ."""

from benchmarks.adapters.base import Program, PythonPeer


class Saq(PythonPeer):
    def worker(self, at_once: int) -> Program:  # noqa: ARG002 - app.py reads BENCH_CONCURRENCY
        return self.program("saq", "app.settings", "-v")


ADAPTER = Saq(
    name="saq",
    title="SAQ",
    settings="concurrency as wanted; uvloop, hiredis; -v, which is log level INFO (two lines a job); results kept an "
    "hour; no bulk call, so a thousand single ones at once; results pushed",
    drain_rate=2_000,
    enqueue_rate=10_000,
    versions_of=("saq", "redis", "hiredis", "uvloop"),
)
