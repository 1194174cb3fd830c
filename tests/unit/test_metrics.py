"""workers/metrics.py counts what a worker does; workers/metrics_page.py shows it as Prometheus reads it."""

import http.client
import json
import socket

import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.codec import decode_job, encode_job
from common.errors import ConfigurationError
from common.jobs import OutcomeKind
from common.redis.store import Claimed
from workers.attempt import Attempt, Outcome
from workers.metrics import SECONDS_BOUNDS, Histogram, Metrics
from workers.metrics_page import MetricsPage
from workers.wellbeing import REASONS, Wellbeing


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
    alive = True
    reasons = {}  # noqa: RUF012 - set anew by those tests that want others


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
        wellbeing=lambda: Wellbeing(state.alive, state.reasons, {"worker": "w"}),
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


ANY = range(1)


def test_it_is_served(page):
    port = page.start("127.0.0.1", ANY)
    assert samples(ask(port, "/metrics")[1])["barque_jobs_in_flight",] == 3
    assert ask(port, "/metrics", "HEAD") == (200, b"")
    assert ask(port, "/metrics", "POST")[0] == 405
    assert ask(port, "/")[0] == 404


PAUSED = {"paused": "all of its queues are"}


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
@pytest.mark.parametrize(
    ("alive", "reasons", "health", "readiness"),
    [(True, {}, 200, 200), (True, PAUSED, 200, 503), (False, {}, 503, 503), (False, PAUSED, 503, 503)],
)
def test_probes_tell_how_the_worker_is(page, state, alive, reasons, health, readiness, path):
    state.alive, state.reasons = alive, reasons
    port = page.start("127.0.0.1", ANY)
    status, body = ask(port, path)
    assert status == health
    ready = alive and not reasons
    assert json.loads(body) == {"alive": alive, "ready": ready, "reasons": reasons, "worker": "w"}
    assert ask(port, "/readyz") == (readiness, body)


def test_one_that_had_stood_still_with_its_whole_process_is_not_called_dead(page, state, monkeypatch):
    """It was suspended: its loop turns as soon as the thread does that is asked, if a moment later."""
    state.alive = False
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        state.alive = True

    monkeypatch.setattr("workers.metrics_page.time.sleep", sleep)
    assert page._answer("/livez").status == 200
    assert len(slept) == 1


def test_the_reasons_are_series_too(page, state):
    state.reasons = PAUSED
    found = samples(page.text())
    assert found["barque_ready",] == 0
    assert {labels[0][1]: value for (name, *labels), value in found.items() if name == "barque_not_ready"} == {
        reason: float(reason == "paused") for reason in REASONS
    }


@pytest.fixture
def another():
    made = MetricsPage(Metrics(), gauges=dict, wellbeing=lambda: None, labels={})
    yield made
    made.stop()


def test_a_port_that_is_taken_is_one_clear_error(page, another):
    port = page.start("127.0.0.1", ANY)
    with pytest.raises(ConfigurationError, match=f"BARQUE_METRICS_PORT: cannot listen on 127.0.0.1:{port}.*a range"):
        another.start("127.0.0.1", range(port, port + 1))


def test_of_a_range_the_first_free_port_is_taken(page, another):
    while True:  # the port after a free one is free too, most of the time
        port = page.start("127.0.0.1", ANY)
        try:
            assert another.start("127.0.0.1", range(port, port + 2)) == port + 1
        except ConfigurationError:
            page.stop()
        else:
            break
    third = MetricsPage(Metrics(), gauges=dict, wellbeing=lambda: None, labels={})
    with pytest.raises(ConfigurationError, match=f"none of the ports {port}-{port + 1} of 127.0.0.1 is free"):
        third.start("127.0.0.1", range(port, port + 2))


def test_an_address_that_is_not_this_hosts_is_one_clear_error(another):
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:9464"):
        another.start("192.0.2.1", range(9464, 9468))


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_it_is_served_at_ipv6_addresses_too(another):
    try:
        port = another.start("::1", ANY)
    except ConfigurationError as error:
        pytest.skip(str(error))
    with socket.create_connection(("::1", port), timeout=30) as connection:
        connection.sendall(b"HEAD /metricz HTTP/1.0\r\n\r\n")
        assert b" 404 " in connection.recv(1000)


def test_a_page_that_was_stopped_has_closed_its_port(page):
    port = page.start("127.0.0.1", ANY)
    page.stop()
    page.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/metrics")
