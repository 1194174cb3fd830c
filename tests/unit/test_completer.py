"""workers/completer.py against a server made up for it: batches of a size it can take, and no outcome dropped."""

import asyncio

import pytest
import structlog

from common.jobs import OutcomeKind
from common.redis.connection import ServerError
from common.redis.store import Claimed, Finish, PutBack, Refusals
from workers import completer as module
from workers.attempt import Attempt, Outcome
from workers.completer import Completer

LARGE = 100_000


class Server:
    """Takes calls; breaks the connection on each argument longer than `longest`."""

    def __init__(self, *, longest: int = 10**9, refuses: str = "") -> None:
        self.longest = longest
        self.refuses = refuses
        self.calls: list[list[bytes]] = []
        self.taken: list[bytes] = []
        self.up = True
        self.hang = 0
        self.pings = 0
        self.client = self
        self.takes_one = False  # at once, by itself
        self.begun: list[bytes] = []
        self.told: list = []
        self.dropped = 0
        self.again: list[bool] = []

    async def ping(self) -> None:
        self.pings += 1
        if not self.up:
            raise ConnectionRefusedError

    def begin_complete(self, queues, record, told):
        if not self.takes_one:
            return None
        self.begun.append(record.result)
        self.told.append(told)
        return self

    def drop(self) -> None:
        self.dropped += 1

    async def complete(self, queues, records, *, again=False) -> Refusals:
        self.again.append(again)
        results = [record.result for record in records if isinstance(record, Finish)]
        self.calls.append(results)
        if self.hang:
            self.hang -= 1
            await asyncio.Event().wait()
        if not self.up or any(len(result) > self.longest for result in results):
            raise ConnectionResetError("connection reset by peer")
        if self.refuses and any(record.lease.job_id == self.refuses for record in records):
            raise ServerError("WRONGTYPE")
        self.taken += results
        return Refusals([], [])


def an_outcome(name: str, size: int = 10) -> Outcome:
    attempt = Attempt(Claimed(name, b"", 1, 0, False, 0, "w:1:1"), "q")
    return Outcome(attempt, OutcomeKind.SUCCEEDED, Finish(attempt.lease, b"x" * size, 1000), run_seconds=0)


def in_words(outcome: Outcome, _error: Exception) -> Outcome | None:
    record = Finish(outcome.attempt.lease, b"words", 1000)
    return Outcome(outcome.attempt, OutcomeKind.FAILED, record, run_seconds=0)


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr("workers.backoff.Backoff.next", lambda _: 0.0)


@pytest.fixture
async def complete(no_pauses):
    running: list[asyncio.Task[None]] = []

    async def start(server: Server, outcomes: list[Outcome], patience: float = 60) -> tuple[list, list]:
        recorded: list[Outcome] = []
        refused: list[Outcome] = []
        completer = Completer(
            server, ["q"], recorded=recorded.extend, refused=refused.append, in_words=in_words, patience=patience
        )
        for outcome in outcomes:
            completer.add(outcome)
        with structlog.testing.capture_logs():
            running.append(asyncio.create_task(completer.run()))
            async with asyncio.timeout(20):
                await completer.drained()
        assert completer._pending_bytes == 0
        return recorded, refused

    yield start
    for task in running:
        task.cancel()


async def test_a_batch_is_cut_by_bytes(complete, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 1000)
    server = Server()
    outcomes = [an_outcome(str(n), size) for n, size in enumerate([400, 400, 400, 5000, 400, 600, 1])]
    recorded, _ = await complete(server, outcomes)
    assert [[len(result) for result in call] for call in server.calls] == [[400, 400], [400], [5000], [400, 600], [1]]
    assert recorded == outcomes


async def test_a_result_too_long_for_the_server_fails_its_job_and_keeps_no_other(complete):
    server = Server(longest=LARGE)
    outcomes = [an_outcome("a"), an_outcome("b", 2 * LARGE), an_outcome("c", LARGE), an_outcome("d")]
    recorded, refused = await complete(server, outcomes)
    assert {outcome.attempt.job_id: outcome.kind.value for outcome in recorded} == {
        "a": "succeeded",
        "b": "failed",
        "c": "succeeded",
        "d": "succeeded",
    }
    assert refused == []
    assert sorted(server.taken, key=len) == [b"words", b"x" * 10, b"x" * 10, b"x" * LARGE]


async def test_a_server_that_is_away_costs_no_large_result(complete):
    server = Server()
    server.up = False
    outcome = an_outcome("a", LARGE)

    async def come_back():
        while server.pings < 20:
            await asyncio.sleep(0)
        server.up = True

    back = asyncio.create_task(come_back())
    recorded, _ = await complete(server, [outcome])
    await back
    assert [outcome.kind.value for outcome in recorded] == ["succeeded"]
    assert server.taken == [b"x" * LARGE]


async def test_an_outcome_the_server_refuses_is_given_up_and_the_others_get_through(complete):
    server = Server(refuses="b")
    outcomes = [an_outcome(name) for name in "abcde"]
    recorded, refused = await complete(server, outcomes)
    assert [outcome.attempt.job_id for outcome in refused] == ["b"]
    assert sorted(outcome.attempt.job_id for outcome in recorded) == ["a", "c", "d", "e"]


