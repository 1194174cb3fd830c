"""A reply that never came: what is sent again is recorded once, and is not called lost."""

import asyncio
from types import SimpleNamespace

import pytest
from redis.exceptions import ConnectionError as Gone
from redis.exceptions import ResponseError

from common.errors import RedisUnavailable
from common.redis.store import Enqueue, Finish, HeldLease, Store
from common.tasks import Call
from producer import Producer
from workers.completer import Completer


class DeafStore(Store):
    """A store whose first replies are lost on the way, though the server did what it was told."""

    deaf = 1

    async def complete(self, *args, **kwargs):
        refusals = await super().complete(*args, **kwargs)
        if self.deaf:
            self.deaf -= 1
            raise Gone("cut")
        return refusals


@pytest.fixture
async def completer(redis):
    """A completer over a deaf store, and what it reported."""
    recorded, refused = [], []
    made = Completer(
        DeafStore(redis),
        ("q",),
        recorded=recorded.extend,
        refused=refused.append,
        in_words=lambda outcome, error: None,
        patience=60,
    )
    running = asyncio.create_task(made.run())
    yield made, recorded, refused
    running.cancel()
    await asyncio.wait({running})


@pytest.mark.parametrize("keep_ms", [0, 60_000])
async def test_an_outcome_whose_reply_was_lost_is_recorded_and_not_lost(keep_ms, completer, keyspace):
    made, recorded, refused = completer
    await keyspace.seed({"q": {"a": "now+10s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:1:1", "10s")})
    lease = HeldLease(0, "a", "w:1:1", 1)
    outcome = SimpleNamespace(record=Finish(lease, b"R", keep_ms), attempt=SimpleNamespace(job_id="a"))
    made.add(outcome)
    async with asyncio.timeout(20):
        await made.drained()
    assert (recorded, refused) == ([outcome], [])


async def test_the_batch_after_one_sent_again_is_sent_for_the_first_time(completer, keyspace):
    made, recorded, refused = completer
    lease = HeldLease(0, "a", "w:1:1", 1)
    first, late = (
        SimpleNamespace(record=record, attempt=SimpleNamespace(job_id="a"))
        for record in (Finish(lease, b"R", 60_000), Finish(lease, b"R", 60_000))
    )
    await keyspace.seed({"q": {"a": "now+10s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:1:1", "10s")})
    for outcome in (first, late):
        made.add(outcome)
        async with asyncio.timeout(20):
            await made.drained()
    assert (recorded[0], refused) == (first, [late])


async def test_jobs_enqueued_together_fail_apart(redis_url, keyspace):
    await keyspace.seed({"bad": b"a string"})
    async with Producer(redis_url) as producer:
        good, bad = await asyncio.gather(
            producer.enqueue(Call("f"), queue="good", job_id="a"),
            producer.enqueue(Call("f"), queue="bad", job_id="b"),
            return_exceptions=True,
        )
    assert good.is_new
    assert isinstance(bad, RedisUnavailable)
    assert "did not take 1 job" in str(bad)
    assert "WRONGTYPE" in str(bad)


async def test_the_store_answers_for_each_job_by_itself(store, keyspace):
    await keyspace.seed({"bad": b"a string"})
    answers = await store.enqueue(
        [Enqueue("good", "a", b"A", False), Enqueue("bad", "b", b"B"), Enqueue("good", "c", b"C")]
    )
    assert isinstance(answers.pop(1), ResponseError)
    assert answers == [True, True]
