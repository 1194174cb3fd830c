"""workers/verdicts.py: whatever a task returns or raises, there is an outcome, and it has a size a server takes."""

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from common import Context, Discard, Retry, RetryPolicy, Snooze, fixed, task
from common.codec import MSGPACK_ONLY, Extras, decode_job, encode_job
from common.jobs import OutcomeKind
from common.redis.store import Claimed, Finish, PutBack
from common.result_codec import decode_result
from common.tasks import Task, TaskOptions
from common.values import to_plain
from workers.arq_ways import ArqWays
from workers.attempt import Attempt, Outcome, StopReason
from workers.clock import ServerClock
from workers.error_words import describe
from workers.runnables import Defaults, TaskRunnable
from workers.verdicts import Verdicts

LIMIT = 10_000
POLICY = RetryPolicy()
NOW = time.time_ns() // 1_000_000


@task
async def work(ctx: Context, text: str = "") -> str:
    return text


class ArqRetry(RuntimeError):
    def __init__(self, defer_score: int | None) -> None:
        self.defer_score = defer_score


@pytest.fixture
def verdicts() -> Verdicts:
    return make_verdicts()


def make_verdicts(*, retry_jobs: bool = True) -> Verdicts:
    ways = ArqWays(ArqRetry, (), RuntimeError, RuntimeError, moment=float, retry_jobs=retry_jobs)
    clock = ServerClock()
    clock.set(NOW)
    return Verdicts(
        worker="w",
        clock=clock,
        reading=MSGPACK_ONLY,
        ways=ways,
        failed_keep_ms=1000,
        max_result_bytes=LIMIT,
    )


def an_attempt(
    text: str = "", retry: RetryPolicy = POLICY, *, number: int = 1, age: float = 0.0, due: int | None = None
) -> Attempt:
    extras = None if due is None else Extras(due=due)
    raw = encode_job("work", (text,), {}, enqueued_ms=round(NOW - age * 1000), extras=extras)
    attempt = Attempt(Claimed("j", raw, number, 0, False, 0, f"w:{number}:1"), "q")
    attempt.payload = decode_job(raw)
    attempt.runnable = TaskRunnable(Task(work.function, "work", TaskOptions(retry=retry)), Defaults(None, 5, 1000), "w")
    attempt.max_attempts = attempt.runnable.max_attempts
    return attempt


def seconds_from_now(outcome: Outcome) -> float:
    assert isinstance(outcome.record, PutBack)
    assert outcome.record.how == "release"
    return (outcome.record.when - NOW) / 1000


def stored(outcome: Outcome):
    assert isinstance(outcome.record, Finish)
    return decode_result(outcome.record.result)


def test_a_result_over_the_limit_fails_its_job_in_words_that_name_the_setting(verdicts):
    outcome = verdicts.succeeded(an_attempt(), "x" * (LIMIT + 1))
    assert outcome.kind is OutcomeKind.FAILED
    result = stored(outcome)
    assert not result.success
    assert result.error.type == "common.errors.PayloadTooLarge"
    assert "BARQUE_MAX_RESULT_BYTES" in result.error.message
    assert "10,000" in result.error.message
    assert len(outcome.record.result) < 1000


