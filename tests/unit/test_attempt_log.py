"""workers/attempt_log.py: one line an attempt, its keys fixed, and never an argument in it."""

import io
import json

import pytest
import structlog

from common.codec import Extras, decode_job, encode_job
from common.jobs import OutcomeKind, RemoteError
from common.logs import configure_logs
from common.redis.store import Claimed
from common.settings import load_settings
from workers.attempt import Attempt, Outcome
from workers.attempt_log import AttemptLog

SECRET = "hunter2"
KEYS = [
    "event", "job_id", "task", "queue", "attempt", "max_attempts", "worker", "queued_ms", "run_ms", "total_ms",
    "busy_ms", "wait_ms", "longest_block_ms", "level", "timestamp",
]  # fmt: skip


def an_attempt(*, decoded=True, started_ms=1_700_000_000_250, due_ms=1_700_000_000_000, job_id="j1") -> Attempt:
    raw = encode_job("fetch", (SECRET,), {"key": SECRET}, enqueued_ms=1_600_000_000_000)
    attempt = Attempt(Claimed(job_id, raw, 2, due_ms, False, 0, "w:2:1"), "q")
    attempt.payload = decode_job(raw) if decoded else None
    attempt.max_attempts = 5
    attempt.started_ms = started_ms
    attempt.note_step(0.00225)
    attempt.note_step(0.00125)
    return attempt


def written(*outcomes: Outcome, **settings) -> list[dict]:
    stream = io.BytesIO()
    configure_logs(load_settings(log_format="json", **settings), stream)
    AttemptLog("w").write(outcomes)
    assert SECRET.encode() not in stream.getvalue()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


ERROR = RemoteError("builtins.ValueError", "no", "Traceback")
OUTCOMES = {
    OutcomeKind.SUCCEEDED: ("info", None, None, []),
    OutcomeKind.RETRIED: ("warning", RemoteError("shop.Busy", "later"), 1500, ["error", "retry_in_ms"]),
    OutcomeKind.FAILED: ("error", ERROR, None, ["error", "traceback"]),
    OutcomeKind.TIMED_OUT: ("error", ERROR, None, ["error", "traceback"]),
    OutcomeKind.CANCELLED: ("info", RemoteError("asyncio.CancelledError", "aborted"), None, ["error"]),
    OutcomeKind.DISCARDED: ("info", None, None, []),
    OutcomeKind.SNOOZED: ("info", None, 5000, ["retry_in_ms"]),
    OutcomeKind.RELEASED: ("info", None, None, []),
    OutcomeKind.LOST: ("warning", None, None, []),
}


def test_every_outcome_is_in_the_table():
    assert OUTCOMES.keys() == set(OutcomeKind) - {OutcomeKind.PASSED_ON, OutcomeKind.HELD_BACK}


def test_an_attempt_that_was_passed_on_has_no_line():
    passed = Outcome(an_attempt(), OutcomeKind.PASSED_ON, None, run_seconds=0)
    (line,) = written(passed, Outcome(an_attempt(job_id="j2"), OutcomeKind.SUCCEEDED, None, run_seconds=0), passed)
    assert line["job_id"] == "j2"


@pytest.mark.parametrize("kind", OUTCOMES)
def test_the_line_of_each_outcome(kind):
    level, error, retry_in_ms, more = OUTCOMES[kind]
    outcome = Outcome(an_attempt(), kind, None, run_seconds=0.0123456, error=error, retry_in_ms=retry_in_ms)
    (line,) = written(outcome)
    assert list(line) == [*KEYS, *more]
    assert line["event"] == f"job_{kind}"
    assert line["level"] == level
    assert (line["job_id"], line["task"], line["queue"], line["worker"]) == ("j1", "fetch", "q", "w")
    assert (line["attempt"], line["max_attempts"]) == (2, 5)
    assert (line["queued_ms"], line["run_ms"], line["total_ms"]) == (250, 12.346, 262.346)
    assert (line["busy_ms"], line["wait_ms"], line["longest_block_ms"]) == (3.5, 8.846, 2.25)
    assert line.get("retry_in_ms") == retry_in_ms
    if error is not None:
        assert line["error"] == f"{error.type.removeprefix('builtins.')}: {error.message}"


