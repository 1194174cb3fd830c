"""workers/admission.py without a server: lost replies, refusals, starts that come too late, stops in between."""

import asyncio
from types import SimpleNamespace

import pytest
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import ResponseError

from common import Context, RateLimit, task
from common.codec import Payload
from common.jobs import OutcomeKind
from common.redis.limits import Admitted, Answer, Ask, Event
from common.redis.records import Claimed
from workers import admission
from workers.admission import Admission
from workers.attempt import Attempt, Outcome, PassedOnError, StopReason
from workers.clock import ServerClock
from workers.gates import TaskGates


@task(name="of_admission", limits=[RateLimit(10)])
async def limited(ctx: Context) -> None: ...


GATES = TaskGates(limited, limited.options.limits, timeout=None)


def an_attempt(job_id: str = "a") -> Attempt:
    attempt = Attempt(Claimed(job_id, b"", 1, 1000, False, 0, f"w:1:{job_id}"), "q")
    attempt.runnable = SimpleNamespace(limits=GATES, priority=0)
    attempt.payload = Payload("of_admission", b"\x90", b"\x80", 0)
    return attempt


class Server:
    """Answers each call with the next of these: answers, an error, or an event to wait for before."""

    def __init__(self, *script) -> None:
        self.script = list(script)
        self.asked: list[list[Ask]] = []
        self.left: list = []

    async def admit(self, queues, asks, **_) -> Admitted:
        self.asked.append(list(asks))
        step = self.script.pop(0) if self.script else "start"
        if isinstance(step, asyncio.Event):
            await step.wait()
            step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        if callable(step):
            step = step(asks)
        return Admitted([Answer(step) if isinstance(step, str) else step for _ in asks], [])

    async def leave(self, leavers, **_) -> list[Event]:
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        self.left += leavers
        return []


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(admission.Backoff, "next", lambda self: 0.0)


def asking(server: Server) -> Admission:
    return Admission(server, ["q"], lease_ms=1000, patience=5, clock=ServerClock())


async def test_attempts_that_come_together_are_asked_about_together():
    server = Server()
    ask = asking(server)
    await asyncio.gather(*(ask.enter(an_attempt(str(n))) for n in range(50)))
    assert sum(map(len, server.asked)) == 50
    assert len(server.asked) <= 2


@pytest.mark.parametrize(("word", "reason"), [("lost", StopReason.LOST), ("aborted", StopReason.ABORTED)])
async def test_an_attempt_that_is_not_to_begin_is_stopped_for_that_reason(word, reason):
    attempt = an_attempt()
    with pytest.raises(asyncio.CancelledError):
        await asking(Server(word)).enter(attempt)
    assert attempt.stop is reason


async def test_an_attempt_that_waits_for_a_limit_is_done_with():
    with pytest.raises(PassedOnError) as passed:
        await asking(Server("held")).enter(an_attempt())
    assert passed.value.due is None


async def test_asked_again_after_a_lost_reply_a_lease_that_is_gone_says_that_the_job_waits():
    attempt = an_attempt()
    with pytest.raises(PassedOnError):
        await asking(Server(Unreachable("gone"), "lost")).enter(attempt)
    assert attempt.stop is None


async def test_a_refusal_for_one_attempt_is_that_ones_alone():
    def refuse_b(asks):
        if any(ask.lease.job_id == "b" for ask in asks):
            raise ResponseError("WRONGTYPE")
        return "start"

    server = Server(*[refuse_b] * 9)
    ask = asking(server)
    attempts = [an_attempt(name) for name in "abcd"]
    ended = await asyncio.gather(*map(ask.enter, attempts), return_exceptions=True)
    assert [type(each) for each in ended] == [type(None), PassedOnError, type(None), type(None)]
    assert ended[1].due is not None, "it comes again"


async def test_a_start_that_comes_too_late_asks_for_another_moment(monkeypatch):
    time = SimpleNamespace(now=100.0, perf_counter=lambda: time.now)
    monkeypatch.setattr(admission, "time", time)

    def slowly(asks):
        time.now += 10 if len(server.asked) == 1 else 0  # the process stood still
        return "start"

    server = Server(slowly, slowly)
    await asking(server).enter(an_attempt())
    assert [asks[0].past for asks in server.asked] == ["", "displaced"]


async def test_however_slow_a_start_is_it_comes(monkeypatch):
    time = SimpleNamespace(now=100.0, perf_counter=lambda: time.now)
    monkeypatch.setattr(admission, "time", time)

    def slowly(asks):
        time.now += 10
        return "start"

    server = Server(*[slowly] * 20)
    await asking(server).enter(an_attempt())
    assert len(server.asked) == 5


@pytest.mark.parametrize(("word", "raised"), [("held", PassedOnError), ("start", asyncio.CancelledError)])
async def test_one_that_is_stopped_while_it_is_asked_about_hears_the_answer(word, raised):
    answered = asyncio.Event()
    entering = asyncio.ensure_future(asking(Server(answered, word)).enter(an_attempt()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    entering.cancel()
    asyncio.get_running_loop().call_soon(answered.set)
    await asyncio.wait({entering})
    if raised is asyncio.CancelledError:
        assert entering.cancelled()
    else:
        assert isinstance(entering.exception(), raised)


async def test_what_attempts_held_is_given_back_though_the_server_be_away_for_a_moment():
    held = task(name="holds", limits=[RateLimit(10, hold_on_retry_after=True)])(limited.function)
    server = Server()
    ask = asking(server)
    attempt = an_attempt()
    attempt.runnable = SimpleNamespace(limits=TaskGates(held, held.options.limits, timeout=None), priority=0)
    await ask.enter(attempt)
    server.script = [Unreachable("gone"), Unreachable("gone")]
    attempt.passage.error = ConnectionError("busy")
    attempt.passage.error.retry_after = 7
    ask.ended(Outcome(attempt, OutcomeKind.RETRIED, None, run_seconds=0))
    await ask.close(within=10)
    assert [(each.word, each.ms) for each in server.left] == [("hold", 7000)]


async def test_one_that_never_began_has_nothing_to_give_back():
    server = Server("held")
    ask = asking(server)
    attempt = an_attempt()
    with pytest.raises(PassedOnError):
        await ask.enter(attempt)
    ask.ended(Outcome(attempt, OutcomeKind.HELD_BACK, None, run_seconds=0))
    await ask.close(within=10)
    assert server.left == []
