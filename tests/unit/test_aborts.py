"""workers/aborts.py: a wish finds the attempt it is about, however it comes, and never another of the same id."""

import pytest

from common.codec import Payload
from common.redis.records import Claimed, HeldLease
from workers.aborts import Aborts
from workers.attempt import Attempt

ENQUEUED = 1_790_000_000_000


def an_attempt(job_id="a", *, token="w:1:1", enqueued_ms=ENQUEUED) -> Attempt:
    attempt = Attempt(Claimed(job_id, b"", 1, 0, 0.0, 0, token), "q")
    attempt.payload = Payload("task", b"", b"", enqueued_ms)
    return attempt


class Bench:
    def __init__(self) -> None:
        self.held: dict[str, Attempt] = {"a": an_attempt()}
        self.stopped: list[Attempt] = []
        self.aborts = Aborts("w", self.held, self.stopped.append)
        self.wishes: dict[str, float] = {}
        self.on_look = lambda: None

    async def aborting(self, job_ids):
        self.on_look()
        return {job_id: wish for job_id, wish in self.wishes.items() if job_id in job_ids}


@pytest.fixture
async def bench():
    return Bench()


async def test_an_order_names_the_attempt(bench):
    bench.aborts.order("w:1:1", "a")
    assert bench.stopped == [bench.held["a"]]


@pytest.mark.parametrize("token", ["w:1:2", "w:2:1", "v:1:1", "1", ""])
async def test_an_order_about_another_attempt_of_the_id_is_left_alone(token, bench):
    bench.aborts.order(token, "a")
    assert bench.stopped == []


async def test_an_order_that_overtakes_its_job_is_kept_for_it(bench):
    bench.aborts.order("w:1:2", "b")
    others = [Claimed("b", b"", 1, 0, 0.0, 0, "w:1:1"), Claimed("c", b"", 1, 0, 0.0, 0, "w:1:2")]
    b, c = bench.aborts.overtaken(others)
    assert (b.aborted, c.aborted > 0) == (0.0, True)
    assert bench.aborts.early == {}


async def test_orders_for_others_are_not_kept(bench):
    bench.aborts.order("v:1:1", "b")
    bench.aborts.order("ww:1:1", "b")
    assert bench.aborts.early == {}


async def test_no_more_orders_are_kept_than_may_be_meant(bench):
    for number in range(2000):
        bench.aborts.order(f"w:1:{number + 5}", "b")
    assert len(bench.aborts.early) == 1000


@pytest.mark.parametrize(
    ("wish", "stops"),
    [(ENQUEUED + 5, True), (ENQUEUED, True), (ENQUEUED - 1, False), (1, False), (1.25, True), (ENQUEUED + 0.25, True)],
)
async def test_a_wish_that_is_older_than_the_job_does_not_mean_it_unless_it_says_so(wish, stops, bench):
    bench.wishes = {"a": wish}
    await bench.aborts.look(bench)
    assert bool(bench.stopped) is stops
    bench.stopped.clear()
    bench.aborts.renewed([(HeldLease(0, "a", "w:1:1", 1), wish)])
    assert bool(bench.stopped) is stops


async def test_a_job_that_came_in_place_of_the_one_asked_about_is_left_alone(bench):
    bench.wishes = {"a": 1.25}
    bench.on_look = lambda: bench.held.update(a=an_attempt(token="w:1:9"))
    await bench.aborts.look(bench)
    assert bench.stopped == []
    bench.aborts.renewed([(HeldLease(0, "a", "w:1:1", 1), 1.25)])
    assert bench.stopped == []


async def test_a_job_whose_payload_is_not_read_yet_is_aborted(bench):
    bench.held["a"].payload = None
    bench.wishes = {"a": 1}
    await bench.aborts.look(bench)
    assert bench.stopped == [bench.held["a"]]
