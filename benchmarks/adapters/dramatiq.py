"""Dramatiq."""

from benchmarks.adapters.base import Program, PythonPeer


class Dramatiq(PythonPeer):
    def worker(self, at_once: int) -> Program:
        return self.program("dramatiq-gevent", "app", "--processes", "1", "--threads", str(at_once))


ADAPTER = Dramatiq(
    name="dramatiq",
    title="Dramatiq",
    settings="dramatiq-gevent with one process and as many greenlets as wanted; a pool of 100 connections on which "
    "greenlets wait their turn; hiredis; its own log (INFO: no line a job); results kept an hour; no bulk call; 32 "
    "threads enqueue the single ones; results by a blocking pop",
    drain_rate=1_000,
    enqueue_rate=4_000,
    versions_of=("dramatiq", "gevent", "redis", "hiredis"),
)
