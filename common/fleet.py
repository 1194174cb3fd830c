"""What a fleet does right now: what its workers' reports say together, and what happened between two looks at them.

Owns the merging, and rates. Pure. A report itself is common/worker_reports.py's, reading them common/redis/fleet.py's.

What a worker counted is cumulative: since its start, and by task since somebody began to observe it. Of two snapshots
one makes what happened in between (`activity`), which is right whoever started, stopped or was observed meanwhile.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from common.distribution import Distribution
from common.worker_reports import FAILURES, EndedAttempt, RunningAttempt, TaskFigures, WorkerReport

__all__ = [
    "Activity",
    "Distribution",
    "EndedAttempt",
    "FleetHistory",
    "FleetSnapshot",
    "RunningAttempt",
    "TaskActivity",
    "TaskSummary",
    "WorkerActivity",
    "WorkerReport",
    "activity",
]


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """The attempts of one task, of all workers together.

    Attributes:
        outcomes: how many ended in which way, by the words of common.jobs.OutcomeKind.
        queue_wait: from due to start.
        run: from start to end.
        busy_s: seconds that all of them held an event loop.
    """

    outcomes: Mapping[str, int] = field(default_factory=dict)
    queue_wait: Distribution = Distribution()
    run: Distribution = Distribution()
    busy_s: float = 0.0

    @classmethod
    def read(cls, figures: TaskFigures) -> TaskSummary:
        """Return what one worker counted."""
        return cls(
            figures.outcomes,
            Distribution.read(figures.queue_wait, figures.queue_wait_s),
            Distribution.read(figures.run, figures.run_s),
            figures.busy_s,
        )

    @property
    def ended(self) -> int:
        """How many attempts ended."""
        return sum(self.outcomes.values())

    @property
    def failed(self) -> int:
        """How many of them failed, whether they are retried or not."""
        return sum(count for outcome, count in self.outcomes.items() if outcome in FAILURES)

    def __add__(self, other: TaskSummary) -> TaskSummary:
        """Return both together."""
        outcomes = Counter(self.outcomes)
        outcomes.update(other.outcomes)
        busy = self.busy_s + other.busy_s
        return TaskSummary(dict(outcomes), self.queue_wait + other.queue_wait, self.run + other.run, busy)

    def __sub__(self, earlier: TaskSummary) -> TaskSummary:
        """Return what has come since `earlier`, of the same count."""
        outcomes = {kind: max(0, now - earlier.outcomes.get(kind, 0)) for kind, now in self.outcomes.items()}
        return TaskSummary(
            {kind: count for kind, count in outcomes.items() if count},
            self.queue_wait - earlier.queue_wait,
            self.run - earlier.run,
            max(0.0, self.busy_s - earlier.busy_s),
        )


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """All that the workers that live have last reported.

    Attributes:
        taken_ms: Unix ms by the server's clock.
        workers: sorted by id.
    """

    taken_ms: int
    workers: tuple[WorkerReport, ...] = ()

    @property
    def observed(self) -> bool:
        """Whether some worker counts by task: `tasks` and `slowest` are empty where none does."""
        return any(worker.figures is not None for worker in self.workers)

    @property
    def concurrency(self) -> int:
        """How many attempts may run at once."""
        return sum(worker.concurrency for worker in self.workers)

    def running(self, queue: str | None = None) -> int:
        """Return how many attempts run now, of one queue if one is given."""
        return sum(worker.running if queue is None else worker.runs_in(queue) for worker in self.workers)

    def serving(self, queue: str) -> int:
        """Return how many workers serve a queue."""
        return sum(queue in worker.queues for worker in self.workers)

    def silent_s(self, worker: WorkerReport) -> float:
        """Return for how many seconds a worker has said nothing."""
        return max(0.0, (self.taken_ms - worker.reported_ms) / 1000)

    @property
    def tasks(self) -> dict[str, TaskSummary]:
        """What the workers counted by task, merged, sorted by name; since each began to: see `activity` for rates."""
        found: dict[str, TaskSummary] = {}
        for worker in self.workers:
            for name, figures in (worker.figures.tasks if worker.figures else {}).items():
                found[name] = found.get(name, TaskSummary()) + TaskSummary.read(figures)
        return dict(sorted(found.items()))

    def longest(self, most: int = 20) -> list[RunningAttempt]:
        """Return the attempts that run for longest now, that one first."""
        found = [
            msgspec.structs.replace(one, worker=worker.worker) for worker in self.workers for one in worker.longest
        ]
        return sorted(found, key=lambda attempt: attempt.started_ms)[:most]

    def failures(self, most: int = 20) -> list[EndedAttempt]:
        """Return the last attempts that failed, the newest first."""
        found = [
            msgspec.structs.replace(one, worker=worker.worker) for worker in self.workers for one in worker.failures
        ]
        return sorted(found, key=lambda attempt: attempt.ended_ms, reverse=True)[:most]

    def slowest(self, most: int = 20) -> list[EndedAttempt]:
        """Return the attempts of the last minute that took longest, that one first."""
        found = [
            msgspec.structs.replace(one, worker=worker.worker)
            for worker in self.workers
            for one in (worker.figures.slowest if worker.figures else ())
        ]
        return sorted(found, key=lambda attempt: attempt.run_ms, reverse=True)[:most]


@dataclass(frozen=True, slots=True)
class WorkerActivity:
    """What one worker did in an interval, per second.

    Attributes:
        cpu: seconds of processor time a second: 1.0 is one core.
    """

    succeeded: float = 0.0
    retried: float = 0.0
    failed: float = 0.0
    cpu: float = 0.0

    @property
    def ended(self) -> float:
        """Attempts that ended, a second."""
        return self.succeeded + self.retried + self.failed


@dataclass(frozen=True, slots=True)
class TaskActivity:
    """What the attempts of one task did in an interval, of all workers together.

    Attributes:
        ended, failed: attempts a second.
        summary: those of the interval, counted.
    """

    ended: float
    failed: float
    summary: TaskSummary


@dataclass(frozen=True, slots=True)
class Activity:
    """What a fleet did in an interval.

    Attributes:
        workers: by id; one that was there before and had not reported is left out.
        tasks: by name; empty while nobody observes the fleet. Those of which nothing ended are left out.
    """

    workers: Mapping[str, WorkerActivity] = field(default_factory=dict)
    tasks: Mapping[str, TaskActivity] = field(default_factory=dict)

    @property
    def ended(self) -> float:
        """Attempts that ended, a second."""
        return sum(worker.ended for worker in self.workers.values())

    @property
    def succeeded(self) -> float:
        """Attempts that succeeded, a second."""
        return sum(worker.succeeded for worker in self.workers.values())

    @property
    def failed(self) -> float:
        """Attempts that failed for good, a second."""
        return sum(worker.failed for worker in self.workers.values())

    @property
    def retried(self) -> float:
        """Attempts after which their jobs are tried again, a second."""
        return sum(worker.retried for worker in self.workers.values())

    @property
    def cpu(self) -> float:
        """Seconds of processor time a second: 1.0 is one core."""
        return sum(worker.cpu for worker in self.workers.values())


def activity(earlier: FleetSnapshot, later: FleetSnapshot) -> Activity:
    """Return what happened between two snapshots.

    Each worker's rates are over the time between its own two reports, whenever the snapshots were taken.
    """
    before = {worker.worker: worker for worker in earlier.workers}
    workers: dict[str, WorkerActivity] = {}
    tasks: dict[str, TaskActivity] = {}
    for now in later.workers:
        then = before.get(now.worker)
        if then is not None or now.started_ms >= earlier.taken_ms:
            workers[now.worker] = _did(then, now)
        for name, (summary, seconds) in _counted(then, now).items():
            did = tasks.get(name, TaskActivity(0.0, 0.0, TaskSummary()))
            tasks[name] = TaskActivity(
                did.ended + summary.ended / seconds, did.failed + summary.failed / seconds, did.summary + summary
            )
    return Activity(workers, dict(sorted(tasks.items())))


def _did(then: WorkerReport | None, now: WorkerReport) -> WorkerActivity:
    """Return what one worker did since its earlier report, or since its start."""
    then = then or msgspec.structs.replace(
        now, reported_ms=now.started_ms, succeeded=0, retried=0, failed=0, cpu_s=now.cpu_s
    )
    seconds = (now.reported_ms - then.reported_ms) / 1000
    if seconds <= 0:
        return WorkerActivity()
    return WorkerActivity(
        max(0, now.succeeded - then.succeeded) / seconds,
        max(0, now.retried - then.retried) / seconds,
        max(0, now.failed - then.failed) / seconds,
        max(0.0, now.cpu_s - then.cpu_s) / seconds,
    )


def _counted(then: WorkerReport | None, now: WorkerReport) -> dict[str, tuple[TaskSummary, float]]:
    """Return what one worker counted by task since its earlier report, or since it began to, and in what seconds."""
    if now.figures is None:
        return {}
    since, counted = now.figures.since_ms, {name: TaskSummary.read(one) for name, one in now.figures.tasks.items()}
    if then is not None and then.figures is not None and then.figures.since_ms == since:
        since = then.reported_ms
        earlier = {name: TaskSummary.read(one) for name, one in then.figures.tasks.items()}
        counted = {name: one - earlier.get(name, TaskSummary()) for name, one in counted.items()}
    seconds = max(1, now.reported_ms - since) / 1000
    return {name: (one, seconds) for name, one in counted.items() if one.ended}


class FleetHistory:
    """The snapshots of the last seconds, for rates that do not jump: reports come about once a second.

    Args:
        seconds: over how long rates are taken.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self._span_ms = round(seconds * 1000)
        self._kept: deque[FleetSnapshot] = deque()

    def add(self, snapshot: FleetSnapshot) -> Activity:
        """Take a snapshot; return what has happened since one that is about so many seconds older."""
        while len(self._kept) > 1 and self._kept[1].taken_ms <= snapshot.taken_ms - self._span_ms:
            self._kept.popleft()
        found = activity(self._kept[0], snapshot) if self._kept else Activity()
        self._kept.append(snapshot)
        return found
