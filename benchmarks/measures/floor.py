"""The limits that nothing built on asyncio and on these scripts can pass, to hold Barque's figures against.

Bare asyncio runs the same coroutines with no queue at all; a minimal client runs the scripts with no Python work
but hiredis's (peers/barque/floor.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from benchmarks.adapters import OURS, Adapter
from benchmarks.adapters.barque import Barque
from benchmarks.harness import Bench, Scale
from benchmarks.processes import answer_of

__all__ = ["Floor"]


class Floor:
    """Bare asyncio, and the scripts alone."""

    name = "floor"
    title = "The floor: bare asyncio, and the scripts alone"

    def repetitions(self, scale: Scale) -> int:
        """Return how often it is run."""
        return scale.repeat

    def subjects(self, adapters: Mapping[str, Adapter]) -> Sequence[str]:
        """Return what is run bare."""
        return ["asyncio_noop", "asyncio_nap", "scripts"] if OURS in adapters else []

    def run(self, bench: Bench, subject: str) -> dict[str, float]:
        """Run one of them in a process of its own."""
        adapter = cast("Barque", bench.adapters[OURS])
        bench.server.clear()
        jobs = bench.scale.jobs(adapter.drain_rate, least=1000)
        _, folder = bench.place(f"floor-{subject}")
        return answer_of(adapter.script("floor", subject, str(jobs)), folder, bench.env())
