"""taskiq with taskiq-redis."""

from benchmarks.adapters.base import Program, PythonPeer


class Taskiq(PythonPeer):
    def worker(self, at_once: int) -> Program:
        return self.program("taskiq", "worker", "app:broker", "--workers", "1", "--max-async-tasks", str(at_once))


ADAPTER = Taskiq(
    name="taskiq",
    title="taskiq-redis",
    settings="RedisStreamBroker (the one that acknowledges) and RedisAsyncResultBackend, results kept an hour; "
    "--workers 1, --max-async-tasks as wanted; uvloop, hiredis, orjson; its own log (INFO: a line a job);"
    " no bulk call, so a thousand single ones at once; results polled each ms, its default is 200",
    drain_rate=2_000,
    enqueue_rate=5_000,
    versions_of=("taskiq", "taskiq-redis", "redis", "hiredis", "uvloop"),
)
