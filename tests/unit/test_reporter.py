"""workers/reporter.py without a server: what goes on the wire when, what waits, what is given up."""

import asyncio
import threading
from types import SimpleNamespace

import pytest
import structlog
from redis.exceptions import ConnectionError as Gone
from redis.exceptions import NoPermissionError

from common import Context
from common.codec import MSGPACK_ONLY
from common.errors import BarqueError, RedisUnavailable, StreamFull
from common.progress import StreamLimits, decode_item, decode_progress
from common.redis.store import Finish, HeldLease, PutBack
from workers import reporter as module
from workers.clock import ServerClock
from workers.reporter import Reporter


class FakeStore:
    """Keeps what it was sent; waits, fails or refuses as it is told."""

    def __init__(self) -> None:
        self.calls: list[list] = []
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()
        self.errors: list[Exception | None] = []
        self.refused: set[str] = set()
        self.lost: set[str] = set()

    async def report(self, reports):
        self.calls.append([report._replace(items=list(report.items)) for report in reports])
        self.asked.set()
        await self.open.wait()
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        if any(report.job_id in self.refused for report in reports):
            raise NoPermissionError("no permissions to access a key")
        return [report.job_id not in self.lost for report in reports]

    def items(self, job_id: str = "a") -> list:
        """Return the values of a job's items as a server would have them."""
        found = {}
        for call in self.calls:
            for report in call:
                if report.job_id == job_id:
                    found |= dict(enumerate(report.items, report.first))
        return [decode_item(raw, number, job_id).value for number, raw in sorted(found.items())]

    def progress(self, job_id: str = "a") -> list:
        return [
            decode_progress(report.progress).done
            for call in self.calls
            for report in call
            if report.job_id == job_id and report.progress is not None
        ]


