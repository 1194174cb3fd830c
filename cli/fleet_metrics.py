"""The names of the fleet's series, and the fleet as Prometheus' text. What is in them was read by fleet_reading.py."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import ConfigurationError
from common.redis.schedules import Overdue
from common.worker_reports import LONGEST_NAME, bounded

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from common.redis.control import Stored
    from common.redis.inspect import QueueReport, WorkerReport
    from common.redis.limits import LimitInfo

__all__ = ["MOST_NAMES", "OTHERS", "Fleet", "as_text"]

MOST_NAMES = 200
"""Queues, limits and paused tasks that have series of their own: whoever writes to Redis may make up names."""

OTHERS = "(others)"

_STATES = ("closed", "half_open", "open")

Values = Mapping[tuple[str, ...], float]
Summed = defaultdict[tuple[str, ...], float]

_HELP = {
    "barque_queue_jobs": "Jobs of a queue: queued are due and wait; later are due later, or run",
    "barque_queue_oldest_due_seconds": "For how long the first due job has waited: scale on this one",
    "barque_queue_paused": "Whether a queue is paused; `barque resume --queue NAME` lets it go on",
    "barque_task_paused": "Tasks that are paused; `barque resume --task NAME` lets one go on",
    "barque_limit_in_use": "Places of a limit that are taken, over all of its keys; a breaker's are trials under way",
    "barque_limit_places": "Places of a concurrency limit, over all of its keys that are in use",
    "barque_limit_waiting_jobs": "Jobs in line at a limit; of kind door: of a paused task. See `barque limits list`",
    "barque_limit_keys": "Keys for which a limit is in use; one without a key has one",
    "barque_circuits": "Circuit breakers by state, one for each key; an open one's jobs wait: see what they call",
    "barque_gates": "Limits in use, each key by itself; of more than 1000 the other limit series tell of 1000 alone",
    "barque_schedules": "Schedules by whether they are paused",
    "barque_schedules_overdue": "Schedules whose tick has been due for 30 s: is a worker there that runs schedules?",
    "barque_schedule_overdue_seconds": "For how long the first of these ticks has been due",
    "barque_dead_letters": "Jobs kept that failed for good; look at them with `barque dead list`",
    "barque_workers": "Workers that live; 0 is nobody to run jobs",
    "barque_workers_not_ready": "Workers that take no jobs, by why; `barque health --ready` on their host says more",
    "barque_fleet_jobs_in_flight": "Attempts that run, as workers last said",
    "barque_fleet_concurrency": "Attempts that may run at once, on all workers together",
}


@dataclass(frozen=True, eq=False)  # a registry keeps it in a dict
class Fleet:
    """What Redis knows at one moment.

    Attributes:
        limits: those that were looked at, of `gates` that there are.
    """

    queues: Sequence[QueueReport]
    workers: Sequence[WorkerReport]
    dead_letters: int
    pauses: Sequence[Stored] = ()
    limits: Sequence[LimitInfo] = ()
    gates: int = 0
    schedules: Overdue = Overdue(0, 0, 0, 0.0)

    def collect(self) -> Iterator[Metric]:
        """Yield every series; the registry calls this."""
        yield from self._of_queues()
        yield from self._of_limits()
        yield from self._of_schedules()
        yield from self._of_workers()
        yield _gauges("barque_dead_letters", [], {(): self.dead_letters})

    def _of_queues(self) -> Iterator[Metric]:
        paused = {(one.kind, one.name) for one in self.pauses}
        shown = _shown(report.queue for report in self.queues)
        jobs: Summed = defaultdict(float)
        oldest: Summed = defaultdict(float)
        is_paused: Summed = defaultdict(float)
        for report in self.queues:
            queue = shown[report.queue]
            jobs[queue, "queued"] += report.queued
            jobs[queue, "later"] += report.scheduled
            oldest[queue,] = max(oldest[queue,], report.oldest_due_seconds or 0.0)
            is_paused[queue,] = max(is_paused[queue,], float(("queue", report.queue) in paused))
        yield _gauges("barque_queue_jobs", ["queue", "state"], jobs)
        yield _gauges("barque_queue_oldest_due_seconds", ["queue"], oldest)
        yield _gauges("barque_queue_paused", ["queue"], is_paused)
        tasks = Counter(_shown_of("task", self.pauses))
        yield _gauges("barque_task_paused", ["task"], {(task,): count for task, count in tasks.items()})

    def _of_limits(self) -> Iterator[Metric]:
        shown = _shown(info.name for info in self.limits)
        in_use: Summed = defaultdict(float)
        places: Summed = defaultdict(float)
        waiting: Summed = defaultdict(float)
        keys: Summed = defaultdict(float)
        circuits: Summed = defaultdict(float)
        for info in self.limits:
            place = (shown[info.name], info.kind)
            keys[place] += 1
            if info.in_use is not None and info.kind != "door":
                in_use[place] += info.in_use
            if info.waiting is not None:
                waiting[place] += info.waiting
            if info.kind == "concurrency":
                places[place] += info.limit or 0.0
            if info.kind == "breaker":
                for state in _STATES:
                    circuits[place[0], state] += info.state == state
        labels = ["limit", "kind"]
        yield _gauges("barque_limit_in_use", labels, in_use)
        yield _gauges("barque_limit_places", labels, places)
        yield _gauges("barque_limit_waiting_jobs", labels, waiting)
        yield _gauges("barque_limit_keys", labels, keys)
        yield _gauges("barque_circuits", ["limit", "state"], circuits)
        yield _gauges("barque_gates", [], {(): self.gates})

    def _of_schedules(self) -> Iterator[Metric]:
        known = self.schedules
        yield _gauges("barque_schedules", ["state"], {("active",): known.active, ("paused",): known.paused})
        yield _gauges("barque_schedules_overdue", [], {(): known.overdue})
        yield _gauges("barque_schedule_overdue_seconds", [], {(): known.longest_s})

    def _of_workers(self) -> Iterator[Metric]:
        yield _gauges("barque_workers", [], {(): len(self.workers)})
        reasons = [reason for worker in self.workers for reason in worker.reasons]
        shown = _shown(reasons)
        not_ready = Counter(shown[reason] for reason in reasons)
        yield _gauges("barque_workers_not_ready", ["reason"], {(reason,): count for reason, count in not_ready.items()})
        running = sum(worker.running for worker in self.workers)
        yield _gauges("barque_fleet_jobs_in_flight", [], {(): running})
        slots = sum(worker.concurrency for worker in self.workers)
        yield _gauges("barque_fleet_concurrency", [], {(): slots})


def as_text(fleet: Fleet) -> bytes:
    """Return the fleet in Prometheus' text format.

    Raises:
        ConfigurationError: the `metrics` extra is not installed.
    """
    try:
        from prometheus_client import generate_latest  # noqa: PLC0415 - an extra
        from prometheus_client.registry import CollectorRegistry  # noqa: PLC0415 - likewise
    except ModuleNotFoundError:
        raise ConfigurationError('prometheus-client is not installed: pip install "barque[metrics]"') from None
    registry = CollectorRegistry()
    registry.register(fleet)
    return generate_latest(registry)


def _gauges(name: str, labels: list[str], values: Values) -> Metric:
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - an extra

    family = GaugeMetricFamily(name, _HELP[name], labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family


def _shown(names: Iterable[str]) -> dict[str, str]:
    """Return what stands for each name on a label: bounded text; one for all that come after the first 200."""
    found: dict[str, str] = {}
    for name in names:
        if name not in found:
            found[name] = bounded(name, LONGEST_NAME) if len(found) < MOST_NAMES else OTHERS
    return found


def _shown_of(kind: str, pauses: Sequence[Stored]) -> list[str]:
    return list(_shown(one.name for one in pauses if one.kind == kind).values())
