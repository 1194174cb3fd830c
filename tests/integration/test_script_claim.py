"""claim.lua through Store.claim: what it takes, what it leaves, and what it says."""

import asyncio
from unittest.mock import ANY

import pytest
from redis.exceptions import ReadOnlyError, ResponseError

from common.redis.store import Claimed, Enqueue

AWAKE = {"due": 0}
MONTH = "2592000s"
TOKEN = (b"w:1:7", "60s")
LATER = 10.0**13 + 0.25


async def claim(store, *queues, most=10, lease_ms=60_000, worker="w", number=7):
    return await store.claim(queues or ("q",), most=most, lease_ms=lease_ms, worker=worker, number=number)


def job(job_id, payload, due_ms, *, attempt=1, aborted=False, queue=0, past=""):
    return Claimed(job_id, payload, attempt, due_ms, aborted, queue, f"w:{attempt}:7", past)


CASES = {
    "an empty queue": ({}, {}, [], {}),
    "an empty queue takes its marker away: it would wake workers for nothing": (
        {"barque:wake:q": AWAKE}, {}, [], {},
    ),
    "a due job is taken": (
        {"q": {"a": 5}, "arq:job:a": b"A"},
        {},
        [job("a", b"A", 5)],
        {"q": {"a": "lease+60s"}, "arq:job:a": b"A", "arq:in-progress:a": TOKEN},
    ),
    "a job due later is not": (
        {"q": {"a": "now+30s"}, "arq:job:a": b"A"},
        {},
        [],
        {"q": {"a": "now+30s"}, "arq:job:a": b"A"},
    ),
    "attempts are counted on": (
        {"q": {"a": 5}, "arq:job:a": b"A", "arq:retry:a": b"3"},
        {},
        [job("a", b"A", 5, attempt=4)],
        {"q": {"a": "lease+60s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:4:7", "60s"), "arq:retry:a": b"3"},
    ),
    "so is one whose lease ran out": (
        {"q": {"a": "lease-60s"}, "arq:job:a": b"A"},
        {},
        [job("a", b"A", ANY, attempt=2, past="lost")],
        {
            "q": {"a": "lease+60s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:2:7", "60s"), "arq:retry:a": b"1",
            "barque:attempts:a": ([b"lost 1 lease-60s"], MONTH),
        },
    ),
    "and on top of those before": (
        {"q": {"a": "lease-60s"}, "arq:job:a": b"A", "arq:retry:a": b"3", "barque:attempts:a": ([b"E"], "60s")},
        {},
        [job("a", b"A", ANY, attempt=5, past="lost")],
        {
            "q": {"a": "lease+60s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:5:7", "60s"), "arq:retry:a": b"4",
            "barque:attempts:a": ([b"E", b"lost 4 lease-60s"], MONTH),
        },
    ),
    "one that is lost over and over has a history all the same, but not without end": (
        {"q": {"a": "lease-60s"}, "arq:job:a": b"A", "arq:retry:a": b"3", "barque:attempts:a": [b"E"] * 100},
        {},
        [job("a", b"A", ANY, attempt=5, past="lost")],
        {
            "q": {"a": "lease+60s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:5:7", "60s"), "arq:retry:a": b"4",
            "barque:attempts:a": ([*[b"E"] * 49, b"lost 4 lease-60s"], MONTH),
        },
    ),
    "one whose history is a key of a foreign type is taken as any": (
        {"q": {"a": "lease-60s"}, "arq:job:a": b"A", "barque:attempts:a": {"f": b"x"}},
        {},
        [job("a", b"A", ANY, attempt=2, past="lost")],
        {
            "q": {"a": "lease+60s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:2:7", "60s"), "arq:retry:a": b"1",
            "barque:attempts:a": {"f": b"x"},
        },
    ),
    "a first attempt of a job that has a history says so": (
        {"q": {"a": 5}, "arq:job:a": b"A", "arq:retry:a": b"0", "barque:attempts:a": [b"E"]},
        {},
        [Claimed("a", b"A", 0, 5, 0.0, 0, "w:1:7")],
        {"q": {"a": "lease+60s"}, "arq:job:a": b"A", "arq:in-progress:a": TOKEN, "barque:attempts:a": [b"E"]},
    ),
    "a count of none, which a job that expires has, is taken away": (
        {"q": {"a": 5}, "arq:job:a": (b"A", "90s"), "arq:retry:a": b"0"},
        {},
        [job("a", b"A", 5)],
        {"q": {"a": "lease+60s"}, "arq:job:a": (b"A", "90s"), "arq:in-progress:a": TOKEN},
    ),
    "a count with a TTL, as arq writes it, keeps it": (
        {"q": {"a": 5}, "arq:job:a": b"A", "arq:retry:a": (b"1", "90s")},
        {},
        [job("a", b"A", 5, attempt=2)],
        {
            "q": {"a": "lease+60s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:2:7", "60s"),
            "arq:retry:a": (b"1", "90s"),
        },
    ),
    **{
        f"a count that no attempts make is brought to one that they do: {count}": (
            {"q": {"a": 5}, "arq:job:a": b"A", "arq:retry:a": count},
            {},
            [job("a", b"A", 5, attempt=attempt)],
            {
                "q": {"a": "lease+60s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:%d:7" % attempt, "60s"),
                **({"arq:retry:a": count} if attempt > 1 else {}),
            },
        )
        for count, attempt in [
            (b"x", 1), (b"nan", 1), (b"-7", 1), (b"1.5", 2), (b"1e30", 10**9), (b"inf", 10**9), (b"-inf", 1),
            (b"999999999", 10**9), (b"1000000000", 10**9), (b"", 1),
        ]
    },
    "the earliest due first, and no more than asked; the wake-up is passed on": (
        {"q": {"c": 7, "a": 5, "b": 6}, "arq:job:a": b"A", "arq:job:b": b"B", "arq:job:c": b"C"},
        {"most": 2},
        [job("a", b"A", 5), job("b", b"B", 6)],
        {
            "q": {"c": 7, "a": "lease+60s", "b": "lease+60s"}, "arq:job:a": b"A", "arq:job:b": b"B", "arq:job:c": b"C",
            "arq:in-progress:a": TOKEN, "arq:in-progress:b": TOKEN,
            "barque:wake:q": AWAKE,
        },
    ),
    "as many as asked and no more due: nobody needs to wake": (
        {"q": {"a": 5, "b": "now+30s"}, "arq:job:a": b"A"},
        {"most": 1},
        [job("a", b"A", 5)],
        {"q": {"a": "lease+60s", "b": "now+30s"}, "arq:job:a": b"A", "arq:in-progress:a": TOKEN},
    ),
    "a job whose payload expired is taken without one, to be ended by a worker": (
        {"q": {"a": 5}},
        {},
        [job("a", None, 5)],
        {"q": {"a": "lease+60s"}, "arq:in-progress:a": TOKEN},
    ),
    "a job another holds is passed over": (
        {"q": {"a": 5, "b": 6}, "arq:job:a": b"A", "arq:job:b": b"B", "arq:in-progress:a": (b"1", "300s")},
        {},
        [job("b", b"B", 6)],
        {
            "q": {"a": 5, "b": "lease+60s"}, "arq:job:a": b"A", "arq:job:b": b"B", "arq:in-progress:a": (b"1", "300s"),
            "arq:in-progress:b": TOKEN,
        },
    ),
    "one that is passed over does not take the place of one that is free": (
        {"q": {"a": 5, "b": 6, "c": 7}, "arq:job:b": b"B", "arq:in-progress:a": (b"1", "300s")},
        {"most": 1},
        [job("b", b"B", 6)],
        {
            "q": {"a": 5, "b": "lease+60s", "c": 7}, "arq:job:b": b"B", "arq:in-progress:a": (b"1", "300s"),
            "arq:in-progress:b": TOKEN, "barque:wake:q": AWAKE,
        },
    ),
    "a late second enqueue of an ended cron tick is dropped": (
        {"q": {"a": 5, "b": 6}, "arq:job:a": b"A", "arq:job:b": b"B", "arq:in-progress:a": (b"done", "60s")},
        {},
        [job("b", b"B", 6)],
        {
            "q": {"b": "lease+60s"}, "arq:job:b": b"B", "arq:in-progress:a": (b"done", "60s"),
            "arq:in-progress:b": TOKEN,
        },
    ),
    "a job to be aborted says so, and since when": (
        {"q": {"a": 5, "b": 6}, "arq:job:a": b"A", "arq:job:b": b"B", "arq:abort": {"b": LATER}},
        {},
        [job("a", b"A", 5), job("b", b"B", 6, aborted=LATER)],
        {
            "q": {"a": "lease+60s", "b": "lease+60s"}, "arq:job:a": b"A", "arq:job:b": b"B",
            "arq:abort": {"b": int(LATER)}, "arq:in-progress:a": TOKEN, "arq:in-progress:b": TOKEN,
        },
    ),
    "two queues, the first one first": (
        {"q": {"a": 9}, "r": {"b": 5}, "arq:job:a": b"A", "arq:job:b": b"B"},
        {"queues": ("q", "r"), "most": 1},
        [job("a", b"A", 9)],
        {
            "q": {"a": "lease+60s"}, "r": {"b": 5}, "arq:job:a": b"A", "arq:job:b": b"B",
            "arq:in-progress:a": TOKEN, "barque:wake:r": AWAKE,
        },
    ),
    "two queues, both served while there is room": (
        {"q": {"a": 9}, "r": {"b": 5}, "arq:job:a": b"A", "arq:job:b": b"B"},
        {"queues": ("q", "r")},
        [job("a", b"A", 9), job("b", b"B", 5, queue=1)],
        {
            "q": {"a": "lease+60s"}, "r": {"b": "lease+60s"}, "arq:job:a": b"A", "arq:job:b": b"B",
            "arq:in-progress:a": TOKEN, "arq:in-progress:b": TOKEN,
        },
    ),
}  # fmt: skip


