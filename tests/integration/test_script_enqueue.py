"""enqueue.lua through Store.enqueue: what it leaves in the keyspace, case by case."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import OutOfMemoryError

from common.redis.store import MOST_PER_CALL, Enqueue

AWAKE = {"due": 0}

CASES = {
    "a fresh job": (
        {},
        [Enqueue("q", "a", b"A")],
        [True],
        {"q": {"a": "now"}, "arq:job:a": b"A", "barque:wake:q": AWAKE},
    ),
    "many fresh jobs": (
        {},
        [Enqueue("q", "a", b"A"), Enqueue("q", "b", b"B")],
        [True, True],
        {"q": {"a": "now", "b": "now"}, "arq:job:a": b"A", "arq:job:b": b"B", "barque:wake:q": AWAKE},
    ),
    "two queues": (
        {},
        [Enqueue("q", "a", b"A"), Enqueue("r", "b", b"B"), Enqueue("q", "c", b"C")],
        [True, True, True],
        {
            "q": {"a": "now", "c": "now"}, "r": {"b": "now"}, "arq:job:a": b"A", "arq:job:b": b"B", "arq:job:c": b"C",
            "barque:wake:q": AWAKE, "barque:wake:r": AWAKE,
        },
    ),
    "an id of the caller's own": (
        {},
        [Enqueue("q", "a", b"A", fresh=False)],
        [True],
        {"q": {"a": "now"}, "arq:job:a": b"A", "barque:wake:q": AWAKE},
    ),
    "a delayed job wakes a worker when it is the first one, so that its sleep gets shorter": (
        {},
        [Enqueue("q", "a", b"A", fresh=False, delay_ms=60_000)],
        [True],
        {"q": {"a": "now+60s"}, "arq:job:a": b"A", "barque:wake:q": AWAKE},
    ),
    "a delayed job behind another wakes nobody": (
        {"q": {"z": "now+30s"}},
        [Enqueue("q", "a", b"A", fresh=False, delay_ms=60_000)],
        [True],
        {"q": {"z": "now+30s", "a": "now+60s"}, "arq:job:a": b"A"},
    ),
    "a delayed job before another does": (
        {"q": {"z": "now+90s"}},
        [Enqueue("q", "a", b"A", fresh=False, delay_ms=60_000)],
        [True],
        {"q": {"z": "now+90s", "a": "now+60s"}, "arq:job:a": b"A", "barque:wake:q": AWAKE},
    ),
    "a job due at a time of the past is due": (
        {"q": {"z": 3}},
        [Enqueue("q", "a", b"A", fresh=False, at_ms=5)],
        [True],
        {"q": {"z": 3, "a": 5}, "arq:job:a": b"A", "barque:wake:q": AWAKE},
    ),
    "at_ms goes before delay_ms": (
        {},
        [Enqueue("q", "a", b"A", fresh=False, delay_ms=60_000, at_ms=5)],
        [True],
        {"q": {"a": 5}, "arq:job:a": b"A", "barque:wake:q": AWAKE},
    ),
    "a job that expires, and stays known of after that by its count of attempts": (
        {},
        [Enqueue("q", "a", b"A", fresh=False, expires_ms=60_000)],
        [True],
        {"q": {"a": "now"}, "arq:job:a": (b"A", "60s"), "arq:retry:a": b"0", "barque:wake:q": AWAKE},
    ),
    **{
        f"an id of before inherits nothing: {kind}": (
            {
                "q": {"a": 5}, "arq:retry:a": b"3", "arq:abort": {"a": 1, "b": 2}, "barque:result:a": b"old",
                "barque:result:b": b"B", "barque:attempts:a": [b"old"],
            },
            [Enqueue("q", "a", b"A", fresh=False, expires_ms=expires_ms)],
            [True],
            {
                "q": {"a": "now"}, **left, "arq:abort": {"b": 2}, "barque:result:b": b"B", "barque:wake:q": AWAKE,
            },
        )
        for kind, expires_ms, left in [
            ("for good", 0, {"arq:job:a": b"A"}),
            ("expiring", 60_000, {"arq:job:a": (b"A", "60s"), "arq:retry:a": b"0"}),
        ]
    },
    "an id that is taken keeps its count and the wish to abort it": (
        {"q": {"a": 5}, "arq:job:a": b"A", "arq:retry:a": b"3", "arq:abort": {"a": 1}},
        [Enqueue("q", "a", b"B", fresh=False)],
        [False],
        {"q": {"a": 5}, "arq:job:a": b"A", "arq:retry:a": b"3", "arq:abort": {"a": 1}},
    ),
    "ids that are no UTF-8": (
        {},
        [Enqueue("q", "b\udcfe", b"A", fresh=False), Enqueue("q", "a\udcff", b"B")],
        [True, True],
        {"q": {"b\udcfe": "now", "a\udcff": "now"}, "arq:job:b\udcfe": b"A", "arq:job:a\udcff": b"B",
         "barque:wake:q": AWAKE},
    ),
    "an id that waits already is left alone": (
        {"q": {"a": "now+30s"}, "arq:job:a": b"old"},
        [Enqueue("q", "a", b"A", fresh=False)],
        [False],
        {"q": {"a": "now+30s"}, "arq:job:a": b"old"},
    ),
    "an id that waits in another queue is taken too": (
        {"r": {"a": "now"}, "arq:job:a": b"old"},
        [Enqueue("q", "a", b"A", fresh=False)],
        [False],
        {"r": {"a": "now"}, "arq:job:a": b"old"},
    ),
    "an id whose result is kept is taken": (
        {"arq:result:a": (b"R", "60s")},
        [Enqueue("q", "a", b"A", fresh=False)],
        [False],
        {"arq:result:a": (b"R", "60s")},
    ),
    "an id that runs, its payload expired meanwhile, is taken: its end would delete the new job": (
        {"q": {"a": "now+10s"}, "arq:in-progress:a": (b"w:1:1", "10s")},
        [Enqueue("q", "a", b"A", fresh=False)],
        [False],
        {"q": {"a": "now+10s"}, "arq:in-progress:a": (b"w:1:1", "10s")},
    ),
    "an ended cron tick's id is taken": (
        {"arq:in-progress:a": (b"done", "60s")},
        [Enqueue("q", "a", b"A", fresh=False)],
        [False],
        {"arq:in-progress:a": (b"done", "60s")},
    ),
    "an id whose job expired in the queue is free again": (
        {"q": {"a": 5}},
        [Enqueue("q", "a", b"A", fresh=False)],
        [True],
        {"q": {"a": "now"}, "arq:job:a": b"A", "barque:wake:q": AWAKE},
    ),
    "the same id twice in one call is added once": (
        {},
        [Enqueue("q", "a", b"1", fresh=False), Enqueue("q", "a", b"2", fresh=False)],
        [True, False],
        {"q": {"a": "now"}, "arq:job:a": b"1", "barque:wake:q": AWAKE},
    ),
    "fresh and other jobs, answered in the order given": (
        {"arq:job:b": b"old"},
        [Enqueue("q", "a", b"A"), Enqueue("q", "b", b"B", fresh=False), Enqueue("q", "c", b"C"),
         Enqueue("q", "d", b"D", fresh=False, delay_ms=60_000)],
        [True, False, True, True],
        {"q": {"a": "now", "c": "now", "d": "now+60s"}, "arq:job:a": b"A", "arq:job:b": b"old", "arq:job:c": b"C",
         "arq:job:d": b"D", "barque:wake:q": AWAKE},
    ),
    "a marker is one member, however often it is set": (
        {"barque:wake:q": AWAKE},
        [Enqueue("q", "a", b"A")],
        [True],
        {"q": {"a": "now"}, "arq:job:a": b"A", "barque:wake:q": AWAKE},
    ),
    "nothing": ({}, [], [], {}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_enqueue(case, keyspace, store):
    before, jobs, added, after = CASES[case]
    await keyspace.seed(before)
    assert await store.enqueue(jobs) == added
    assert await keyspace.dump() == after


async def test_jobs_of_one_call_keep_their_order_and_carry_the_servers_time(keyspace, store, redis):
    ids = [f"{n:032x}" for n in range(100)]
    before = await keyspace.now_ms()
    await store.enqueue([Enqueue("q", job_id, b"x") for job_id in ids])
    after = await keyspace.now_ms()
    stored = await redis.zrange("q", 0, -1, withscores=True)
    assert [member.decode() for member, _ in stored] == ids
    assert {before <= score <= after for _, score in stored} == {True}
    assert len({score for _, score in stored}) == 1


@pytest.mark.parametrize("count", [MOST_PER_CALL - 1, MOST_PER_CALL, MOST_PER_CALL + 1, 2 * MOST_PER_CALL + 1])
@pytest.mark.parametrize("fresh", [True, False])
async def test_more_jobs_than_one_call_holds(count, fresh, keyspace, store, redis):
    jobs = [Enqueue("q", f"{n}", b"x", fresh=fresh) for n in range(count)]
    assert await store.enqueue(jobs) == [True] * count
    assert await redis.zcard("q") == count
    assert await redis.dbsize() == count + 2


@pytest.mark.parametrize("fresh", [True, False])
async def test_a_full_server_takes_no_more_jobs_and_nothing_of_one(fresh, keyspace, store, full):
    before = {"q": {"a": 5}, "arq:retry:a": b"3", "arq:abort": {"a": 1}}
    await keyspace.seed(before)
    await full()
    (answer,) = await store.enqueue([Enqueue("q", "a", b"A", fresh=fresh)])
    assert isinstance(answer, OutOfMemoryError)
    assert await keyspace.dump() == before


async def test_no_call_carries_more_than_some_megabytes(keyspace, store, redis):
    await store.enqueue([Enqueue("q", "warm", b"")])
    await redis.config_resetstat()
    jobs = [Enqueue("q", f"{n}", b"x" * 2_000_000, fresh=n % 2 == 0) for n in range(10)]
    assert await store.enqueue(jobs) == [True] * 10
    assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] == 3
    assert await redis.zcard("q") == 11


async def test_a_key_of_a_foreign_type_is_an_error_and_nothing_is_added(keyspace, store):
    await keyspace.seed({"q": b"a string"})
    for fresh in (False, True):
        (answer,) = await store.enqueue([Enqueue("q", "a", b"A", fresh=fresh)])
        assert "WRONGTYPE" in str(answer)
        assert await keyspace.dump() == {"q": b"a string"}


async def test_binary_payloads_and_odd_ids_are_kept_as_they_are(keyspace, store):
    payload = bytes(range(256)) * 3
    await store.enqueue([Enqueue("q:ü", "id/ü:1", payload, fresh=False)])
    assert await keyspace.dump() == {
        "q:ü": {"id/ü:1": "now"}, "arq:job:id/ü:1": payload, "barque:wake:q:ü": {"due": 0},
    }  # fmt: skip


jobs = st.builds(
    lambda job_id, queue, payload, fresh, delay, at, expires: (
        Enqueue(queue, f"fresh-{job_id}-{payload.hex()}", payload)
        if fresh
        else Enqueue(queue, job_id, payload, False, delay * 20_000, at, expires * 20_000)
    ),
    st.sampled_from("abcdef"),
    st.sampled_from(["q", "r"]),
    st.binary(min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 3),
    st.sampled_from([0, 0, 7, 10**14]),
    st.sampled_from([0, 0, 5]),
)
before = st.fixed_dictionaries(
    {},
    optional={
        "arq:job:q-a": st.just(b"old"),
        "arq:result:q-b": st.just(b"R"),
        "arq:in-progress:q-c": st.just((b"w:1:1", "60s")),
        "q": st.just({"q-a": 5, "q-e": "now+40s"}),
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    state=before,
    batch=st.lists(jobs, max_size=8, unique_by=lambda job: (job.queue, job.job_id) if job.fresh else object()),
)
async def test_a_batch_of_n_is_n_batches_of_one(keyspace, store, state, batch):
    # Within a call fresh jobs go first, and a call holds one queue; ids of both kinds and queues never meet.
    batch = [job if job.fresh else msgspec.structs.replace(job, job_id=f"{job.queue}-{job.job_id}") for job in batch]
    await keyspace.clear()
    await keyspace.seed(state)
    together = await store.enqueue(batch), await keyspace.dump()
    await keyspace.clear()
    await keyspace.seed(state)
    apart = [added for job in batch for added in await store.enqueue([job])], await keyspace.dump()
    assert together == apart
