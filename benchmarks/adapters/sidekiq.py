"""Sidekiq."""

from benchmarks.adapters.base import Program, RubyPeer

_DEFAULT_THREADS, _MOST_THREADS = 10, 50


class Sidekiq(RubyPeer):
    def at_once(self, wanted: int) -> int:
        # More threads than the default make a job that does nothing slower; its documentation names 50 as the most.
        return _MOST_THREADS if wanted > 100 else _DEFAULT_THREADS

    def worker(self, at_once: int) -> Program:
        return Program(["sidekiq", "-r", str(self.folder / "worker.rb"), "-c", str(at_once)])


ADAPTER = Sidekiq(
    name="sidekiq",
    title="Sidekiq",
    settings="10 threads (its default) for what does nothing and 50 (the most its documentation advises) for what "
    "waits; the hiredis driver where it is installed; its own log (INFO: two lines a job); `push_bulk`, a thousand a "
    "call, as advised; 32 threads enqueue the single ones; it keeps no results",
    drain_rate=6_000,
    enqueue_rate=130_000,
    keeps_results=False,
    versions_of=("sidekiq", "redis"),
)
