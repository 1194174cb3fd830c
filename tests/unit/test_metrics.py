"""workers/metrics.py counts what a worker does; workers/metrics_page.py shows it as Prometheus reads it."""

import http.client
import json
import socket

import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.codec import decode_job, encode_job
from common.dead_letters import About, encode_about
from common.errors import ConfigurationError
from common.jobs import OutcomeKind
from common.redis.records import Finish, HeldLease, Letter
from common.redis.store import Claimed
from workers.attempt import Attempt, Outcome
from workers.metrics import MOST_NAMES, OTHERS, SECONDS_BOUNDS, Histogram, Metrics
from workers.metrics_page import MetricsPage, Now
from workers.wellbeing import REASONS, Wellbeing


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


def an_outcome(
    kind=OutcomeKind.SUCCEEDED, *, task="fetch", known=True, run_seconds=0.02, queued_ms=300, record=None, **more
) -> Outcome:
    raw = encode_job("fetch", (), {}, enqueued_ms=1_000)
    attempt = Attempt(Claimed("j", raw, 1, 1_000, aborted=False, queue=0, token="w:1:1"), "q")
    attempt.payload = decode_job(raw)
    attempt.started_ms = 1_000 + queued_ms
    attempt.note_step(0.004)
    if known:
        attempt.runnable = Named(task)
    return Outcome(attempt, kind, record, run_seconds=run_seconds, **more)


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


HOSTILE = ["", "a" * 100_000, "low\udc80", 'quo"te\\', "new\nline", "\x00\x7f\u202e", "naïve 𝄞", "le", "{}=,"]


def test_names_of_any_kind_travel_and_are_bounded(page):
    for name in HOSTILE:
        page._figures.recorded([an_outcome(task=name)])
        page._figures.held_back("rate", name)
        page._figures.waited("rate", name, 1.0)
        page._figures.circuit(name, "opened")
    found = samples(page.text())
    tasks = {dict(labels)["task"] for name, *labels in found if name == "barque_attempts_total"} - {"fetch", 'od"d\n'}
    limits = {dict(labels)["limit"] for name, *labels in found if name == "barque_limit_held_back_total"}
    circuits = {dict(labels)["limit"] for name, *labels in found if name == "barque_circuit_changes_total"}
    assert len(tasks) == len(HOSTILE)
    assert tasks == limits == circuits
    assert max(map(len, tasks)) == 200


def test_two_names_that_look_the_same_are_one_series():
    metrics = Metrics()
    metrics.recorded([an_outcome(task="a" * 300), an_outcome(task="a" * 400)])
    (figures,) = metrics.tasks.values()
    assert figures.outcomes == {OutcomeKind.SUCCEEDED: 2}


def test_however_many_names_there_are_there_are_so_many_series(page):
    figures = page._figures
    for number in range(2000):
        figures.recorded([an_outcome(task=f"made-up-{number}")])
        figures.held_back("concurrency", f"made-up-{number}")
        figures.waited("concurrency", f"made-up-{number}", 1.0)
        figures.circuit(f"made-up-{number}", "opened")
    assert len(figures.tasks) == len(figures.limits) == len(figures.circuits) == MOST_NAMES + 1
    assert sum(sum(one.outcomes.values()) for one in figures.tasks.values()) == 2003
    assert figures.limits["concurrency", OTHERS].held_back == 2000 - MOST_NAMES
    found = samples(page.text())
    assert found["barque_limit_wait_seconds_count", ("kind", "concurrency"), ("limit", OTHERS)] == 2000 - MOST_NAMES
    assert found["barque_attempts_total", ("outcome", "succeeded"), ("task", OTHERS)] > 0


def test_a_retry_is_one_after_which_another_attempt_comes_for_a_failure():
    metrics = Metrics()
    metrics.recorded([
        an_outcome(OutcomeKind.RETRIED, retry_in_ms=0),
        an_outcome(OutcomeKind.TIMED_OUT, retry_in_ms=100),
        an_outcome(OutcomeKind.TIMED_OUT),
        an_outcome(OutcomeKind.SNOOZED, retry_in_ms=100),
        an_outcome(OutcomeKind.SUCCEEDED),
    ])  # fmt: skip
    assert metrics.tasks["fetch"].retries == 2


def test_dead_letters_are_counted_by_their_reason():
    def dead(reason: str) -> Outcome:
        letter = Letter(b"", encode_about(About(reason=reason)), b"", 1000, 10)
        lease = HeldLease(0, "j", "w:1:1", 1)
        return an_outcome(OutcomeKind.FAILED, record=Finish(lease, b"", 0, 0, letter))

    metrics = Metrics()
    metrics.recorded([dead("failed"), dead("failed"), dead("expired"), an_outcome(OutcomeKind.FAILED)])
    assert metrics.tasks["fetch"].dead == {"failed": 2, "expired": 1}


def test_ticks_of_schedules_are_counted_by_what_became_of_them(page):
    page._figures.ticked(3, left_out=False, refused=False)
    page._figures.ticked(0, left_out=True, refused=False)
    page._figures.ticked(1, left_out=True, refused=False)
    page._figures.ticked(0, left_out=False, refused=True)
    found = samples(page.text())
    counted = {dict(labels)["result"]: value for (name, *labels), value in found.items() if "ticks_total" in name}
    assert counted == {"enqueued": 4, "left_out": 2, "refused": 1}


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


def an_empty_page() -> MetricsPage:
    return MetricsPage(
        Metrics(), now=Now, wellbeing=lambda: Wellbeing(alive=True, reasons={}), labels={}, build={"version": "1"}
    )


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
    metrics.recorded([an_outcome(), an_outcome(OutcomeKind.RETRIED, run_seconds=2, retry_in_ms=5)])
    metrics.lost(an_outcome(OutcomeKind.LOST, task='od"d\n'))
    metrics.round_trips["claim"].add(0.0004)
    made = MetricsPage(
        metrics,
        now=lambda: Now({"barque_jobs_in_flight": 3.0}, {"barque_event_loop_blocks": 2.0}),
        wellbeing=lambda: Wellbeing(state.alive, state.reasons, {"worker": "w"}),
        labels={"worker": "w", "queues": "low\udc80"},
        build={"version": "1", "python": "3", "arq": "2"},
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
    assert found["barque_worker_info", ("queues", "low\\udc80"), ("worker", "w")] == 1
    assert found["barque_build_info", ("arq", "2"), ("python", "3"), ("version", "1")] == 1
    assert found["barque_event_loop_blocks_total",] == 2
    assert found["barque_awaited_seconds_total", ("task", "fetch")] == pytest.approx(2.012)
    assert found["barque_steps_total", ("task", "fetch")] == 2
    assert found["barque_longest_step_seconds_bucket", ("le", "0.005"), ("task", "fetch")] == 2
    assert found["barque_retries_total", ("task", "fetch")] == 1
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
    made = an_empty_page()
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
    third = an_empty_page()
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
