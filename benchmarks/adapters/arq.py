"""arq."""

from benchmarks.adapters.base import Program, PythonPeer


class Arq(PythonPeer):
    def worker(self, at_once: int) -> Program:  # noqa: ARG002 - app.py reads BENCH_CONCURRENCY
        return self.program("arq", "app.WorkerSettings")


ADAPTER = Arq(
    name="arq",
    title="arq",
    settings="max_jobs as wanted; uvloop, hiredis; its own log (two INFO lines a job); results kept an hour; no bulk "
    "call, so a thousand single ones at once; results polled each ms, its default is 500",
    drain_rate=1_000,
    enqueue_rate=5_000,
    versions_of=("arq", "redis", "hiredis", "uvloop"),
)
