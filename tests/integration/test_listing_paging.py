"""Paging while others work: what is there all the while is on a page, whatever comes, goes and moves around it."""

from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.codec import encode_job
from producer import Producer

QUEUE = "arq:queue"
PAYLOAD = encode_job("t", (), {}, enqueued_ms=1)
IDS = [f"{index:02}" for index in range(24)]
LATER = 10**14
PLACES = st.sampled_from([1, 2, 3, 3.5, LATER, LATER + 1])
"""Few scores, so that many jobs share one."""


@dataclass
class World:
    """What is stored, for a way of listing: how a job is added there, and taken away."""

    client: object
    scores: dict[str, float] = field(default_factory=dict)

    async def put(self, job_id: str, score: float) -> None:
        self.scores[job_id] = score
        await self.client.zadd(QUEUE, {job_id: score})
        await self.client.set("arq:job:" + job_id, PAYLOAD)

    async def take(self, job_id: str) -> None:
        self.scores.pop(job_id, None)
        await self.client.zrem(QUEUE, job_id)
        await self.client.delete("arq:job:" + job_id)


STEPS = st.lists(st.tuples(st.sampled_from(["put", "take"]), st.sampled_from(IDS), PLACES), max_size=6)


@given(
    begin=st.dictionaries(st.sampled_from(IDS), PLACES, min_size=4),
    turns=st.lists(STEPS, max_size=12),
    limit=st.integers(1, 5),
    filtered=st.booleans(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_job_that_keeps_its_place_is_on_a_page(begin, turns, limit, filtered, keyspace, redis_url):
    await keyspace.clear()
    world = World(keyspace.client)
    for job_id, score in begin.items():
        await world.put(job_id, score)
    kept, found, cursor = set(begin), [], None
    filters = {"state": ["queued", "scheduled"], "limit": limit} | ({"task": "t"} if filtered else {})
    async with Producer(redis_url) as producer:
        for steps in [*turns, *[[]] * len(IDS)]:
            page = await producer.jobs(cursor=cursor, **filters)
            assert len(page.jobs) <= limit
            found += [info.job_id for info in page.jobs]
            cursor = page.next
            if cursor is None:
                break
            for word, job_id, score in steps:
                if word == "put" and world.scores.get(job_id) != score:
                    await world.put(job_id, score)
                    kept.discard(job_id)
                elif word == "take":
                    await world.take(job_id)
                    kept.discard(job_id)
    assert cursor is None
    assert kept <= set(found)
    assert all(found.count(job_id) == 1 for job_id in kept)


@given(
    kept=st.sets(st.integers(0, 600), min_size=1),
    churn=st.lists(st.tuples(st.sampled_from(["add", "remove"]), st.integers(1000, 3000)), max_size=20),
    where=st.sampled_from(["results", "lanes"]),
    limit=st.sampled_from([3, 50]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_and_so_it_is_where_there_is_no_order(kept, churn, where, limit, keyspace, redis_url):
    """Keys and fields of a hash: the server's own tables grow and shrink meanwhile."""
    await keyspace.clear()
    client = keyspace.client

    async def add(numbers) -> None:
        if where == "results":
            await client.mset({f"arq:result:{number}": b"x" for number in numbers})
        else:
            await client.hset("barque:laned:" + QUEUE, mapping={str(number): b"lane" for number in numbers})

    async def remove(numbers) -> None:
        if where == "results":
            await client.delete(*(f"arq:result:{number}" for number in numbers))
        else:
            await client.hdel("barque:laned:" + QUEUE, *map(str, numbers))

    await add(kept)
    found, cursor, steps = set(), None, iter(churn)
    filters = {"state": "ended" if where == "results" else "queued", "limit": limit}
    async with Producer(redis_url) as producer:
        while True:
            page = await producer.jobs(cursor=cursor, **filters)
            found |= {int(info.job_id) for info in page.jobs}
            cursor = page.next
            if cursor is None:
                break
            word, first = next(steps, ("", 0))
            if word:
                await (add if word == "add" else remove)(range(first, first + 300))
    assert kept <= found
