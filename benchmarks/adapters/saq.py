"""SAQ."""

from benchmarks.adapters.base import Program, PythonPeer


class Saq(PythonPeer):
    def worker(self, at_once: int) -> Program:  # noqa: ARG002 - app.py reads BENCH_CONCURRENCY
        return self.program("saq", "app.settings")


ADAPTER = Saq(
    name="saq",
    title="SAQ",
    settings="concurrency as wanted; uvloop, hiredis; its default log level (WARNING: no line a job); results kept an "
    "hour; no bulk call, so a thousand single ones at once; results polled each ms (`apply`), its default is 500",
    drain_rate=2_000,
    enqueue_rate=10_000,
    versions_of=("saq", "redis", "hiredis", "uvloop"),
)
