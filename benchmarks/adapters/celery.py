"""Celery."""

from benchmarks.adapters.base import Program, PythonPeer


class Celery(PythonPeer):
    def worker(self, at_once: int) -> Program:
        return self.program(
            *("celery", "-A", "app", "worker", "--pool", "gevent", "--concurrency", str(at_once)),
            *("--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"),
        )


ADAPTER = Celery(
    name="celery",
    title="Celery",
    settings="one process with the gevent pool, concurrency as wanted, no gossip, mingle, heartbeat or events; "
    "hiredis; --loglevel INFO (two lines a job); results kept an hour; no bulk call, so one by one over one "
    "connection; 32 threads enqueue the single ones; results pushed",
    drain_rate=800,
    enqueue_rate=2_000,
    versions_of=("celery", "kombu", "gevent", "redis", "hiredis"),
)
