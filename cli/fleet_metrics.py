"""The names of the fleet's series, and the fleet as Prometheus' text. What is in them was read by metrics.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import ConfigurationError

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from common.redis.inspect import QueueReport, WorkerReport

__all__ = ["Fleet", "as_text"]


@dataclass(frozen=True, eq=False)  # a registry keeps it in a dict
class Fleet:
    """What Redis knows at one moment."""

    queues: Sequence[QueueReport]
    workers: Sequence[WorkerReport]
    dead_letters: int

    def collect(self) -> Iterator[Metric]:
        """Yield every series; the registry calls this."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - an extra

        jobs = GaugeMetricFamily(
            "barque_queue_jobs",
            "Jobs of a queue: queued are due and wait; later are due later, or run",
            labels=["queue", "state"],
        )
        oldest = GaugeMetricFamily(
            "barque_queue_oldest_due_seconds", "For how long the first due job has waited", labels=["queue"]
        )
        for report in self.queues:
            queue = report.queue.encode(errors="backslashreplace").decode()
            jobs.add_metric([queue, "queued"], report.queued)
            jobs.add_metric([queue, "later"], report.scheduled)
            oldest.add_metric([queue], report.oldest_due_seconds or 0.0)
        yield jobs
        yield oldest
        yield GaugeMetricFamily("barque_workers", "Workers that live", value=len(self.workers))
        yield GaugeMetricFamily(
            "barque_fleet_jobs_in_flight",
            "Attempts that run, as workers last said",
            value=sum(w.running for w in self.workers),
        )
        yield GaugeMetricFamily(
            "barque_fleet_concurrency", "Attempts that may run at once", value=sum(w.concurrency for w in self.workers)
        )
        yield GaugeMetricFamily("barque_dead_letters", "Jobs kept that failed for good", value=self.dead_letters)


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
