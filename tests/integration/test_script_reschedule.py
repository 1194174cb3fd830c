"""reschedule.lua through ControlStore.reschedule: a job that waits comes due at another time."""

import pytest

from common.redis.control import ControlStore
from common.redis.records import Enqueue, Rank
from common.redis.scores import read_score

JOB = {"arq:job:a": b"A"}
WOKEN = {"barque:wake:q": {"due": 0}}

CASES = {
    "queued, later": (
        {"q": {"a": 5, "b": 6}, **JOB}, {"delay_ms": 60_000}, "moved", {"q": {"a": "now+60s", "b": 6}, **JOB},
    ),
    "scheduled, at once: an idle worker is woken": (
        {"q": {"a": "now+60s"}, **JOB}, {}, "moved", {"q": {"a": "now"}, **JOB, **WOKEN},
    ),
    "at a time that is past": (
        {"q": {"a": "now+60s"}, **JOB}, {"at_ms": 7}, "moved", {"q": {"a": 7}, **JOB, **WOKEN},
    ),
    "earlier than all others: who sleeps until the next due job is woken": (
        {"q": {"a": "now+90s", "b": "now+60s"}, **JOB}, {"delay_ms": 30_000}, "moved",
        {"q": {"a": "now+30s", "b": "now+60s"}, **JOB, **WOKEN},
    ),
    "still not the earliest: nobody is woken": (
        {"q": {"a": "now+90s", "b": "now+60s"}, **JOB}, {"delay_ms": 70_000}, "moved",
        {"q": {"a": "now+70s", "b": "now+60s"}, **JOB},
    ),
    "between two attempts: those it had stay counted": (
        {"q": {"a": "now+600s"}, **JOB, "arq:retry:a": b"2"}, {}, "moved",
        {"q": {"a": "now"}, **JOB, **WOKEN, "arq:retry:a": b"2"},
    ),
    "its lease ran out: the attempt that was lost is counted, too": (
        {"q": {"a": "lease-60s"}, **JOB}, {"delay_ms": 60_000}, "moved",
        {
            "q": {"a": "now+60s"}, **JOB, **WOKEN, "arq:retry:a": b"1",
            "barque:attempts:a": ([b"lost 1 lease-60s"], "2592060s"),
        },
    ),
    "its lease ran out in its third attempt": (
        {"q": {"a": "lease-60s", "b": 5}, **JOB, "arq:retry:a": b"2"}, {"delay_ms": 60_000}, "moved",
        {
            "q": {"a": "now+60s", "b": 5}, **JOB, "arq:retry:a": b"3",
            "barque:attempts:a": ([b"lost 3 lease-60s"], "2592060s"),
        },
    ),
    "no worker knew its task: since when is not known any more": (
        {"q": {"a": 1_700_000_000_000 + 3 / 2048, "b": 5}, **JOB}, {"at_ms": 9}, "moved",
        {"q": {"a": 9, "b": 5}, **JOB, **WOKEN},
    ),
    "running": (
        {"q": {"a": "lease+10s"}, **JOB, "arq:in-progress:a": (b"w:1:1", "10s")}, {}, "running",
        {"q": {"a": "lease+10s"}, **JOB, "arq:in-progress:a": (b"w:1:1", "10s")},
    ),
    "run by a stock arq worker": (
        {"q": {"a": 5}, **JOB, "arq:in-progress:a": (b"1", "300s")}, {}, "running",
        {"q": {"a": 5}, **JOB, "arq:in-progress:a": (b"1", "300s")},
    ),
    "the id of an ended cron tick, enqueued once more": (
        {"q": {"a": 5}, **JOB, "arq:in-progress:a": (b"done", "60s")}, {"at_ms": 7}, "moved",
        {"q": {"a": 7}, **JOB, "arq:in-progress:a": (b"done", "60s"), **WOKEN},
    ),
    "missing": ({}, {}, "missing", {}),
    "ended": ({"arq:result:a": b"R"}, {}, "missing", {"arq:result:a": b"R"}),
    "in another queue": ({"r": {"a": 5}, **JOB}, {}, "missing", {"r": {"a": 5}, **JOB}),
    "it expires after it is due": (
        {"q": {"a": 5}, "arq:job:a": (b"A", "60s"), "arq:retry:a": b"0"}, {"at_ms": 7}, "moved",
        {"q": {"a": 7}, "arq:job:a": (b"A", "60s"), "arq:retry:a": b"0", **WOKEN},
    ),
    "it expires before it would be due": (
        {"q": {"a": 5}, "arq:job:a": (b"A", "60s"), "arq:retry:a": b"0"}, {"delay_ms": 90_000}, "expires",
        {"q": {"a": 5}, "arq:job:a": (b"A", "60s"), "arq:retry:a": b"0"},
    ),
    "it has expired": ({"q": {"a": 5}, "arq:retry:a": b"0"}, {}, "expires", {"q": {"a": 5}, "arq:retry:a": b"0"}),
    "what counts its attempts is of a foreign type": (
        {"q": {"a": "lease-60s"}, **JOB, "arq:retry:a": {"x": b"y"}}, {}, "moved",
        {
            "q": {"a": "now"}, **JOB, **WOKEN, "arq:retry:a": b"1",
            "barque:attempts:a": ([b"lost 1 lease-60s"], "2592000s"),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_reschedule(case, keyspace, redis):
    before, when, word, after = CASES[case]
    await keyspace.seed(before)
    answer = await ControlStore(redis).reschedule("q", "a", **when)
    assert answer.word == word
    assert await keyspace.dump() == after
    if word == "moved":
        assert answer.at_ms == await redis.zscore("q", "a")


async def test_a_priority_stays_with_its_job(keyspace, redis, store):
    """In the score of one that is due, beside the queue for one that is due later: see enqueue_ranked.lua."""
    control = ControlStore(redis)
    await store.enqueue([Enqueue("q", "a", b"A", rank=Rank(2))])
    lead = await redis.zscore("q", "a")
    assert read_score(repr(lead).encode(), b"a").priority == 2
    later = await control.reschedule("q", "a", delay_ms=60_000)
    assert await redis.zscore("q", "a") == later.at_ms
    assert await redis.zscore("barque:lift:q", "a") == later.at_ms + 2034 / 2048
    sooner = await control.reschedule("q", "a", delay_ms=30_000)
    assert await redis.zscore("barque:lift:q", "a") == sooner.at_ms + 2034 / 2048
    now = await control.reschedule("q", "a")
    score = repr(await redis.zscore("q", "a")).encode()
    assert read_score(score, b"a") == (now.at_ms, "", 2)
    assert not await redis.exists("barque:lift:q")


async def test_a_note_of_a_priority_that_is_not_of_this_due_time_is_not_believed(keyspace, redis):
    await keyspace.seed({"q": {"a": "now+60s"}, **JOB, "barque:lift:q": {"a": 7 + 2034 / 2048}})
    await ControlStore(redis).reschedule("q", "a", at_ms=9)
    assert await keyspace.dump() == {"q": {"a": 9}, **JOB, **WOKEN}


@pytest.mark.parametrize("job_id", ["\udcff", "a b\n"])
async def test_any_id_there_can_be(job_id, keyspace, redis):
    raw = job_id.encode(errors="surrogateescape")
    await redis.zadd("q", {raw: 5})
    await redis.set(b"arq:job:" + raw, b"A")
    assert (await ControlStore(redis).reschedule("q", job_id, at_ms=8)).word == "moved"
    assert await redis.zscore("q", raw) == 8


async def test_it_says_when_the_job_expires(keyspace, redis):
    await keyspace.seed({"q": {"a": 5}, "arq:job:a": (b"A", "60s")})
    answer = await ControlStore(redis).reschedule("q", "a", delay_ms=90_000)
    assert abs(answer.at_ms - (await keyspace.now_ms() + 60_000)) < 30_000


@pytest.mark.parametrize("score", [5, "lease-60s"])
async def test_a_full_server_still_reschedules(score, keyspace, redis, full):
    await keyspace.seed({"q": {"a": score}, **JOB})
    await full()
    assert (await ControlStore(redis).reschedule("q", "a", delay_ms=60_000)).word == "moved"
