"""What is measured, one module a subject matter; each line of the issue's table is one measure.

A measure says nothing of goals; those are in goals.py.
"""

from benchmarks.harness import Measure
from benchmarks.measures.backlog import ClaimWithBacklog
from benchmarks.measures.drain import Drain
from benchmarks.measures.enqueue import BulkEnqueue, SingleEnqueue
from benchmarks.measures.floor import Floor
from benchmarks.measures.footprint import IdleMemory, IdleServer, InFlight
from benchmarks.measures.latency import Pickup, RoundTrip
from benchmarks.measures.scaling import Scaling

__all__ = ["MEASURES"]

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Floor(),
        Drain("drain_noop", "Drain: jobs that do nothing, 100 at once", task="noop", wanted=100, task_seconds=0.0),
        Drain("drain_nap", "Drain: jobs that wait 10 ms, 1,000 at once", task="nap", wanted=1000, task_seconds=0.010),
        BulkEnqueue(),
        SingleEnqueue(),
        Pickup(),
        RoundTrip(),
        InFlight(),
        IdleMemory(),
        IdleServer(),
        ClaimWithBacklog(),
        Scaling(),
    )
}