DAY_AND_MORE = "now-86460s"


@pytest.mark.parametrize("case", CASES)
async def test_claim(case, keyspace, store):
    before, options, jobs, after = CASES[case]
    options = dict(options)
    await keyspace.seed(before)
    claimed = await claim(store, *options.pop("queues", ()), **options)
    assert claimed.jobs == jobs
    assert await keyspace.dump() == after


async def test_it_says_the_servers_time_what_is_next_and_how_much_there_is(keyspace, store):
    await keyspace.seed({"q": {"a": 5, "later": 10**14}, "r": {"soon": "now+30s"}})
    before = await keyspace.now_ms()
    claimed = await claim(store, "q", "r", "empty")
    after = await keyspace.now_ms()
    assert before <= claimed.now_ms <= after
    assert before + 30_000 - 1000 <= claimed.next_due_ms <= after + 30_000
    assert claimed.waiting == 3


async def test_nothing_in_the_future_means_no_next_due_time(keyspace, store):
    assert (await claim(store)).next_due_ms is None


async def test_what_is_next_is_not_looked_for_where_no_room_is_left(keyspace, store):
    await keyspace.seed({"q": {"a": 5, "later": 10**14}})
    assert (await claim(store, most=1)).next_due_ms is None
    assert (await claim(store, most=1)).next_due_ms is not None