def test_a_time_out_that_is_tried_again_is_a_warning():
    (line,) = written(Outcome(an_attempt(), OutcomeKind.TIMED_OUT, None, run_seconds=1, error=ERROR, retry_in_ms=0))
    assert (line["level"], line["retry_in_ms"]) == ("warning", 0)


def test_an_attempt_that_never_started_has_no_queue_time():
    (line,) = written(Outcome(an_attempt(started_ms=0), OutcomeKind.RELEASED, None, run_seconds=0))
    assert (line["queued_ms"], line["run_ms"]) == (0, 0)


def test_a_clock_that_ran_backwards_gives_no_negative_time():
    (line,) = written(Outcome(an_attempt(started_ms=5), OutcomeKind.SUCCEEDED, None, run_seconds=0))
    assert line["queued_ms"] == 0


def test_a_payload_nobody_could_decode_has_no_task():
    (line,) = written(Outcome(an_attempt(decoded=False), OutcomeKind.FAILED, None, run_seconds=0, error=ERROR))
    assert line["task"] == ""


def test_a_batch_is_a_line_each_in_order_and_an_odd_id_stops_none():
    outcomes = [
        Outcome(an_attempt(job_id=job_id), OutcomeKind.SUCCEEDED, None, run_seconds=0)
        for job_id in ("a", "\udc80", "c")
    ]
    assert [line["job_id"] for line in written(*outcomes)] == ["a", "\udc80", "c"]


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("INFO", ["job_succeeded", "job_lost", "job_failed"]),
        ("WARNING", ["job_lost", "job_failed"]),
        ("ERROR", ["job_failed"]),
        ("CRITICAL", []),
    ],
)
def test_the_least_level_holds(level, events):
    outcomes = [
        Outcome(an_attempt(), kind, None, run_seconds=0)
        for kind in (OutcomeKind.SUCCEEDED, OutcomeKind.LOST, OutcomeKind.FAILED)
    ]
    assert [line["event"] for line in written(*outcomes, log_level=level)] == events


def test_in_a_host_program_the_line_goes_through_its_own_structlog():
    seen = []

    def keep(logger, method, line):
        seen.append((method, dict(line)))
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    AttemptLog("w").write([Outcome(an_attempt(), OutcomeKind.FAILED, None, run_seconds=0.5, error=ERROR)])
    ((method, line),) = seen
    assert method == "error"
    assert (line["event"], line["job_id"], line["run_ms"]) == ("job_failed", "j1", 500)
    assert SECRET not in repr(line)


def test_on_a_console_the_line_is_readable():
    stream = io.BytesIO()
    configure_logs(load_settings(log_format="console"), stream)
    AttemptLog("w").write([Outcome(an_attempt(), OutcomeKind.SUCCEEDED, None, run_seconds=0.5)])
    text = stream.getvalue().decode()
    assert "job_succeeded" in text
    assert "job_id=j1" in text
    assert not text.startswith("{")


def test_what_the_task_said_stands_in_the_line():
    (line,) = written(Outcome(an_attempt(), OutcomeKind.SNOOZED, None, run_seconds=0, retry_in_ms=5, reason="closed"))
    assert list(line) == [*KEYS, "retry_in_ms", "reason"]
    assert line["reason"] == "closed"


def test_what_a_job_waited_for_and_was_ahead_for_is_said_where_it_was_so():
    attempt = an_attempt()
    attempt.past = "parked"
    attempt.payload = decode_job(encode_job("fetch", (), {}, enqueued_ms=1_600_000_000_000, extras=Extras(prio=3)))
    limited, plain = written(
        Outcome(attempt, OutcomeKind.SUCCEEDED, None, run_seconds=0),
        Outcome(an_attempt(), OutcomeKind.SUCCEEDED, None, run_seconds=0),
    )
    assert (limited["priority"], limited["limited"]) == (3, True)
    assert not {"priority", "limited"} & plain.keys()