def test_the_arguments_a_result_repeats_are_not_counted(verdicts):
    outcome = verdicts.succeeded(an_attempt("x" * 3 * LIMIT), "y" * (LIMIT // 2))
    assert outcome.kind is OutcomeKind.SUCCEEDED


def test_a_message_and_a_traceback_of_any_length_are_cut():
    try:
        raise ValueError("x" * 10_000_000 + "the end")
    except ValueError as error:
        words = describe(error)
    assert len(words.message) < 100_000
    assert len(words.traceback) < 100_000
    assert words.message.endswith("the end")
    assert "characters left out" in words.message


class Interrupts(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class BadNotes(Exception):
    @property
    def __notes__(self):
        raise ValueError("no notes")


class OddText(str):
    __slots__ = ()


class Odd(Exception):
    def __str__(self) -> str:
        return OddText("odd")


@pytest.mark.parametrize("error", [Interrupts(), BadNotes("b"), SyntaxError("bad", ("f.py", 1, 1, 12345)), Odd()])
def test_an_exception_whose_parts_raise_is_described_all_the_same(error):
    try:
        raise error
    except Exception as raised:
        words = describe(raised)
    assert words.type.endswith(type(error).__qualname__)
    assert type(words.message) is str
    assert "test_verdicts.py" in words.traceback


@pytest.mark.parametrize(("defer", "due_after"), [(-5000, 0), (None, None), (1500, 1500)])
def test_arqs_retry_with_a_negative_defer_is_at_once(verdicts, defer, due_after):
    outcome = verdicts.raised(an_attempt(), ArqRetry(defer))
    assert outcome.kind is OutcomeKind.RETRIED
    assert isinstance(outcome.record, PutBack)
    assert due_after is None or outcome.record.when == due_after


def test_what_could_not_be_judged_has_failed(verdicts):
    outcome = verdicts.unjudged(an_attempt(), LookupError("broken"))
    assert outcome.kind is OutcomeKind.FAILED
    assert stored(outcome).error.message == "how the attempt ended could not be told: broken"


def test_what_could_not_be_judged_and_lost_its_lease_is_lost(verdicts):
    attempt = an_attempt()
    attempt.stop = StopReason.LOST
    assert verdicts.unjudged(attempt, LookupError("broken")).record is None


def test_a_serializer_that_always_raises_does_not_keep_the_failure_from_being_told(verdicts, monkeypatch):
    monkeypatch.setattr(verdicts.endings, "failed", lambda *_: 1 / 0)
    assert not stored(verdicts.unjudged(an_attempt(), LookupError("broken"))).success


def test_in_place_of_a_result_the_server_does_not_take_there_are_words_without_arguments(verdicts):
    attempt = an_attempt("secret")
    outcome = verdicts.succeeded(attempt, "y" * 5000)
    words = verdicts.unrecordable(outcome, ConnectionResetError("gone"))
    assert words.kind is OutcomeKind.FAILED
    assert b"secret" not in words.record.result
    assert "the server does not take the result" in stored(words).error.message
    put_back = Outcome(attempt, OutcomeKind.RETRIED, PutBack(attempt.lease, "retry", 1), run_seconds=0)
    assert verdicts.unrecordable(put_back, ConnectionResetError("gone")) is None


def test_an_ignored_error_ends_the_job_as_succeeded_without_a_result_and_says_so(verdicts):
    outcome = verdicts.raised(an_attempt(retry=RetryPolicy(rules={LookupError: "ignore"})), KeyError("gone"))
    assert outcome.kind is OutcomeKind.SUCCEEDED
    assert outcome.reason == "ignored KeyError: 'gone'"
    assert (stored(outcome).success, to_plain(stored(outcome).value)) == (True, None)


def test_an_error_is_ignored_even_where_no_job_is_to_be_started_twice():
    outcome = make_verdicts(retry_jobs=False).raised(
        an_attempt(retry=RetryPolicy(rules={LookupError: "ignore"})), KeyError("gone")
    )
    assert outcome.kind is OutcomeKind.SUCCEEDED


@pytest.mark.parametrize(
    ("snooze", "least", "most"),
    [
        (Snooze(60), 60, 90),
        (Snooze(timedelta(minutes=2)), 120, 150),
        (Snooze(after=0), 0, 30),
        (Snooze(until=datetime.fromtimestamp(NOW / 1000 + 600, tz=UTC)), 599.9, 600.1),
        (Snooze(until=datetime(1999, 1, 1, tzinfo=UTC)), 0, 30),
        (Snooze(until=datetime(9999, 1, 1, tzinfo=UTC)), 1e10, 1e13),
    ],
)
def test_a_snoozed_job_is_put_back_until_then_and_its_attempt_does_not_count(verdicts, snooze, least, most):
    outcome = verdicts.raised(an_attempt(number=5), snooze)  # even the last one
    assert outcome.kind is OutcomeKind.SNOOZED
    assert least <= seconds_from_now(outcome) <= most
    assert outcome.record.lease.attempt == 5
    assert outcome.error is None
    assert outcome.reason == "the task asked to wait"


def test_a_worker_that_starts_no_job_twice_fails_one_that_would_be_snoozed():
    assert make_verdicts(retry_jobs=False).raised(an_attempt(), Snooze(5)).kind is OutcomeKind.FAILED


def test_a_discarded_job_has_ended_without_a_letter_and_without_an_error_in_the_log(verdicts):
    outcome = verdicts.raised(an_attempt(), Discard("the customer is gone"))
    assert outcome.kind is OutcomeKind.DISCARDED
    assert (outcome.error, outcome.reason) == (None, "the customer is gone")
    assert outcome.record.letter is None
    result = stored(outcome)
    assert (result.success, result.outcome) == (False, "discarded")
    assert (result.error.type, result.error.message) == ("common.errors.Discard", "the customer is gone")


@pytest.mark.parametrize("asked", [Snooze(5), Discard("no"), Retry(after=5)])
def test_who_was_stopped_has_nothing_to_ask_for(verdicts, asked):
    attempt = an_attempt()
    attempt.stop = StopReason.ABORTED
    assert verdicts.raised(attempt, asked).kind is OutcomeKind.CANCELLED


def test_what_keeps_an_error_from_being_tried_again_is_told(verdicts):
    policy = RetryPolicy(max_time=60, backoff=fixed(30), jitter="none")
    assert verdicts.raised(an_attempt(retry=policy, age=10), ValueError("no")).kind is OutcomeKind.RETRIED
    outcome = verdicts.raised(an_attempt(retry=policy, age=45), ValueError("no"))
    assert outcome.kind is OutcomeKind.FAILED
    assert "past max_time=60 s" in outcome.reason
    assert outcome.error.message == "no"
    assert re.match(r"Not tried again: the next attempt would begin [7-9]\d s after", outcome.error.traceback)


def test_total_time_counts_from_when_a_delayed_job_was_due(verdicts):
    policy = RetryPolicy(max_time=60, backoff=fixed(30), jitter="none")
    attempt = an_attempt(retry=policy, age=3600, due=NOW - 10_000)
    assert verdicts.raised(attempt, ValueError("no")).kind is OutcomeKind.RETRIED


def test_no_retry_is_planned_past_the_deadline_and_the_error_stays_the_tasks_own(verdicts):
    attempt = an_attempt(retry=RetryPolicy(backoff=fixed(30), jitter="none"))
    attempt.deadline_ms = NOW + 60_000
    assert verdicts.raised(attempt, ValueError("no")).kind is OutcomeKind.RETRIED
    attempt.deadline_ms = NOW + 29_000
    outcome = verdicts.raised(attempt, ValueError("no"))
    assert outcome.kind is OutcomeKind.FAILED
    assert outcome.error.message == "no"
    assert (
        "Not tried again: the next attempt would begin in 30 s, past the job's deadline, 20" in outcome.error.traceback
    )
    assert "past the job's deadline" in outcome.reason


def test_a_plain_functions_retry_is_held_to_the_deadline_of_its_job(verdicts):
    attempt = an_attempt()
    attempt.runnable.policy = None
    attempt.deadline_ms = NOW + 29_000
    assert verdicts.raised(attempt, Retry(after=5)).kind is OutcomeKind.RETRIED
    outcome = verdicts.raised(attempt, Retry(after=30))
    assert outcome.kind is OutcomeKind.FAILED
    assert "past the job's deadline" in outcome.reason


def test_who_snoozes_past_the_deadline_ends_the_job(verdicts):
    attempt = an_attempt()
    attempt.deadline_ms = NOW + 29_000
    assert verdicts.raised(attempt, Snooze(5)).kind is OutcomeKind.SNOOZED
    outcome = verdicts.raised(attempt, Snooze(60))
    assert outcome.kind is OutcomeKind.TIMED_OUT
    assert outcome.error.type == "common.errors.DeadlinePassed"
    assert "the task put its job off: the next attempt would begin in 60 s" in outcome.error.message


@pytest.mark.parametrize("deadline_ms", [-(10**18), 10**18])
def test_a_deadline_that_is_no_moment_is_told_all_the_same(verdicts, deadline_ms):
    attempt = an_attempt()
    attempt.deadline_ms = deadline_ms
    assert f"deadline, {deadline_ms} ms of Unix time" in str(verdicts.too_late(attempt))


def test_who_is_stopped_at_the_deadline_is_not_tried_again(verdicts):
    attempt = an_attempt(number=2)
    attempt.stop, attempt.deadline_ms = StopReason.DEADLINE, 1_700_000_000_000
    outcome = verdicts.stopped(attempt, asyncio.CancelledError())
    assert outcome.kind is OutcomeKind.TIMED_OUT
    assert isinstance(outcome.record, Finish)
    words = "attempt 2 was stopped at the job's deadline, 2023-11-14T22:13:20.000Z"
    assert (outcome.error.type, outcome.error.message) == ("common.errors.DeadlinePassed", words)


def test_a_job_of_a_clock_that_goes_ahead_has_all_its_time(verdicts):
    policy = RetryPolicy(max_time=60, backoff=fixed(60), jitter="none")
    assert verdicts.raised(an_attempt(retry=policy, age=-1000), ValueError("no")).kind is OutcomeKind.RETRIED
