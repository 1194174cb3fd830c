"""A worker's metrics in Prometheus' format, and whether it is well, over HTTP: /metrics, /livez, /readyz.

Owns which series there are and what the probes say; page_server.py serves them, from a thread, though the event loop
stand still: that is when somebody asks. What is counted is metrics.py's, what a series tells metrics_help.py's, what
"well" means wellbeing.py's. Needs the `metrics` extra, and is imported where a port is set.

    /metrics   what this process counted, and its memory, CPU time and open files
    /livez     200, or 503 where a restart would help: for a liveness probe. /healthz is the same
    /readyz    200 while jobs are claimed, else 503 with the reason: for a readiness probe
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from common.errors import ConfigurationError
from workers.metrics import Histogram, Metrics, shown_name
from workers.metrics_help import HELP
from workers.page_server import METRICS, Answer, PageServer, serve_at_first_free
from workers.supervisor.messages import Family
from workers.wellbeing import REASONS, Wellbeing

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry

__all__ = ["MetricsPage", "Now"]

Values = dict[tuple[str, ...], float]
"""What a series has, by the values of its labels."""

_PROBES = {"/livez", "/healthz", "/readyz"}

_SECOND_LOOK = 0.2
"""Seconds after which a worker is looked at again before it is called dead: where the whole process had stood still
(suspended, a host that was frozen), its event loop turns as soon as this thread does."""


@dataclass(frozen=True, slots=True)
class Now:
    """What a worker has at this moment, and what its parts count by themselves, each by the name of its series."""

    gauges: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)


class MetricsPage:
    """The web page of one worker process.

    Args:
        figures: what it counts.
        now: called for each answer: what the worker has at this moment.
        wellbeing: called for each probe. Both are called from a thread that is not the event loop's.
        labels: what tells this worker from others, on `barque_worker_info`.
        build: of which versions it is, on `barque_build_info`.
    """

    def __init__(
        self,
        figures: Metrics,
        *,
        now: Callable[[], Now],
        wellbeing: Callable[[], Wellbeing],
        labels: dict[str, str],
        build: dict[str, str],
    ) -> None:
        self._figures = figures
        self._now = now
        self._wellbeing = wellbeing
        self._labels = {name: shown_name(value) for name, value in labels.items()}
        self._build = build
        self._registry = self._make_registry()
        self._server: PageServer | None = None

    def start(self, host: str, ports: range) -> int:
        """Serve it from a thread, at the first of these ports that is free; return which, or what 0 came to be.

        Raises:
            ConfigurationError: none is free, or the address cannot be listened on.
        """
        self._server = serve_at_first_free(self._answer, host, ports)
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

    def families(self) -> list[Family]:
        """Return the same, as it is told a supervisor that adds up what its processes say."""
        return [
            Family(one.name, one.type, one.documentation, [(s.name, s.labels, s.value) for s in one.samples])
            for one in self._registry.collect()
        ]

    def collect(self) -> Iterator[Metric]:
        """Yield every series; the registry calls this."""
        yield from self._who()
        yield from self._of_tasks()
        yield from self._of_limits()
        figures = self._figures
        yield _histograms("barque_round_trip_seconds", "script", figures.round_trips)
        yield _histogram("barque_claim_jobs", figures.claims)
        yield _histogram("barque_complete_outcomes", figures.records)
        yield _histogram("barque_event_loop_lag_seconds", figures.loop_lag)
        yield _counter("barque_leases_lost", figures.leases_lost)
        yield _counters("barque_schedule_ticks", ["result"], {(word,): count for word, count in figures.ticks.items()})
        now = self._now()
        for name, number in now.counters.items():
            yield _counter(name, number)
        for name, number in now.gauges.items():
            yield _gauge(name, number)
        yield from self._wellness()

    def _who(self) -> Iterator[Metric]:
        from prometheus_client.core import InfoMetricFamily  # noqa: PLC0415 - an extra

        yield InfoMetricFamily("barque_worker", HELP["barque_worker"], value=self._labels)
        yield InfoMetricFamily("barque_build", HELP["barque_build"], value=self._build)

    def _of_tasks(self) -> Iterator[Metric]:
        tasks = list(self._figures.tasks.items())
        outcomes: Values = {}
        retries: Values = {}
        dead: Values = {}
        busy: Values = {}
        awaited: Values = {}
        steps: Values = {}
        for task, one in tasks:
            outcomes.update(((task, kind.value), count) for kind, count in list(one.outcomes.items()))
            dead[task, "failed"] = 0  # Prometheus sees no rise from nothing to something
            dead.update(((task, reason), count) for reason, count in list(one.dead.items()))
            retries[task,] = one.retries
            busy[task,], awaited[task,], steps[task,] = one.busy, one.awaited, one.steps
        yield _counters("barque_attempts", ["task", "outcome"], outcomes)
        yield _counters("barque_retries", ["task"], retries)
        yield _counters("barque_dead_letters_left", ["task", "reason"], dead)
        yield _counters("barque_busy_seconds", ["task"], busy)
        yield _counters("barque_awaited_seconds", ["task"], awaited)
        yield _counters("barque_steps", ["task"], steps)
        yield _histograms("barque_queue_wait_seconds", "task", {task: one.queue_wait for task, one in tasks})
        yield _histograms("barque_run_seconds", "task", {task: one.run for task, one in tasks})
        yield _histograms("barque_longest_step_seconds", "task", {task: one.longest_step for task, one in tasks})

    def _of_limits(self) -> Iterator[Metric]:
        from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415 - an extra

        limits = list(self._figures.limits.items())
        held: Values = {(name, kind): one.held_back for (kind, name), one in limits}
        yield _counters("barque_limit_held_back", ["limit", "kind"], held)
        name = "barque_limit_wait_seconds"
        waits = HistogramMetricFamily(name, HELP[name], labels=["limit", "kind"])
        for (kind, limit), one in limits:
            waits.add_metric([limit, kind], buckets=one.wait.cumulative(), sum_value=one.wait.total)
        yield waits
        changes: Values = {(name, word): count for (name, word), count in list(self._figures.circuits.items())}
        yield _counters("barque_circuit_changes", ["limit", "state"], changes)

    def _wellness(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - an extra

        wellbeing = self._wellbeing()
        yield _gauge("barque_ready", float(wellbeing.ready))
        reasons = GaugeMetricFamily("barque_not_ready", HELP["barque_not_ready"], labels=["reason"])
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


def _counter(name: str, value: float) -> Metric:
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - an extra

    return CounterMetricFamily(name, HELP[name], value=value)


def _counters(name: str, labels: list[str], values: Values) -> Metric:
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - an extra

    family = CounterMetricFamily(name, HELP[name], labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family


def _gauge(name: str, value: float) -> Metric:
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - an extra

    return GaugeMetricFamily(name, HELP[name], value=value)


def _histogram(name: str, values: Histogram) -> Metric:
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415 - an extra

    return HistogramMetricFamily(name, HELP[name], buckets=values.cumulative(), sum_value=values.total)


def _histograms(name: str, label: str, values: dict[str, Histogram]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415 - an extra

    family = HistogramMetricFamily(name, HELP[name], labels=[label])
    for key, histogram in values.items():
        family.add_metric([key], buckets=histogram.cumulative(), sum_value=histogram.total)
    return family
