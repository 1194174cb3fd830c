"""workers/metrics.py counts what a worker does; workers/metrics_page.py shows it as Prometheus reads it."""

import http.client
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.codec import decode_job, encode_job
from common.errors import ConfigurationError
from common.jobs import OutcomeKind
from common.redis.store import Claimed
from workers.attempt import Attempt, Outcome
from workers.metrics import SECONDS_BOUNDS, Histogram, Metrics
from workers.metrics_page import MetricsPage, Wellbeing


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


def an_outcome(kind=OutcomeKind.SUCCEEDED, *, task="fetch", known=True, run_seconds=0.02, queued_ms=300) -> Outcome:
    raw = encode_job(task, (), {}, enqueued_ms=1_000)
    attempt = Attempt(Claimed("j", raw, 1, 1_000, aborted=False, queue=0, token="w:1:1"), "q")
    attempt.payload = decode_job(raw)
    attempt.started_ms = 1_000 + queued_ms
    attempt.note_step(0.004)
    if known:
        attempt.runnable = Named(task)
    return Outcome(attempt, kind, None, run_seconds=run_seconds)


def test_a_histogram_counts_up_to_its_bounds_and_past_them():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 7.0):
        histogram.add(value)
    assert histogram.cumulative() == [("1.0", 2), ("2.0", 4), ("+Inf", 5)]
    assert histogram.total == 12.0


def test_bounds_rise():
    assert list(SECONDS_BOUNDS) == sorted(set(SECONDS_BOUNDS))


def test_names_from_outside_make_no_series():
    metrics = Metrics()
    metrics.recorded([an_outcome(OutcomeKind.FAILED, task=f"made-up-{n}", known=False) for n in range(1000)])
    assert list(metrics.tasks) == ["(unknown)"]


def test_what_was_passed_on_has_not_been_tried():
    metrics = Metrics()
    metrics.recorded([an_outcome(OutcomeKind.PASSED_ON)])
    assert metrics.tasks == {}


def test_an_attempt_that_never_began_has_no_time():
    metrics = Metrics()
    outcome = an_outcome(OutcomeKind.FAILED)
    outcome.attempt.started_ms = 0
    metrics.recorded([outcome])
    assert metrics.tasks["fetch"].outcomes == {OutcomeKind.FAILED: 1}
    assert sum(metrics.tasks["fetch"].run.counts) == 0


class State:
    alive = ready = True


@pytest.fixture
def state():
    return State()


@pytest.fixture
def page(state):
    metrics = Metrics()
    metrics.claimed(2)
    metrics.recorded([an_outcome(), an_outcome(OutcomeKind.RETRIED, run_seconds=2)])
    metrics.lost(an_outcome(OutcomeKind.LOST, task='od"d\n'))
    metrics.round_trips["claim"].add(0.0004)
    made = MetricsPage(
        metrics,
        gauges=lambda: {"jobs_in_flight": (3, "Attempts that run now")},
        wellbeing=lambda: Wellbeing(state.alive, state.ready, {"worker": "w"}),
        labels={"worker": "w", "version": "1"},
    )
    yield made
    made.stop()


def samples(text: bytes) -> dict[tuple, float]:
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found[sample.name, *sorted(sample.labels.items())] = sample.value
    return found


def test_the_series_are_as_prometheus_reads_them(page):
    found = samples(page.text())
    assert found["barque_attempts_total", ("outcome", "succeeded"), ("task", "fetch")] == 1
    assert found["barque_attempts_total", ("outcome", "lost"), ("task", 'od"d\n')] == 1
    assert found["barque_run_seconds_count", ("task", "fetch")] == 2
    assert found["barque_run_seconds_bucket", ("le", "0.025"), ("task", "fetch")] == 1
    assert found["barque_run_seconds_sum", ("task", "fetch")] == pytest.approx(2.02)
    assert found["barque_queue_wait_seconds_bucket", ("le", "0.5"), ("task", "fetch")] == 2
    assert found["barque_busy_seconds_total", ("task", "fetch")] == pytest.approx(0.008)
    assert found["barque_claim_jobs_bucket", ("le", "2.0")] == 1
    assert found["barque_round_trip_seconds_count", ("script", "claim")] == 1
    assert found["barque_leases_lost_total",] == 1
    assert found["barque_jobs_in_flight",] == 3
    assert found["barque_worker_info", ("version", "1"), ("worker", "w")] == 1
    assert ("process_resident_memory_bytes",) in found


def ask(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_it_is_served(page):
    port = page.start("127.0.0.1", 0)
    assert samples(ask(port, "/metrics")[1])["barque_jobs_in_flight",] == 3
    assert ask(port, "/metrics", "HEAD") == (200, b"")
    assert ask(port, "/metrics", "POST")[0] == 405
    assert ask(port, "/")[0] == 404


@pytest.mark.parametrize(
    ("alive", "ready", "health", "readiness"),
    [(True, True, 200, 200), (True, False, 200, 503), (False, True, 503, 503), (False, False, 503, 503)],
)
def test_probes_tell_how_the_worker_is(page, state, alive, ready, health, readiness):
    state.alive, state.ready = alive, ready
    port = page.start("127.0.0.1", 0)
    status, body = ask(port, "/healthz")
    assert status == health
    assert json.loads(body) == {"alive": alive, "ready": ready, "worker": "w"}
    assert ask(port, "/readyz")[0] == readiness


def test_a_port_that_is_taken_is_one_clear_error(page):
    port = page.start("127.0.0.1", 0)
    other = MetricsPage(Metrics(), gauges=dict, wellbeing=lambda: None, labels={})
    with pytest.raises(ConfigurationError, match=f"BARQUE_METRICS_PORT: cannot listen on 127.0.0.1:{port}"):
        other.start("127.0.0.1", port)


def test_a_page_that_was_stopped_has_closed_its_port(page):
    port = page.start("127.0.0.1", 0)
    page.stop()
    page.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/metrics")