@pytest.mark.parametrize("sizes", [(40,), (1,) * 40, (7, 1, 9, 8, 16), (8, 8, 8, 1), (9, 7, 8), (2, 30, 3), (3,) * 9])
async def test_each_job_of_a_large_page_is_told_its_own_due_time_and_attempt(sizes, keyspace, store, redis):
    """Scores are asked for by samples: of jobs between two of the same score, nothing is asked."""
    scores = [1_700_000_000_000 + n + (0.5 if n % 3 == 2 else 0) for n, size in enumerate(sizes) for _ in range(size)]
    await redis.zadd("q", {f"{n:03}": score for n, score in enumerate(scores)})
    claimed = await claim(store, most=100)
    assert [(job.job_id, job.due_ms, job.past, job.attempt, job.token) for job in claimed.jobs] == [
        (f"{n:03}", int(score), *(("lost", 2, "w:2:7") if score % 1 else ("", 1, "w:1:7")))
        for n, score in enumerate(scores)
    ]
    assert await redis.mget([f"arq:retry:{n:03}" for n in range(len(scores))]) == [
        b"1" if score % 1 else None for score in scores
    ]


async def test_a_jobs_due_time_is_told_as_it_was(keyspace, store):
    await keyspace.seed({"q": {"a": 1_700_000_000_123, "b": 1_700_000_000_124.7}})
    assert [job.due_ms for job in (await claim(store)).jobs] == [1_700_000_000_123, 1_700_000_000_124]


