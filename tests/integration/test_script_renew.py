"""renew.lua through Store.renew and BlockingStore.renew: leases extended, lost, to be aborted."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.redis.connection import blocking_twin
from common.redis.store import BlockingStore, HeldLease, Renewal


def lease(job_id="a", token="w:1:1", queue=0):
    return HeldLease(queue, job_id, token, 1)


HELD = {"q": {"a": "now+10s"}, "arq:in-progress:a": (b"w:1:1", "10s"), "arq:job:a": b"A"}
RENEWED = {"q": {"a": "lease+60s"}, "arq:in-progress:a": (b"w:1:1", "60s"), "arq:job:a": b"A"}

CASES = {
    "nothing held": ({}, [], Renewal([], []), {}),
    "held: lease and score move on": (HELD, [lease()], Renewal([], []), RENEWED),
    "another's is left alone": (
        {**HELD, "arq:in-progress:a": (b"v:2:1", "10s")},
        [lease()],
        Renewal([lease()], []),
        {**HELD, "arq:in-progress:a": (b"v:2:1", "10s")},
    ),
    "a stock arq worker's is left alone": (
        {**HELD, "arq:in-progress:a": (b"1", "300s")},
        [lease()],
        Renewal([lease()], []),
        {**HELD, "arq:in-progress:a": (b"1", "300s")},
    ),
    "gone is lost, and nothing comes back": ({"q": {"a": 5}}, [lease()], Renewal([lease()], []), {"q": {"a": 5}}),
    "to be aborted is renewed as well: its worker still has to record the end": (
        {**HELD, "arq:abort": {"a": 5, "b": 6}},
        [lease()],
        Renewal([], [(lease(), 5.0)]),
        {**RENEWED, "arq:abort": {"a": 5, "b": 6}},
    ),
    "lost and to be aborted is lost": (
        {"arq:abort": {"a": 5}}, [lease()], Renewal([lease()], []), {"arq:abort": {"a": 5}},
    ),
    "a job that left its queue is not put back": (
        {"arq:in-progress:a": (b"w:1:1", "10s")}, [lease()], Renewal([], []), {"arq:in-progress:a": (b"w:1:1", "60s")},
    ),
    "many, in two queues": (
        {
            "q": {"a": "now+10s", "b": "now+10s"}, "r": {"c": "now+10s"}, "arq:in-progress:a": (b"w:1:1", "10s"),
            "arq:in-progress:b": (b"v:1:1", "10s"), "arq:in-progress:c": (b"w:1:2", "10s"), "arq:abort": {"c": 1},
        },
        [lease("a"), lease("b"), lease("c", "w:1:2", 1)],
        Renewal([lease("b")], [(lease("c", "w:1:2", 1), 1.0)]),
        {
            "q": {"a": "lease+60s", "b": "now+10s"}, "r": {"c": "lease+60s"}, "arq:in-progress:a": (b"w:1:1", "60s"),
            "arq:in-progress:b": (b"v:1:1", "10s"), "arq:in-progress:c": (b"w:1:2", "60s"), "arq:abort": {"c": 1},
        },
    ),
}  # fmt: skip


@pytest.fixture(params=["asyncio", "blocking"])
def renew(request, store, redis):
    """Store.renew and BlockingStore.renew are one thing over two kinds of connection."""
    if request.param == "asyncio":
        yield store.renew
        return
    blocking = BlockingStore(blocking_twin(redis))

    async def in_thread(*args, **kwargs):
        return await asyncio.to_thread(blocking.renew, *args, **kwargs)

    yield in_thread
    blocking.close()


@pytest.mark.parametrize("case", CASES)
async def test_renew(case, keyspace, renew):
    before, leases, renewal, after = CASES[case]
    await keyspace.seed(before)
    assert await renew(("q", "r"), leases, lease_ms=60_000) == renewal
    assert await keyspace.dump() == after


async def test_the_score_stands_one_ms_past_the_lease_so_that_who_sees_it_due_finds_the_lease_gone(
    keyspace, store, redis
):
    await keyspace.seed(HELD)
    await store.renew(("q",), [lease()], lease_ms=60_000)
    if int((await redis.info("server"))["redis_version"].split(".")[0]) < 7:
        pytest.skip("PEXPIRETIME came with Redis 7")
    assert await redis.zscore("q", "a") > await redis.pexpiretime("arq:in-progress:a")


@pytest.mark.parametrize("count", [1000, 1001, 2001])
async def test_more_leases_than_one_call_holds(count, keyspace, renew, redis):
    await redis.mset({f"arq:in-progress:{n}": b"w:1:1" for n in range(1, count)})
    renewal = await renew(("q",), [lease(f"{n}") for n in range(count)], lease_ms=60_000)
    assert renewal == Renewal([lease("0")], [])
    assert await redis.pttl(f"arq:in-progress:{count - 1}") > 0


async def test_ids_that_are_no_utf8_are_renewed_too(keyspace, renew, redis):
    await redis.set(b"arq:in-progress:\xff", b"w:1:1")
    assert await renew(("q",), [lease("\udcff")], lease_ms=60_000) == Renewal([], [])
    assert await redis.pttl(b"arq:in-progress:\xff") > 0


IDS = "abcde"
STATES = st.fixed_dictionaries(
    {
        **{
            f"arq:in-progress:{name}": st.sampled_from([None, (b"w:1:1", "20s"), (b"v:1:1", "20s"), (b"done", "20s")])
            for name in IDS
        },
        "q": st.dictionaries(st.sampled_from(IDS), st.sampled_from([5, "now+20s"])),
        "r": st.dictionaries(st.sampled_from(IDS), st.sampled_from([5, "now+20s"])),
        "arq:abort": st.dictionaries(st.sampled_from(IDS), st.just(7)),
    }
).map(lambda state: {key: value for key, value in state.items() if value})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    state=STATES,
    batch=st.lists(
        st.builds(lease, st.sampled_from(IDS), st.sampled_from(["w:1:1", "w:2:1"]), st.integers(0, 1)), max_size=8
    ),
)
async def test_a_batch_of_n_is_n_batches_of_one(keyspace, store, state, batch):
    async def after(batches):
        await keyspace.clear()
        await keyspace.seed(state)
        renewals = [await store.renew(("q", "r"), part, lease_ms=60_000) for part in batches]
        lost = [lease for renewal in renewals for lease in renewal.lost]
        aborted = [lease for renewal in renewals for lease in renewal.aborted]
        return lost, aborted, await keyspace.dump()

    assert await after([batch]) == await after([[one] for one in batch])


async def test_wishes_of_a_foreign_type_cost_nobody_a_lease(keyspace, renew):
    await keyspace.seed({**HELD, "arq:abort": b"x"})
    assert await renew(("q",), [lease()], lease_ms=60_000) == Renewal([], [])
    assert (await keyspace.dump())["arq:in-progress:a"] == (b"w:1:1", "60s")


async def test_a_full_server_renews(keyspace, renew, full):
    await keyspace.seed(HELD)
    await full()
    assert await renew(("q",), [lease()], lease_ms=60_000) == Renewal([], [])
    assert (await keyspace.dump())["q"] == {"a": "lease+60s"}
