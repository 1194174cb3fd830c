"""A worker's metrics in Prometheus' format, and whether it is well, over HTTP: /metrics, /livez, /readyz.

Owns the names of the series and what the probes say; page_server.py serves them, from a thread, though the event loop
stand still: that is when somebody asks. What is counted is metrics.py's, what "well" means wellbeing.py's. Needs the
`metrics` extra, and is imported where a port is set.

    /metrics   what this process counted, and its memory, CPU time and open files
    /livez     200, or 503 where a restart would help: for a liveness probe. /healthz is the same
    /readyz    200 while jobs are claimed, else 503 with the reason: for a readiness probe
"""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from common.errors import ConfigurationError
from workers.metrics import Histogram, Metrics
from workers.page_server import METRICS, Answer, PageServer
from workers.wellbeing import REASONS, Wellbeing

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry

__all__ = ["MetricsPage"]

_PROBES = {"/livez", "/healthz", "/readyz"}

_SECOND_LOOK = 0.2
"""Seconds after which a worker is looked at again before it is called dead: where the whole process had stood still
(suspended, a host that was frozen), its event loop turns as soon as this thread does."""


class MetricsPage:
    """The web page of one worker process.

    Args:
        figures: what it counts.
        gauges: called for each answer: what the worker has at this moment, by name without the prefix `barque_`.
        wellbeing: called for each probe. Both are called from a thread that is not the event loop's.
        labels: what tells this worker from others, on `barque_worker_info`.
    """

    def __init__(
        self,
        figures: Metrics,
        *,
        gauges: Callable[[], dict[str, tuple[float, str]]],
        wellbeing: Callable[[], Wellbeing],
        labels: dict[str, str],
    ) -> None:
        self._figures = figures
        self._gauges = gauges
        self._wellbeing = wellbeing
        self._labels = labels
        self._registry = self._make_registry()
        self._server: PageServer | None = None

    def start(self, host: str, ports: range) -> int:
        """Serve it from a thread, at the first of these ports that is free; return which, or what 0 came to be.

        Raises:
            ConfigurationError: none is free, or the address cannot be listened on.
        """
        for port in ports:
            try:
                self._server = PageServer(self._answer, host, port)
            except OSError as error:
                if error.errno == errno.EADDRINUSE and port != ports[-1]:
                    continue
                raise ConfigurationError(_not_listening(host, port, ports, error)) from None
            break
        assert self._server is not None
        return self._server.port

    def stop(self) -> None:
        """Close the port."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def text(self) -> bytes:
        """Return what /metrics says."""
        from prometheus_client import generate_latest  # noqa: PLC0415 - an extra

        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every series; the registry calls this."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily  # noqa: PLC0415

        figures = self._figures
        yield InfoMetricFamily("barque_worker", "This worker", value=self._labels)
        attempts = CounterMetricFamily("barque_attempts", "Attempts that ended", labels=["task", "outcome"])
        busy = CounterMetricFamily("barque_busy_seconds", "Seconds attempts held the event loop", labels=["task"])
        for task, of_task in list(figures.tasks.items()):
            for outcome, count in list(of_task.outcomes.items()):
                attempts.add_metric([task, outcome.value], count)
            busy.add_metric([task], of_task.busy)
        yield attempts
        yield busy
        waits = {task: of_task.queue_wait for task, of_task in list(figures.tasks.items())}
        yield _histograms("barque_queue_wait_seconds", "Seconds from due to start", "task", waits)
        runs = {task: of_task.run for task, of_task in list(figures.tasks.items())}
        yield _histograms("barque_run_seconds", "Seconds from start to end", "task", runs)
        trips = figures.round_trips
        yield _histograms("barque_round_trip_seconds", "Seconds until the server had answered", "script", trips)
        yield _histogram("barque_claim_jobs", "Jobs a claim brought", figures.claims)
        yield _histogram("barque_complete_outcomes", "Outcomes recorded together", figures.records)
        yield _histogram("barque_event_loop_lag_seconds", "Seconds the event loop was late", figures.loop_lag)
        yield CounterMetricFamily("barque_leases_lost", "Attempts that lost their lease", value=figures.leases_lost)
        for name, (value, told) in self._gauges().items():
            yield GaugeMetricFamily(f"barque_{name}", told, value=value)
        wellbeing = self._wellbeing()
        yield GaugeMetricFamily("barque_ready", "Whether /readyz says so", value=float(wellbeing.ready))
        reasons = GaugeMetricFamily("barque_not_ready", "What keeps it from being ready", labels=["reason"])
        for reason in REASONS:
            reasons.add_metric([reason], float(reason in wellbeing.reasons))
        yield reasons

    def _make_registry(self) -> CollectorRegistry:
        try:
            from prometheus_client import GCCollector, ProcessCollector  # noqa: PLC0415 - an extra
            from prometheus_client.registry import CollectorRegistry  # noqa: PLC0415 - likewise
        except ModuleNotFoundError:
            raise ConfigurationError(
                'BARQUE_METRICS_PORT is set, and prometheus-client is not installed: pip install "barque[metrics]"'
            ) from None
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(self)  # it asks for collect() alone
        return registry

    def _answer(self, path: str) -> Answer | None:
        if path == "/metrics":
            return Answer(200, METRICS, self.text())
        if path not in _PROBES:
            return None
        wellbeing = self._wellbeing()
        if not wellbeing.alive:
            time.sleep(_SECOND_LOOK)
            wellbeing = self._wellbeing()
        well = wellbeing.ready if path == "/readyz" else wellbeing.alive
        said = {"alive": wellbeing.alive, "ready": wellbeing.ready, "reasons": wellbeing.reasons, **wellbeing.about}
        return Answer(200 if well else 503, "application/json", json.dumps(said).encode() + b"\n")


def _not_listening(host: str, port: int, ports: range, error: OSError) -> str:
    if len(ports) > 1 and error.errno == errno.EADDRINUSE:
        return (
            f"BARQUE_METRICS_PORT: none of the ports {ports[0]}-{ports[-1]} of {host} is free: there are more workers "
            "on this host than ports, or other programs have them. Give a longer range"
        )
    return (
        f"BARQUE_METRICS_PORT: cannot listen on {host}:{port}: {error.strerror or error}. Several workers on one "
        "host need a port each: give a range, such as 9464-9467, of which each takes the first that is free; or 0, "
        "and the line worker_metrics names what it took"
    )


def _histogram(name: str, told: str, values: Histogram) -> Metric:
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415 - an extra

    return HistogramMetricFamily(name, told, buckets=values.cumulative(), sum_value=values.total)


def _histograms(name: str, told: str, label: str, values: dict[str, Histogram]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415 - an extra

    family = HistogramMetricFamily(name, told, labels=[label])
    for key, histogram in values.items():
        family.add_metric([key], buckets=histogram.cumulative(), sum_value=histogram.total)
    return family