async def test_an_attempt_whose_worker_died_is_due_again_by_itself_when_its_lease_ends(keyspace, store, redis):
    await store.enqueue([Enqueue("q", "a", b"A")])
    (first,) = (await claim(store, lease_ms=20, worker="dead")).jobs
    while await redis.exists("arq:in-progress:a"):
        pass
    claimed = await claim(store, worker="w2", number=1)
    while not claimed.jobs:  # the score stands one ms past the lease
        claimed = await claim(store, worker="w2", number=1)
    (second,) = claimed.jobs
    assert (first.attempt, second.attempt) == (1, 2)
    assert (first.token, second.token) == ("dead:1:7", "w2:2:1")
    assert second.due_ms >= first.due_ms + 20


@pytest.mark.parametrize("most", [1, 10, 500])
@pytest.mark.parametrize("held", [1000, 2000])
async def test_jobs_that_stock_arq_workers_run_in_front_do_not_hide_the_next_one(held, most, keyspace, store, redis):
    names = [f"held-{n:05}" for n in range(held)]
    await redis.zadd("q", dict.fromkeys(names, 5) | {"free": 6})
    await redis.mset({f"arq:in-progress:{name}": b"1" for name in names} | {"arq:job:free": b"F"})
    claimed = await claim(store, most=most)
    assert [job.job_id for job in claimed.jobs] == ["free"]
    assert await redis.zcount("q", 5, 5) == held


async def test_the_paging_past_held_jobs_has_an_end(keyspace, store, redis):
    names = [f"held-{n:05}" for n in range(20_000)]
    for start in range(0, len(names), 5000):
        part = names[start : start + 5000]
        await redis.zadd("q", dict.fromkeys(part, 5))
        await redis.mset({f"arq:in-progress:{name}": b"1" for name in part})
    await redis.zadd("q", {"free": 6})
    assert (await claim(store, most=1)).jobs == []


async def test_a_full_server_gives_jobs(keyspace, store, full):
    await keyspace.seed({"q": {"a": 5, "b": 6}, "arq:job:a": b"A", "arq:job:b": b"B"})
    await full()
    assert [job.job_id for job in (await claim(store)).jobs] == ["a", "b"]


async def test_a_full_server_gives_jobs_whose_workers_were_lost(keyspace, store, full):
    await keyspace.seed({"q": {"a": "lease-60s", "b": "lease-60s"}, "arq:job:a": b"A", "arq:job:b": b"B"})
    await full()
    assert [(job.job_id, job.attempt) for job in (await claim(store)).jobs] == [("a", 2), ("b", 2)]


async def test_a_score_of_minus_infinity_is_due_at_the_start_of_time(keyspace, store, redis):
    await redis.zadd("q", {"a": "-inf", "b": -1.7e308, "c": -5})
    claimed = await claim(store)
    assert [(job.job_id, job.due_ms) for job in claimed.jobs] == [("a", 0), ("b", 0), ("c", 0)]


async def test_a_score_of_infinity_is_due_at_the_end_of_time(keyspace, store, redis):
    await redis.zadd("q", {"never": "+inf"})
    claimed = await claim(store)
    assert claimed.jobs == []
    assert claimed.next_due_ms == 2**53 - 1


async def test_what_was_taken_is_told_though_the_next_queue_is_no_queue(keyspace, store):
    await keyspace.seed({"q": {"a": 5}, "arq:job:a": b"A", "bad": b"x", "r": {"b": 6}, "arq:job:b": b"B"})
    claimed = await claim(store, "q", "bad", "r")
    assert [(job.job_id, job.queue) for job in claimed.jobs] == [("a", 0), ("b", 2)]
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await claim(store, "q", "bad", "r")


@pytest.mark.parametrize("queues", [("q",), ("q", "r")])
async def test_a_refusal_keeps_the_code_that_callers_act_on(keyspace, store, redis, queues):
    """A worker that does not know a replica for one never lets go of its connection to it."""
    await keyspace.seed({"q": {"a": 5}, "arq:job:a": b"A"})
    await redis.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(ReadOnlyError):
            await claim(store, *queues)
    finally:
        await redis.replicaof("NO", "ONE")
    assert [job.job_id for job in (await claim(store, *queues)).jobs] == ["a"]


@pytest.mark.parametrize("key", ["arq:abort", "barque:wake:q"])
async def test_a_key_of_a_foreign_type_beside_the_jobs_hides_none(key, keyspace, store):
    await keyspace.seed({"q": {"a": 5, "b": 6}, "arq:job:a": b"A", key: b"x"})
    assert (await claim(store, most=1)).jobs == [job("a", b"A", 5)]


