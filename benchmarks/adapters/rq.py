"""RQ."""

from benchmarks.adapters.base import Program, PythonPeer


class Rq(PythonPeer):
    def at_once(self, wanted: int) -> int:  # noqa: ARG002 - a worker of RQ runs one job at a time
        return 1

    def worker(self, at_once: int) -> Program:  # noqa: ARG002
        return self.program("rq", "worker", "--worker-class", "rq.worker.SimpleWorker", "--url", "{redis_url}")


ADAPTER = Rq(
    name="rq",
    title="RQ",
    settings="SimpleWorker, which does not fork for each job; one job at a time, which is all one worker of RQ does; "
    "hiredis; its own log (INFO); results kept an hour; `enqueue_many`, ten thousand a call; 32 threads enqueue the "
    "single ones; results by a blocking read",
    drain_rate=400,
    enqueue_rate=5_000,
    in_goals=False,
    versions_of=("rq", "redis", "hiredis"),
)
