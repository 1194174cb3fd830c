"""One run of the benchmark: measures times subjects times repetitions, in turn.

Owns the order, the scale of a run and what becomes of a failure. The order is round robin: one repetition of a measure
goes through all its subjects before the next begins, and measures that a goal holds against each other take turns, so
that a machine that slows down slows all. What is measured is in measures/, where it runs in processes.py and server.py.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.adapters import Adapter
from benchmarks.environments import Missing
from benchmarks.goals import compared, held_together
from benchmarks.processes import Client, Failed, Worker
from benchmarks.results import Results
from benchmarks.server import Server

__all__ = ["Bench", "Measure", "Scale", "install", "measure_all"]


@dataclass(frozen=True)
class Scale:
    """How much is run.

    Attributes:
        repeat: repetitions of what is measured in jobs per second.
        repeat_latency: repetitions of what is measured in milliseconds.
        repeat_footprint: repetitions of what is measured in megabytes.
        repeat_scaling: repetitions with several worker processes: half a second each, and extremes of four are judged.
        once_else: what no goal looks at is run once, however often the rest is.
        seconds: a drain, or a batch of enqueues, is sized to take about so long.
        most_jobs: and has so many jobs at most.
        paced_seconds: how long jobs come in at 50/s.
        round_trips: jobs whose result is waited for.
        backlog: jobs of the long backlog.
        idle_seconds: how long idle workers are watched.
    """

    repeat: int = 5
    repeat_latency: int = 5
    repeat_footprint: int = 3
    repeat_scaling: int = 5
    once_else: bool = False
    seconds: float = 3.0
    most_jobs: int = 200_000
    paced_seconds: float = 10.0
    round_trips: int = 300
    backlog: int = 1_000_000
    idle_seconds: float = 20.0

    @classmethod
    def short(cls) -> Scale:
        """Return the scale of `make bench`: under ten minutes on two cores."""
        return cls(
            repeat=3,
            once_else=True,
            seconds=1.0,
            paced_seconds=2.5,
            round_trips=100,
            idle_seconds=8.0,
        )

    def jobs(self, rate: float, least: int = 200) -> int:
        """Return how many jobs take about `seconds` at this rate (jobs/s)."""
        return min(self.most_jobs, max(least, round(rate * self.seconds)))


class Measure(Protocol):
    """One thing to measure.

    Attributes:
        name: on the command line and in the results.
        title: in tables.
    """

    name: str
    title: str

    def subjects(self, adapters: Mapping[str, Adapter]) -> Sequence[str]:
        """Return what is measured: names of adapters, or variants of one."""
        ...

    def repetitions(self, scale: Scale) -> int:
        """Return how often it is run."""
        ...

    def run(self, bench: Bench, subject: str) -> dict[str, float]:
        """Measure one subject once; return metric -> value."""
        ...


class Bench:
    """What a measure works with: the server, the peers and a folder for this run."""

    def __init__(self, server: Server, adapters: Mapping[str, Adapter], folder: Path, scale: Scale) -> None:
        self.server = server
        self.adapters = adapters
        self.folder = folder
        self.scale = scale
        self._numbers = itertools.count()

    def worker(self, adapter: Adapter, *, wanted: int, expect: int) -> Worker:
        """Return a worker process of a peer, to be entered.

        Args:
            wanted: jobs at once; the peer is set to the nearest it has.
            expect: jobs after which its marks are written.
        """
        at_once = adapter.at_once(wanted)
        env = self.env() | {"BENCH_CONCURRENCY": str(at_once)}
        name, folder = self.place(f"{adapter.name}-worker")
        return Worker(adapter.worker(at_once), folder, name, env=env, expect=expect)

    @contextlib.contextmanager
    def client(self, adapter: Adapter, *, clear: bool = True) -> Iterator[Client]:
        """Run a peer's enqueuing side, on an empty server unless told otherwise."""
        if clear:
            self.server.clear()
        name, folder = self.place(f"{adapter.name}-client")
        with Client(adapter.client(), folder, name, env=self.env()) as client:
            yield client

    def env(self) -> dict[str, str]:
        """Return where the server is, for every process."""
        return {"BENCH_REDIS_URL": self.server.url, "BARQUE_REDIS_URL": self.server.url}

    def place(self, name: str) -> tuple[str, Path]:
        """Return a name that was not used before, and its folder."""
        folder = self.folder / f"{next(self._numbers):04}-{name}"
        folder.mkdir(parents=True)
        return name, folder


def install(adapters: Mapping[str, Adapter], say: Callable[[str], None]) -> tuple[dict[str, Adapter], dict[str, str]]:
    """Install the peers; return those that are there, and why the others are not, by name."""
    there: dict[str, Adapter] = {}
    missing: dict[str, str] = {}
    for name, adapter in adapters.items():
        try:
            adapter.environment.make()
            adapter.environment.versions(adapter.versions_of)  # what cannot be imported is missing too
        except Missing as error:
            missing[name] = str(error)
            say(f"  {adapter.title}: missing: {error}")
        else:
            there[name] = adapter
    return there, missing


def measure_all(bench: Bench, measures: Sequence[Measure], results: Results, say: Callable[[str], None]) -> None:
    """Run the measures and add what they give to the results.

    A subject that fails is left out of the measure's further repetitions, and what it said is kept.
    """
    looked_at = compared({name: adapter.language for name, adapter in bench.adapters.items() if adapter.in_goals})
    for sitting in _sittings(measures):
        for repetition in range(max(measure.repetitions(bench.scale) for measure in sitting)):
            for measure in sitting:
                if repetition >= measure.repetitions(bench.scale):
                    continue
                if repetition == 0 or len(sitting) > 1:
                    say(measure.title)
                subjects = list(measure.subjects(bench.adapters))
                if repetition and bench.scale.once_else:
                    subjects = [
                        each for each in subjects if each not in bench.adapters or (measure.name, each) in looked_at
                    ]
                _repeat(bench, measure, subjects, repetition, results, say)


def _repeat(
    bench: Bench,
    measure: Measure,
    subjects: Sequence[str],
    repetition: int,
    results: Results,
    say: Callable[[str], None],
) -> None:
    """Run one measure once, for each of these subjects that has not failed in it."""
    for subject in subjects:
        if subject in results.failures.get(measure.name, {}):
            continue
        began = time.monotonic()
        try:
            values = measure.run(bench, subject)
        except Failed as error:
            results.failures.setdefault(measure.name, {})[subject] = str(error)
            say(f"  {subject}: FAILED: {_first_line(error)}")
            continue
        results.add(measure.name, subject, values)
        say(f"  {repetition + 1}. {subject:<12} {_brief(values)}  ({time.monotonic() - began:.1f} s)")


def _sittings(measures: Sequence[Measure]) -> list[list[Measure]]:
    """Return the measures in their order, those that a goal holds against each other as one."""
    sittings: list[list[Measure]] = []
    for measure in measures:
        together = [names for names in held_together() if measure.name in names]
        for sitting in sittings:
            if any(other.name in names for other in sitting for names in together):
                sitting.append(measure)
                break
        else:
            sittings.append([measure])
    return sittings


def _brief(values: Mapping[str, float]) -> str:
    forms = {metric: "{:,.4g}" if value < 1000 else "{:,.0f}" for metric, value in values.items()}
    return "  ".join(f"{metric} {forms[metric].format(value)}" for metric, value in values.items())


def _first_line(error: Failed) -> str:
    return str(error).partition("\n")[0]