async def test_wishes_to_abort_older_than_a_day_are_dropped_where_the_job_is_gone(keyspace, store):
    await keyspace.seed({
        "q": {"taken": 5, "later": "now+60s"}, "arq:job:taken": b"A", "arq:job:later": b"B",
        "arq:in-progress:runs": b"1",
        "arq:abort": {
            "taken": DAY_AND_MORE, "later": DAY_AND_MORE, "runs": DAY_AND_MORE, "gone": DAY_AND_MORE, "new": "now-60s",
        },
    })  # fmt: skip
    (taken,) = (await claim(store)).jobs
    assert taken.aborted
    assert (await keyspace.dump())["arq:abort"] == {"taken": "now", "later": "now", "runs": "now", "new": "now-60s"}


async def test_few_old_wishes_are_dropped_at_a_time(keyspace, store, redis):
    await redis.zadd("arq:abort", {f"{n}": n for n in range(150)})
    await claim(store)
    assert await redis.zcard("arq:abort") == 50
    await claim(store)
    assert await redis.exists("arq:abort") == 0


@pytest.mark.parametrize("count", [1, 1000, 2500])
async def test_of_the_ids_asked_about_those_to_be_aborted_are_told(count, keyspace, store, redis):
    ids = ["\udcff", *(f"{n}" for n in range(count))]
    assert await store.aborting(ids) == {}
    await redis.zadd("arq:abort", {b"\xff": 5, f"{count - 1}": 6, "another": 7})
    assert await store.aborting(ids) == {"\udcff": 5.0, f"{count - 1}": 6.0}
    assert await store.aborting([]) == {}


async def test_no_more_than_a_thousand_are_taken_at_once(keyspace, store, redis):
    await store.enqueue([Enqueue("q", f"{n:04}", b"x") for n in range(1001)])
    claimed = await claim(store, most=5000)
    assert [job.job_id for job in claimed.jobs] == [f"{n:04}" for n in range(1000)]
    assert await redis.exists("arq:in-progress:1000") == 0


async def test_ids_that_are_no_utf8_are_given_back_unchanged(keyspace, store, redis):
    await redis.zadd("q", {b"\xff\x00": 5})
    await redis.set(b"arq:job:\xff\x00", b"A")
    (taken,) = (await claim(store)).jobs
    assert taken.job_id.encode(errors="surrogateescape") == b"\xff\x00"
    assert taken.payload == b"A"


@pytest.mark.parametrize("foreign", [b"a string", {"field": b"hash"}])
async def test_a_queue_of_a_foreign_type_is_an_error(foreign, keyspace, store):
    await keyspace.seed({"q": foreign})
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await claim(store)
    assert await keyspace.dump() == {"q": foreign}


async def test_a_payload_of_a_foreign_type_counts_as_none(keyspace, store):
    await keyspace.seed({"q": {"a": 5}, "arq:job:a": {"field": b"x"}})
    assert [job.payload for job in (await claim(store)).jobs] == [None]


async def test_a_claim_that_waits_is_answered_by_the_enqueue(store, redis):
    waiting = asyncio.create_task(store.claim_when_woken(("q",), 30, most=3, lease_ms=60_000, worker="w", number=7))
    while not (await redis.info("clients"))["blocked_clients"]:
        await asyncio.sleep(0)
    await store.enqueue([Enqueue("q", f"{number}", b"x") for number in range(5)])
    claimed = await waiting
    assert [job.token for job in claimed.jobs] == ["w:1:7"] * 3
    assert claimed.waiting == 5
    assert await redis.exists("barque:wake:q") == 1, "more is due: passed on"
    await redis.flushdb()


async def test_a_claim_that_waits_ends_with_its_time_and_claims_all_the_same(keyspace, store):
    await keyspace.seed({"q": {"a": 5}, "arq:job:a": b"A"})  # a stock producer sets no marker
    claimed = await store.claim_when_woken(("q",), 0.001, most=3, lease_ms=60_000, worker="w", number=7)
    assert claimed.jobs == [job("a", b"A", 5)]


