"""Celery."""

from benchmarks.adapters.base import Program, PythonPeer


class Celery(PythonPeer):
    def worker(self, at_once: int) -> Program:
        return self.program(
            *("celery", "-A", "app", "worker", "--pool", "gevent", "--concurrency", str(at_once)),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        )


ADAPTER = Celery(
    name="celery",
    title="Celery",
    settings="one process with the gevent pool, concurrency as wanted, no gossip, mingle, heartbeat or events; one "
    "result backend for all greenlets (result_backend_thread_safe); hiredis; its default log level (WARNING: no line "
    "a job); results kept an hour; no bulk call, so one by one over one connection; 32 threads enqueue the single "
    "ones; results pushed",
    drain_rate=800,
    enqueue_rate=2_000,
    in_goals=False,
    versions_of=("celery", "kombu", "gevent", "redis", "hiredis"),
)
