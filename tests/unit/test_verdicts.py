"""workers/verdicts.py: whatever a task returns or raises, there is an outcome, and it has a size a server takes."""

import pytest

from common import Context, task
from common.codec import MSGPACK_ONLY, decode_job, encode_job
from common.jobs import OutcomeKind
from common.redis.store import Claimed, Finish, PutBack
from common.result_codec import decode_result
from workers.arq_ways import ArqWays
from workers.attempt import Attempt, Outcome, StopReason
from workers.clock import ServerClock
from workers.runnables import Defaults, TaskRunnable
from workers.verdicts import Verdicts, describe

LIMIT = 10_000


@task
async def work(ctx: Context, text: str = "") -> str:
    return text


class ArqRetry(RuntimeError):
    def __init__(self, defer_score: int | None) -> None:
        self.defer_score = defer_score


@pytest.fixture
def verdicts() -> Verdicts:
    ways = ArqWays(retry=ArqRetry, rerun=(), failure=RuntimeError, undecodable=RuntimeError, moment=float)
    return Verdicts(
        worker="w",
        clock=ServerClock(),
        reading=MSGPACK_ONLY,
        ways=ways,
        failed_keep_ms=1000,
        max_result_bytes=LIMIT,
    )


def an_attempt(text: str = "") -> Attempt:
    raw = encode_job("work", (text,), {}, enqueued_ms=1)
    attempt = Attempt(Claimed("j", raw, 1, 0, False, 0, "w:1:1"), "q")
    attempt.payload = decode_job(raw)
    attempt.runnable = TaskRunnable(work, Defaults(None, 5, 1000), "w")
    attempt.max_attempts = 5
    return attempt


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
    monkeypatch.setattr(verdicts, "_finish_failed", lambda *_: 1 / 0)
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