async def test_a_large_result_the_server_refuses_is_replaced_by_words(complete):
    class Strict(Server):
        async def complete(self, queues, records, *, again=False):
            if any(isinstance(record, Finish) and len(record.result) > LARGE for record in records):
                raise ServerError("string exceeds maximum allowed size")
            return await super().complete(queues, records, again=again)

    server = Strict()
    recorded, refused = await complete(server, [an_outcome("a", 2 * LARGE)])
    assert [outcome.kind.value for outcome in recorded] == ["failed"]
    assert refused == []


async def test_a_server_that_hangs_is_asked_again(complete):
    server = Server()
    server.hang = 1
    recorded, _ = await complete(server, [an_outcome("a")], patience=0.01)
    assert len(recorded) == 1
    assert len(server.calls) == 2


async def test_jobs_put_back_have_no_size(complete, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 1)
    outcomes = [an_outcome(name) for name in "ab"]
    outcomes[1].record = PutBack(outcomes[1].attempt.lease, "retry", 5)
    server = Server()
    recorded, _ = await complete(server, outcomes)
    assert recorded == outcomes


@pytest.fixture
async def alone(no_pauses):
    """A running completer whose server takes an outcome that is alone at once; what was recorded, what refused."""
    server = Server()
    server.takes_one = True
    recorded: list[Outcome] = []
    refused: list[Outcome] = []
    completer = Completer(
        server, ["q"], recorded=recorded.extend, refused=refused.append, in_words=in_words, patience=60
    )
    running = asyncio.create_task(completer.run())
    await asyncio.sleep(0)
    with structlog.testing.capture_logs():
        yield completer, server, recorded, refused
    running.cancel()


async def drained(completer: Completer) -> None:
    async with asyncio.timeout(20):
        await completer.drained()


async def test_an_outcome_that_is_alone_is_sent_in_the_same_step(alone):
    completer, server, recorded, _ = alone
    for name in "ab":
        outcome = an_outcome(name)
        completer.add(outcome)
        assert len(server.begun) == len(recorded) + 1
        server.told[-1](True)
        await drained(completer)
        assert recorded[-1] is outcome
    assert server.calls == []
    assert completer.waiting == 0


async def test_the_server_may_run_once_an_outcome_that_is_alone_is_on_its_way(alone, monkeypatch):
    completer, server, _, _ = alone
    begun_by_then: list[int] = []
    monkeypatch.setattr("workers.completer._let_the_server_run", lambda: begun_by_then.append(len(server.begun)))
    completer.add(an_outcome("a"))
    assert begun_by_then == [1]
    completer.add(an_outcome("b"))
    server.told[-1](True)
    await drained(completer)
    assert len(server.calls) == 1
    assert begun_by_then == [1], "a batch is for a worker that has more to do"


async def test_outcomes_that_come_meanwhile_travel_together(alone):
    completer, server, recorded, _ = alone
    outcomes = [an_outcome(name) for name in "abc"]
    for outcome in outcomes:
        completer.add(outcome)
    assert len(server.begun) == 1
    await asyncio.sleep(0)
    assert server.calls == [], "one batch at a time"
    server.told[0](True)
    await drained(completer)
    assert [len(call) for call in server.calls] == [2]
    assert recorded == outcomes
    completer.add(an_outcome("d"))
    await drained(completer)
    assert len(server.begun) == 1, "after a batch of several one waits for the others of its step"


async def test_an_outcome_whose_lease_was_lost_is_refused(alone):
    completer, server, recorded, refused = alone
    outcome = an_outcome("a")
    completer.add(outcome)
    server.told[0](False)
    await drained(completer)
    assert (recorded, refused) == ([], [outcome])


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), ServerError("OOM command not allowed")])
async def test_an_outcome_that_was_sent_alone_in_vain_is_sent_again(alone, error):
    completer, server, recorded, _ = alone
    outcomes = [an_outcome("a"), an_outcome("b")]
    for outcome in outcomes:
        completer.add(outcome)
    server.told[0](error)
    await drained(completer)
    assert server.again == [True], "the server may have it already"
    assert recorded == outcomes


async def test_an_answer_that_does_not_come_is_asked_for_again(no_pauses):
    server = Server()
    server.takes_one = True
    recorded: list[Outcome] = []
    completer = Completer(server, ["q"], recorded=recorded.extend, refused=print, in_words=in_words, patience=0.01)
    running = asyncio.create_task(completer.run())
    outcome = an_outcome("a")
    completer.add(outcome)
    await drained(completer)
    assert recorded == [outcome]
    assert server.dropped == 1
    assert server.again == [True]
    server.told[0](True)
    await asyncio.sleep(0)
    assert recorded == [outcome], "a late answer is nobody's"
    running.cancel()


async def test_a_job_that_nothing_is_recorded_of_is_refused_as_in_a_batch(alone):
    completer, server, _, refused = alone
    outcome = an_outcome("a")
    outcome.record = None
    completer.add(outcome)
    await drained(completer)
    assert refused == [outcome]
    assert server.begun == []
