"""workers/dead_letters.py: which outcomes leave a letter, and the word for why."""

import pytest

from common import Context, RetryPolicy, task
from common.codec import decode_job, encode_job
from common.dead_letters import decode_about
from common.jobs import OutcomeKind, RemoteError
from common.redis.store import Claimed
from workers.attempt import Attempt
from workers.clock import ServerClock
from workers.dead_letters import Burials
from workers.runnables import Defaults, TaskRunnable

RAW = encode_job("work", ("secret",), {}, enqueued_ms=77)


@task(retry=RetryPolicy(max_attempts=3))
async def work(ctx: Context, text: str = "") -> None: ...


def an_attempt(
    *, raw: bytes | None = RAW, number: int = 1, past="", decoded: bool = True, known: bool = True
) -> Attempt:
    attempt = Attempt(Claimed("j", raw, number, 0, False, 0, f"w:{number}:1", past), "q")
    if decoded and raw is not None:
        attempt.payload = decode_job(raw)
    if known:
        attempt.runnable = TaskRunnable(work, Defaults(None, 3, 1000), "w")
        attempt.max_attempts = 3
    return attempt


def burials(most: int = 5) -> Burials:
    return Burials(worker="w", clock=ServerClock(), keep_ms=60_000, most=most)


FAILED, TIMED_OUT = OutcomeKind.FAILED, OutcomeKind.TIMED_OUT
RAISED = RemoteError("builtins.ValueError", "no", "Traceback")


@pytest.mark.parametrize(
    ("attempt", "kind", "error", "reason", "attempts"),
    [
        (an_attempt(number=3), FAILED, RAISED, "failed", 3),
        (an_attempt(number=2), TIMED_OUT, RAISED, "timed_out", 2),
        (an_attempt(number=2), TIMED_OUT, RemoteError("common.errors.DeadlinePassed", "late"), "deadline", 2),
        (an_attempt(decoded=False, known=False), FAILED, RAISED, "undecodable", 1),
        (an_attempt(known=False), FAILED, RemoteError("common.errors.TaskNotFound", "no"), "not_found", 1),
        (an_attempt(known=False), FAILED, RemoteError("arq.x.JobExecutionFailed", "job expired"), "expired", 1),
        (an_attempt(known=False), FAILED, RAISED, "failed", 1),
        (an_attempt(number=3, past="lost"), FAILED, RemoteError("common.errors.JobLost", "no"), "lost", 3),
        (an_attempt(number=4, past="lost"), FAILED, RemoteError("x.Y", "max 3 retries exceeded"), "lost", 3),
        (an_attempt(number=9), FAILED, RemoteError("x.Y", "max 3 retries exceeded"), "failed", 3),
        (an_attempt(), FAILED, RemoteError("common.errors.ArgumentMismatch", "no"), "arguments", 1),
        # A task of the user's may raise one of ours, and its own attempt then has a traceback.
        (an_attempt(), FAILED, RemoteError("common.errors.ArgumentMismatch", "no", "Traceback"), "failed", 1),
    ],
)
def test_the_word_for_why(attempt, kind, error, reason, attempts):
    letter = burials().letter(attempt, kind, error)
    about = decode_about(letter.about)
    assert (about.reason, about.attempts) == (reason, attempts)
    assert (about.error, about.message, about.queue, about.worker) == (error.type, error.message, "q", "w")
    assert (letter.payload, letter.traceback.decode()) == (RAW, error.traceback)
    assert b"secret" not in letter.about


@pytest.mark.parametrize(
    "kind",
    [kind for kind in OutcomeKind if kind not in {FAILED, TIMED_OUT}],
)
def test_no_other_outcome_leaves_one(kind):
    assert burials().letter(an_attempt(), kind, RAISED) is None


def test_without_a_payload_or_with_a_limit_of_0_there_is_none():
    assert burials().letter(an_attempt(raw=None), FAILED, RAISED) is None
    assert burials(most=0).letter(an_attempt(), FAILED, RAISED) is None


def test_text_that_has_no_form_on_the_wire_is_no_obstacle():
    letter = burials().letter(an_attempt(), FAILED, RemoteError("x.Y", "\ud800", "\udfff trace"))
    assert letter.traceback == b"\\udfff trace"
    assert decode_about(letter.about).message == "\\ud800"