async def test_a_nudge_ends_the_wait_of_one_worker_and_of_no_other(keyspace, store, redis):
    one, other = (
        asyncio.create_task(store.claim_when_woken(("q",), 30, most=1, lease_ms=60_000, worker=name, number=1))
        for name in ("one", "other")
    )
    while (await redis.info("clients"))["blocked_clients"] < 2:
        await asyncio.sleep(0)
    await store.nudge("other")
    assert (await other).jobs == []
    assert not one.done()
    await store.nudge("one")
    assert (await one).jobs == []
    assert await keyspace.dump() == {}


async def test_a_server_that_forgot_the_script_while_a_claim_waited_is_told_it_again(keyspace, store, redis):
    await keyspace.seed({"q": {"a": 5}, "arq:job:a": b"A"})
    await redis.script_flush()
    claimed = await store.claim_when_woken(("q",), 0.001, most=3, lease_ms=60_000, worker="w", number=7)
    assert claimed.jobs == [job("a", b"A", 5)]


async def test_a_marker_of_a_foreign_type_is_an_error_where_it_would_end_in_a_spin(keyspace, store):
    await keyspace.seed({"q": {"a": 5}, "arq:job:a": b"A", "barque:wake:q": b"x"})
    assert len((await store.claim_when_woken(("q",), 5, most=3, lease_ms=60_000, worker="w", number=7)).jobs) == 1
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await store.claim_when_woken(("q",), 5, most=3, lease_ms=60_000, worker="w", number=8)


async def test_an_attempt_whose_worker_was_lost_is_recorded_once_though_the_reply_is_lost(keyspace, store):
    await keyspace.seed({"q": {"a": "lease-60s"}, "arq:job:a": b"A"})
    await claim(store, number=1)
    again = await store.claim(("q",), most=5, lease_ms=60_000, worker="w", number=2, unanswered=1)
    assert [(job.job_id, job.attempt, job.token) for job in again.jobs] == [("a", 2, "w:2:2")]
    assert (await keyspace.dump())["barque:attempts:a"] == ([b"lost 1 lease-60s"], MONTH)


async def test_a_first_attempt_that_is_given_again_says_that_its_job_has_a_history(keyspace, store):
    await keyspace.seed({"q": {"a": 5}, "arq:job:a": b"A", "arq:retry:a": b"0", "barque:attempts:a": [b"E"]})
    await claim(store, number=1)
    again = await store.claim(("q",), most=5, lease_ms=60_000, worker="w", number=2, unanswered=1)
    assert [(job.job_id, job.attempt, job.token) for job in again.jobs] == [("a", 0, "w:1:2")]


async def test_what_a_claim_took_whose_reply_was_lost_is_given_again_to_its_worker(keyspace, store):
    await store.enqueue([Enqueue("q", f"{number}", b"x") for number in range(3)])
    answered = await claim(store, most=1, number=1)
    lost = await claim(store, most=1, number=2)
    others = await claim(store, most=1, worker="v", number=2)
    again = await store.claim(("q",), most=5, lease_ms=60_000, worker="w", number=3, unanswered=2)
    assert [(job.job_id, job.attempt, job.token) for job in again.jobs] == [(lost.jobs[0].job_id, 1, "w:1:3")]
    assert again.jobs[0].payload == b"x"
    assert (await keyspace.dump())["arq:in-progress:" + lost.jobs[0].job_id] == (b"w:1:3", "60s")
    for kept in (*answered.jobs, *others.jobs):
        assert (await keyspace.dump())[f"arq:in-progress:{kept.job_id}"] == (kept.token.encode(), "60s")


async def test_what_is_given_again_comes_besides_what_is_asked_for_and_before_it(keyspace, store):
    await store.enqueue([Enqueue("r", f"{number:04}", b"x") for number in range(700)])
    lost = await claim(store, "q", "r", most=600, number=8)
    await store.enqueue([Enqueue("q", "new", b"y")])
    again = await store.claim(("q", "r"), most=2, lease_ms=60_000, worker="w", number=9, unanswered=8)
    assert sorted(job.job_id for job in again.jobs[:-2]) == [job.job_id for job in lost.jobs]
    assert {job.queue for job in again.jobs[:-2]} == {1}
    assert (again.jobs[-2].job_id, again.jobs[-2].queue) == ("new", 0)
    assert (again.jobs[-1].job_id, again.jobs[-1].queue) == ("0600", 1)
    await keyspace.clear()