class Attempt:
    """What the reporter looks at of an attempt."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.number = 1
        self.lease = HeldLease(0, job_id, "w:1:1", 1)
        self.finished = False
        self.task_name = "t"


@pytest.fixture
async def made():
    store, held = FakeStore(), {job_id: Attempt(job_id) for job_id in ("a", "b")}
    reporter = Reporter(
        store, held, clock=ServerClock(), reading=MSGPACK_ONLY, limits=StreamLimits(items=5000), patience=30
    )

    def context(job_id: str = "a") -> Context:
        return Context(job_id=job_id, outlets=reporter.outlet)

    yield SimpleNamespace(store=store, reporter=reporter, held=held, context=context)
    reporter.close()


async def end(made, job_id: str = "a", record=None) -> None:
    """End an attempt and wait until its outcome may be recorded."""
    ended = asyncio.Event()
    record = record or Finish(made.held[job_id].lease, b"R", 90_000)
    made.held[job_id].finished = True
    made.reporter.last_words(SimpleNamespace(attempt=made.held[job_id], record=record), ended.set)
    async with asyncio.timeout(20):
        await ended.wait()


async def test_the_first_goes_at_once_and_the_last_before_the_outcome(made):
    context = made.context()
    context.progress(0, 10)
    async with asyncio.timeout(20):
        await made.store.asked.wait()
    for number in range(1, 11):
        context.progress(number, 10)
    await end(made)
    assert made.store.progress()[0] == 0
    assert made.store.progress()[-1] == 10
    assert len(made.store.calls) <= 3


async def test_between_two_there_is_time(made, monkeypatch):
    monkeypatch.setattr(module, "_LEAST_BETWEEN", 0.05)
    context = made.context()
    loop = asyncio.get_running_loop()
    number, began = 0, loop.time()
    while loop.time() < began + 0.5:
        number += 1
        context.progress(number)
        await asyncio.sleep(0)
    # Never more than the rate allows, however slow this machine is.
    assert 2 <= len(made.store.calls) <= (loop.time() - began) / 0.05 + 2
    await end(made)
    assert made.store.progress()[-1] == number


async def test_an_attempt_that_says_nothing_has_no_report(made):
    made.context()
    assert made.reporter.reports == {}
    await end(made)
    assert made.store.calls == []


async def test_all_jobs_share_a_batch(made):
    made.store.open.clear()
    made.context("a").progress(1)
    async with asyncio.timeout(20):
        await made.store.asked.wait()
    first, second = made.context("a"), made.context("b")
    await first.emit("x")
    await second.emit("y")
    second.progress(2)
    made.store.open.set()
    await asyncio.gather(end(made, "a"), end(made, "b"))
    assert {report.job_id for report in made.store.calls[1]} == {"a", "b"}
    assert (made.store.items("a"), made.store.items("b")) == (["x"], ["y"])


async def test_emit_waits_when_much_is_unsent(made):
    made.store.open.clear()
    context = made.context()
    emitted = 0

    async def flood() -> None:
        nonlocal emitted
        for number in range(2500):
            await context.emit(number)
            emitted += 1

    flooding = asyncio.create_task(flood())
    async with asyncio.timeout(20):
        await made.store.asked.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert emitted == 1000
    made.store.open.set()
    async with asyncio.timeout(20):
        await flooding
    await end(made)
    assert made.store.items() == list(range(2500))


async def test_large_items_wait_by_their_bytes_and_go_in_several_calls(made):
    made.store.open.clear()
    context = made.context()
    emitting = asyncio.create_task(emit_all(context, [b"x" * 900_000] * 7))
    async with asyncio.timeout(20):
        await made.store.asked.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not emitting.done()
    made.store.open.set()
    async with asyncio.timeout(20):
        await emitting
    await end(made)
    assert len(made.store.items()) == 7
    assert max(sum(map(len, report.items)) for call in made.store.calls for report in call) < 2_000_000


async def emit_all(context: Context, values) -> None:
    for value in values:
        await context.emit(value)


async def test_what_is_no_progress_is_logged_once_and_the_next_that_is_one_goes_out(made, monkeypatch):
    monkeypatch.setattr(module, "_LEAST_BETWEEN", 0.0)
    context = made.context()
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            made.store.asked.clear()
            context.progress("much")
            async with asyncio.timeout(20):
                await made.store.asked.wait()
            await asyncio.sleep(0)
        context.progress(4)
        await end(made)
    assert made.store.progress() == [4]
    assert [line["event"] for line in lines] == ["progress_refused"]


async def test_while_the_server_is_away_the_newest_and_all_items_wait(made):
    made.store.errors = [Gone("away"), Gone("away")]
    context = made.context()
    with structlog.testing.capture_logs() as lines:
        context.progress(1)
        await context.emit("x")
        async with asyncio.timeout(20):
            await made.store.asked.wait()
        context.progress(2)
        await context.emit("y")
        await end(made)
    assert made.store.items() == ["x", "y"]
    assert made.store.progress()[-1] == 2
    assert [line["event"] for line in lines] == ["progress_waits", "progress_waits"]


async def test_what_one_job_is_refused_keeps_no_other_back_nor_its_outcome(made):
    made.store.refused = {"a"}
    context = made.context("a")
    with structlog.testing.capture_logs() as lines:
        await context.emit("x")
        await made.context("b").emit("y")
        async with asyncio.timeout(20):
            while made.store.items("b") != ["y"] or not lines:
                await asyncio.sleep(0)
        with pytest.raises(RedisUnavailable, match="the items of job a cannot be sent: the ACL user may not do this"):
            await context.emit("more")
        context.progress(1)
        await end(made, "a")
        await end(made, "b")
    said = [line for line in lines if line["event"] == "progress_not_sent"]
    assert (said[0]["job_id"], said[0]["items"]) == ("a", 1)


async def test_who_waits_to_emit_is_told_when_the_lease_is_lost(made):
    made.store.open.clear()
    made.store.lost = {"a"}
    emitting = asyncio.create_task(emit_all(made.context(), range(2000)))
    async with asyncio.timeout(20):
        await made.store.asked.wait()
    made.store.open.set()
    with pytest.raises(BarqueError, match="lost its lease"):
        await asyncio.wait_for(emitting, 20)
    made.context().progress(5)  # and this reaches nobody
    ended = asyncio.Event()
    made.reporter.last_words(SimpleNamespace(attempt=made.held["a"], record=None), ended.set)
    assert ended.is_set()
    assert made.reporter.reports == {}


async def test_an_attempt_that_is_over_has_no_outlet(made):
    context = made.context()
    made.held["a"].finished = True
    context.progress(1)
    with pytest.raises(BarqueError, match="has ended"):
        await context.emit("x")
    assert made.reporter.reports == {}


async def test_the_limits_are_the_workers(made):
    context = made.context()
    await emit_all(context, range(5000))
    with pytest.raises(StreamFull, match="job a: its stream has 5,000 items"):
        await context.emit("one more")
    await end(made)
    assert len(made.store.items()) == 5000


LEASE = HeldLease(0, "a", "w:1:1", 1)


@pytest.mark.parametrize(
    ("record", "least", "most"),
    [
        (Finish(LEASE, b"R", 90_000), 90_000, 90_000),
        (Finish(LEASE, b"R", 0), 60_000, 60_000),
        (Finish(LEASE, b"R", -1), -1, -1),
        (PutBack(LEASE, "retry", 7_200_000), 10_800_000, 10_800_000),
        (PutBack(LEASE, "release", 5), 3_600_000, 3_600_000),
        (PutBack(LEASE, "return", "1234.5"), 3_600_000, 3_600_000),
    ],
)
async def test_what_was_said_is_kept_as_long_as_it_is_of_use(made, record, least, most):
    made.context().progress(1)
    await end(made, record=record)
    assert least <= made.store.calls[-1][-1].keep_ms <= most


async def test_a_job_put_off_for_long_keeps_it_until_then(made):
    made.context().progress(1)
    due = ServerClock().now_ms() + 10 * 86_400_000
    await end(made, record=PutBack(LEASE, "release", due))
    assert made.store.calls[-1][-1].keep_ms > 9 * 86_400_000


async def test_while_it_runs_what_it_said_is_renewed(made, monkeypatch):
    monkeypatch.setattr(module, "_REFRESH_EVERY", 0.02)
    made.context().progress(1)
    async with asyncio.timeout(20):
        while len(made.store.calls) < 4:
            await asyncio.sleep(0.001)
    assert [report.progress for call in made.store.calls[1:] for report in call] == [None] * (len(made.store.calls) - 1)
    await end(made)


async def test_from_another_thread(made):
    context = made.context()

    def work() -> None:
        for number in range(1000):
            context.progress(number)

    thread = threading.Thread(target=work)
    thread.start()
    async with asyncio.timeout(20):
        await made.store.asked.wait()
    await asyncio.to_thread(thread.join)
    await end(made)
    assert made.store.progress()[-1] == 999


async def test_a_sender_cancelled_with_all_tasks_of_the_loop_still_has_its_last_words(made):
    made.store.open.clear()
    await made.context().emit("x")
    async with asyncio.timeout(20):
        await made.store.asked.wait()
    made.reporter._sender.cancel()
    made.store.open.set()
    await end(made)
    assert made.store.items() == ["x"]


async def test_after_its_close_nothing_is_sent(made):
    made.reporter.close()
    made.context().progress(1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert made.store.calls == []
