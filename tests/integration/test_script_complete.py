"""complete.lua through Store.complete: each outcome, and that a batch is as good as one by one."""

import asyncio
from hashlib import sha1

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from common.redis.connection import connect
from common.redis.push import frames
from common.redis.store import Finish, HeldLease, Letter, PutBack, Refusals, Store
from common.settings import Settings

AWAKE = {"due": 0}
NONE = Refusals([], [])


def held(job_id="a", *, token="w:2:7", attempt=2, queue=0):
    return HeldLease(queue, job_id, token, attempt)


LETTER = Letter(b"P", b"about", b"trace", 600_000, 100)
BURIED = {
    "barque:dead": ({"a": "now"}, "600s"),
    "barque:dead:about": ({"a": b"about"}, "600s"),
    "barque:dead:letter:a": (
        {"queue": b"q", "payload": b"P", "traceback": b"trace", "result": sha1(b"R").hexdigest().encode()},
        "600s",
    ),
}
RUNNING = {
    "q": {"a": "lease+10s"},
    "arq:job:a": b"A",
    "arq:in-progress:a": (b"w:2:7", "10s"),
    "arq:retry:a": b"1",
}
EARLIER = {**RUNNING, "q": {"a": "lease+10s", "z": 1}}  # another job is due before, so nobody needs to be woken

MONTH, MONTH_LATER = "2592000s", "2592060s"
FIRST = {"q": {"a": "lease+10s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:1:7", "10s")}
PAST = {"barque:attempts:a": ([b"E"], MONTH)}
ENTRY = Letter(b"", b"", b"", 0, 0, b"E")


def first(*, noted=False):
    """The lease of a first attempt; noted: of a job that has a history."""
    return held(token="w:1:7", attempt=0 if noted else 1)


CASES = {
    "finished, its result kept": (
        RUNNING, [Finish(held(), b"R", 60_000)], [], {"arq:result:a": (b"R", "60s")},
    ),
    "finished, its result kept for ever": (
        RUNNING, [Finish(held(), b"R", -1)], [], {"arq:result:a": b"R"},
    ),
    "finished, its result not kept": (
        RUNNING, [Finish(held(), b"R", 0)], [], {},
    ),
    "finished, its id refused for a while (a cron tick)": (
        RUNNING, [Finish(held(), b"R", 0, done_ms=60_000)], [], {"arq:in-progress:a": (b"done", "60s")},
    ),
    "finished, and it leaves a dead letter": (
        RUNNING, [Finish(held(), b"R", 60_000, letter=LETTER)], [], {"arq:result:a": (b"R", "60s"), **BURIED},
    ),
    "finished with a dead letter and no result, a cron tick": (
        RUNNING, [Finish(held(), b"R", 0, 60_000, LETTER)], [], {"arq:in-progress:a": (b"done", "60s"), **BURIED},
    ),
    "finished with a dead letter in place of an earlier one of its id, whatever that was": (
        {
            **RUNNING, "barque:dead": {"a": "now-60s"}, "barque:dead:about": {"a": b"old"},
            "barque:dead:letter:a": {"queue": b"r", "payload": b"old", "more": b"old"},
        },
        [Finish(held(), b"R", 0, letter=LETTER)], [], BURIED,
    ),
    "finished with a dead letter: those over age go": (
        {
            **RUNNING, "barque:dead": {"x": "now-900s", "y": "now-300s"}, "barque:dead:about": {"x": b"X", "y": b"Y"},
            "barque:dead:letter:x": {"payload": b"x"}, "barque:dead:letter:y": {"payload": b"y"},
        },
        [Finish(held(), b"R", 0, letter=LETTER)],
        [],
        {
            **BURIED, "barque:dead": ({"a": "now", "y": "now-300s"}, "600s"),
            "barque:dead:about": ({"a": b"about", "y": b"Y"}, "600s"), "barque:dead:letter:y": {"payload": b"y"},
        },
    ),
    "finished with a dead letter: those over number go, the oldest first": (
        {
            **RUNNING, "barque:dead": {"x": "now-30s", "y": "now-60s"}, "barque:dead:about": {"x": b"X", "y": b"Y"},
            "barque:dead:letter:x": {"payload": b"x"}, "barque:dead:letter:y": {"payload": b"y"},
        },
        [Finish(held(), b"R", 0, letter=LETTER._replace(most=2))],
        [],
        {
            **BURIED, "barque:dead": ({"a": "now", "x": "now-30s"}, "600s"),
            "barque:dead:about": ({"a": b"about", "x": b"X"}, "600s"), "barque:dead:letter:x": {"payload": b"x"},
        },
    ),
    "finished, and nobody is asked to abort it any more": (
        {**RUNNING, "arq:abort": {"a": 5, "b": 6}}, [Finish(held(), b"R", 0)], [], {"arq:abort": {"b": 6}},
    ),
    "finished, though its payload expired meanwhile": (
        {key: value for key, value in RUNNING.items() if key != "arq:job:a"},
        [Finish(held(), b"R", 60_000)], [], {"arq:result:a": (b"R", "60s")},
    ),
    "retried": (
        EARLIER,
        [PutBack(held(), "retry", 60_000)],
        [],
        {"q": {"a": "now+60s", "z": 1}, "arq:job:a": b"A", "arq:retry:a": b"2"},
    ),
    "retried, and due before all others: the sleep of a worker gets shorter": (
        {**RUNNING, "q": {"a": "now+90s", "z": "now+90s"}},
        [PutBack(held(), "retry", 60_000)],
        [],
        {"q": {"a": "now+60s", "z": "now+90s"}, "arq:job:a": b"A", "arq:retry:a": b"2", "barque:wake:q": AWAKE},
    ),
    "retried at once wakes a worker": (
        RUNNING,
        [PutBack(held(), "retry", 0)],
        [],
        {"q": {"a": "now"}, "arq:job:a": b"A", "arq:retry:a": b"2", "barque:wake:q": AWAKE},
    ),
    "returned to where it stood, attempt counted": (
        RUNNING,
        [PutBack(held(), "return", 5)],
        [],
        {"q": {"a": 5}, "arq:job:a": b"A", "arq:retry:a": b"2", "barque:wake:q": AWAKE},
    ),
    "released to where it stood, attempt not counted": (
        RUNNING,
        [PutBack(held(), "release", 5)],
        [],
        {"q": {"a": 5}, "arq:job:a": b"A", "arq:retry:a": b"1", "barque:wake:q": AWAKE},
    ),
    "released on its first attempt leaves no count": (
        {"q": {"a": "lease+10s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:1:7", "10s")},
        [PutBack(held(token="w:1:7", attempt=1), "release", 5)],
        [],
        {"q": {"a": 5}, "arq:job:a": b"A", "barque:wake:q": AWAKE},
    ),
    "put back, the wish to abort it stays": (
        {**EARLIER, "arq:abort": {"a": 5}},
        [PutBack(held(), "retry", 60_000)],
        [],
        {"q": {"a": "now+60s", "z": 1}, "arq:job:a": b"A", "arq:retry:a": b"2", "arq:abort": {"a": 5}},
    ),
    "retried, and this very job is to be aborted: it is due at once, to be ended": (
        {**EARLIER, "arq:abort": {"a": 5.25}},
        [PutBack(held(), "retry", 60_000)],
        [],
        {"q": {"a": "now", "z": 1}, "arq:job:a": b"A", "arq:retry:a": b"2", "arq:abort": {"a": 5},
         "barque:wake:q": AWAKE},
    ),
    "put back to wait for a worker that knows it, and to be aborted": (
        {**EARLIER, "arq:abort": {"a": 5.25}},
        [PutBack(held(), "release", "99999999999999.5")],
        [],
        {"q": {"a": "now", "z": 1}, "arq:job:a": b"A", "arq:retry:a": b"1", "arq:abort": {"a": 5},
         "barque:wake:q": AWAKE},
    ),
    "retried, and its history is told of it": (
        EARLIER,
        [PutBack(held(), "retry", 60_000, entry=b"E")],
        [],
        {"q": {"a": "now+60s", "z": 1}, "arq:job:a": b"A", "arq:retry:a": b"2",
         "barque:attempts:a": ([b"E"], MONTH_LATER)},
    ),
    "returned, the entry behind those before": (
        {**EARLIER, "barque:attempts:a": ([b"D"], "60s")},
        [PutBack(held(), "return", 5, entry=b"E")],
        [],
        {"q": {"a": 5, "z": 1}, "arq:job:a": b"A", "arq:retry:a": b"2", "barque:attempts:a": ([b"D", b"E"], MONTH),
         "barque:wake:q": AWAKE},
    ),
    "released on its first attempt: a count of none says that it has a history": (
        FIRST,
        [PutBack(first(), "release", 5, entry=b"E")],
        [],
        {"q": {"a": 5}, "arq:job:a": b"A", "arq:retry:a": b"0", **PAST, "barque:wake:q": AWAKE},
    ),
    "passed on, having been put off before: that count stays": (
        {**FIRST, **PAST},
        [PutBack(first(noted=True), "release", 5)],
        [],
        {"q": {"a": 5}, "arq:job:a": b"A", "arq:retry:a": b"0", **PAST, "barque:wake:q": AWAKE},
    ),
    "retried, having been put off before": (
        {**FIRST, **PAST},
        [PutBack(first(noted=True), "retry", 0, entry=b"F")],
        [],
        {"q": {"a": "now"}, "arq:job:a": b"A", "arq:retry:a": b"1", "barque:attempts:a": ([b"E", b"F"], MONTH),
         "barque:wake:q": AWAKE},
    ),
    "put back, its history is full: the oldest goes, and is counted": (
        {**EARLIER, "barque:attempts:a": [b"%d" % n for n in range(50)]},
        [PutBack(held(), "return", 5, entry=b"E")],
        [],
        {"q": {"a": 5, "z": 1}, "arq:job:a": b"A", "arq:retry:a": b"2", "barque:wake:q": AWAKE,
         "barque:attempts:a": ([b"+1", *(b"%d" % n for n in range(1, 50)), b"E"], MONTH)},
    ),
    "put back, its history was full before": (
        {**EARLIER, "barque:attempts:a": [b"+7", *(b"%d" % n for n in range(51))]},
        [PutBack(held(), "return", 5, entry=b"E")],
        [],
        {"q": {"a": 5, "z": 1}, "arq:job:a": b"A", "arq:retry:a": b"2", "barque:wake:q": AWAKE,
         "barque:attempts:a": ([b"+9", *(b"%d" % n for n in range(2, 51)), b"E"], MONTH)},
    ),
    "put back, its history is a key of a foreign type": (
        {**EARLIER, "barque:attempts:a": {"f": b"x"}},
        [PutBack(held(), "return", 5, entry=b"E")],
        [],
        {"q": {"a": 5, "z": 1}, "arq:job:a": b"A", "arq:retry:a": b"2", "barque:attempts:a": {"f": b"x"},
         "barque:wake:q": AWAKE},
    ),
    "finished: its history is kept as long as its result": (
        {**RUNNING, **PAST}, [Finish(held(), b"R", 60_000)], [],
        {"arq:result:a": (b"R", "60s"), "barque:attempts:a": ([b"E"], "60s")},
    ),
    "finished in a first attempt: likewise": (
        {**FIRST, **PAST}, [Finish(first(noted=True), b"R", 60_000)], [],
        {"arq:result:a": (b"R", "60s"), "barque:attempts:a": ([b"E"], "60s")},
    ),
    "finished: its history is kept for ever, as its result": (
        {**RUNNING, **PAST}, [Finish(held(), b"R", -1)], [], {"arq:result:a": b"R", "barque:attempts:a": [b"E"]},
    ),
    "finished: its history is not kept, as its result": ({**RUNNING, **PAST}, [Finish(held(), b"R", 0)], [], {}),
    "finished with a dead letter: its history is kept as long as that": (
        {**RUNNING, **PAST}, [Finish(held(), b"R", 60_000, letter=LETTER)], [],
        {"arq:result:a": (b"R", "60s"), **BURIED, "barque:attempts:a": ([b"E"], "600s")},
    ),
    "finished with an entry, and no letter": (
        FIRST, [Finish(first(), b"R", 60_000, letter=ENTRY)], [],
        {"arq:result:a": (b"R", "60s"), "barque:attempts:a": ([b"E"], "60s")},
    ),
    "finished with an entry, and nothing is kept": (FIRST, [Finish(first(), b"R", 0, letter=ENTRY)], [], {}),
    "finished with an entry and a letter, behind those before": (
        {**RUNNING, **PAST}, [Finish(held(), b"R", 0, letter=LETTER._replace(entry=b"F"))], [],
        {**BURIED, "barque:attempts:a": ([b"E", b"F"], "600s")},
    ),
    "finished with a dead letter: of those that go their histories go too, if no result needs them": (
        {
            **RUNNING, "barque:dead": {"x": "now-900s", "y": "now-900s", "z": "now-900s"},
            "arq:result:y": (b"R", "60s"), "arq:job:z": b"Z",
            **{f"barque:attempts:{job_id}": ([b"E"], "300s") for job_id in "xyz"},
        },
        [Finish(held(), b"R", 0, letter=LETTER)],
        [],
        {
            **BURIED, "barque:dead": ({"a": "now"}, "600s"), "arq:result:y": (b"R", "60s"), "arq:job:z": b"Z",
            "barque:attempts:y": ([b"E"], "60s"), "barque:attempts:z": ([b"E"], "300s"),
        },
    ),
    "in the queue it was taken from": (
        {**RUNNING, "q": {"x": 5}, "r": {"a": "now+10s"}},
        [Finish(held(queue=1), b"R", 0)],
        [],
        {"q": {"x": 5}},
    ),
    **{
        f"refused when {why}: {kind}": (
            {**RUNNING, "arq:in-progress:a": lease}, [outcome], [0], {**RUNNING, "arq:in-progress:a": lease},
        )
        for why, lease in [
            ("another worker holds the lease", (b"v:3:1", "10s")),
            ("a later attempt of this worker holds it", (b"w:3:8", "10s")),
            ("a stock arq worker holds it", (b"1", "300s")),
            ("it is over", (b"done", "60s")),
        ]
        for kind, outcome in [
            ("finish", Finish(held(), b"R", 60_000, 60_000)),
            ("bury", Finish(held(), b"R", 60_000, 60_000, LETTER)),
            ("retry", PutBack(held(), "retry", 0, entry=b"E")),
            ("return", PutBack(held(), "return", 5)),
            ("release", PutBack(held(), "release", 5, entry=b"E")),
            ("logged", Finish(held(), b"R", 60_000, letter=ENTRY)),
        ]
    },
    "refused when the lease ran out": (
        {key: value for key, value in RUNNING.items() if not key.startswith("arq:in-progress")},
        [Finish(held(), b"R", 60_000)],
        [0],
        {key: value for key, value in RUNNING.items() if not key.startswith("arq:in-progress")},
    ),
    "a batch: the refused do not hold up the others": (
        {
            "q": {"a": "now+10s", "b": "now+10s", "c": "now+10s"}, "arq:job:a": b"A", "arq:job:b": b"B",
            "arq:job:c": b"C", "arq:in-progress:a": (b"w:1:1", "10s"), "arq:in-progress:b": (b"v:1:1", "10s"),
            "arq:in-progress:c": (b"w:1:2", "10s"),
        },
        [
            Finish(held("a", token="w:1:1", attempt=1), b"R", 60_000),
            Finish(held("b", token="w:1:1", attempt=1), b"R", 60_000),
            PutBack(held("c", token="w:1:2", attempt=1), "release", 5),
        ],
        [1],
        {
            "q": {"b": "now+10s", "c": 5}, "arq:job:b": b"B", "arq:job:c": b"C", "arq:in-progress:b": (b"v:1:1", "10s"),
            "arq:result:a": (b"R", "60s"), "barque:wake:q": AWAKE,
        },
    ),
    "the same attempt ends twice in a batch: the first outcome stands": (
        {"q": {"a": "lease+10s"}, "arq:job:a": b"A", "arq:in-progress:a": (b"w:1:1", "10s")},
        [Finish(held(token="w:1:1", attempt=1), result, 60_000) for result in (b"first", b"second")],
        [1],
        {"arq:result:a": (b"first", "60s")},
    ),
    "the same attempt twice in a batch: the first outcome stands": (
        RUNNING,
        [Finish(held(), b"first", 60_000), PutBack(held(), "retry", 0)],
        [1],
        {"arq:result:a": (b"first", "60s")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_complete(case, keyspace, store):
    before, outcomes, refused, after = CASES[case]
    await keyspace.seed(before)
    assert await store.complete(("q", "r"), outcomes) == Refusals(refused, [])
    assert await keyspace.dump() == after


async def test_sending_a_recorded_batch_again_changes_nothing(keyspace, store):
    await keyspace.seed(RUNNING)
    outcomes = [Finish(held(), b"R", 60_000)]
    assert await store.complete(("q",), outcomes) == NONE
    recorded = await keyspace.dump()
    assert await store.complete(("q",), outcomes) == Refusals([0], [])
    assert await keyspace.dump() == recorded


DONE_LEASE = {"arq:in-progress:a": (b"done", "60s")}
QUEUED = {"q": {"a": 5}, "arq:job:a": b"A"}
LATER = {"q": {"a": "now+60s"}, "arq:job:a": b"A"}
RAN_OUT = {"q": {"a": "lease-60s"}, "arq:job:a": b"A"}
AGAIN = {
    # outcome sent again: (what is there by then, refusals, what is there afterwards; None: the same)
    "finish: its own result is there": (
        {"arq:result:a": b"R"}, Finish(held(), b"R", 60_000), "repeat", None,
    ),
    "finish: its own result is there, and the id is in the queue anew": (
        {**QUEUED, "arq:result:a": b"R"}, Finish(held(), b"R", 60_000), "repeat", None,
    ),
    "finish: another's result is there": (
        {"arq:result:a": b"S"}, Finish(held(), b"R", 60_000), "lost", None,
    ),
    "finish, not kept: the job is over": ({}, Finish(held(), b"R", 0), "repeat", None),
    "finish of a cron tick": (DONE_LEASE, Finish(held(), b"R", 0, 60_000), "repeat", None),
    "finish, kept: the job and its result are gone": ({}, Finish(held(), b"R", 60_000), "lost", None),
    "finish: the lease ran out, and nobody took the job": (
        {**RAN_OUT, "arq:retry:a": b"1"}, Finish(held(), b"R", 60_000), "applied", {"arq:result:a": (b"R", "60s")},
    ),
    "finish of a first attempt: the lease ran out, and nobody took the job": (
        RAN_OUT, Finish(held(token="w:1:7", attempt=1), b"R", 60_000), "applied", {"arq:result:a": (b"R", "60s")},
    ),
    "finish: another's lease ran out since": (
        {**RAN_OUT, "arq:retry:a": b"2"}, Finish(held(), b"R", 60_000), "lost", None,
    ),
    "finish: somebody took the job and put it back": (
        {**QUEUED, "arq:retry:a": b"3"}, Finish(held(), b"R", 60_000), "lost", None,
    ),
    "finish: somebody took the job and released it": (
        {**QUEUED, "arq:retry:a": b"2"}, Finish(held(), b"R", 60_000), "lost", None,
    ),
    "finish: the job was enqueued anew": (QUEUED, Finish(held(), b"R", 0), "lost", None),
    "finish, not kept: another runs it": (
        {**RUNNING, "arq:in-progress:a": (b"v:3:1", "10s")}, Finish(held(), b"R", 0), "lost", None,
    ),
    "finish: a key of a foreign type has its result's name": (
        {"arq:result:a": {"f": b"x"}}, Finish(held(), b"R", 60_000), "lost", None,
    ),
    "retry: it is in the queue, due anew": (
        {**LATER, "arq:retry:a": b"2", "barque:wake:q": AWAKE}, PutBack(held(), "retry", 60_000), "repeat", None,
    ),
    "return: it stands where it stood": (
        {**QUEUED, "arq:retry:a": b"2", "barque:wake:q": AWAKE}, PutBack(held(), "return", 5), "repeat", None,
    ),
    "release: it stands where it stood": (
        {**QUEUED, "arq:retry:a": b"1"}, PutBack(held(), "release", 5), "repeat", None,
    ),
    "retry: it is in its history already": (
        {**LATER, "arq:retry:a": b"2", **PAST}, PutBack(held(), "retry", 60_000, entry=b"E"), "repeat", None,
    ),
    "release of a first attempt: it is in its history already": (
        {**QUEUED, "arq:retry:a": b"0", **PAST}, PutBack(first(), "release", 5, entry=b"E"), "repeat", None,
    ),
    "retry: another was told of since": (
        {**LATER, "arq:retry:a": b"3", **PAST}, PutBack(held(), "retry", 60_000, entry=b"F"), "lost", None,
    ),
    "release of a first attempt of a job that has a history: the lease ran out, and nobody took the job": (
        {**RAN_OUT, **PAST}, PutBack(first(noted=True), "release", 5, entry=b"F"), "applied",
        {**QUEUED, "arq:retry:a": b"0", "barque:attempts:a": ([b"E", b"F"], MONTH), "barque:wake:q": AWAKE},
    ),
    "finish with an entry: it is in its history already": (
        {"arq:result:a": b"R", **PAST}, Finish(held(), b"R", 60_000, letter=ENTRY), "repeat", None,
    ),
    "release of a first attempt: it stands where it stood": (
        QUEUED, PutBack(held(token="w:1:7", attempt=1), "release", 5), "repeat", None,
    ),
    "release: the lease ran out, and nobody took the job": (
        {**RAN_OUT, "arq:retry:a": b"1"}, PutBack(held(), "release", 5), "applied",
        {**QUEUED, "arq:retry:a": b"1", "barque:wake:q": AWAKE},
    ),
    **{
        f"{how}: the job was enqueued anew": (QUEUED, PutBack(held(), how, 6), "lost", None)
        for how in ("retry", "return", "release")
    },
    "retry: the lease ran out, and nobody took the job": (
        {**RAN_OUT, "arq:retry:a": b"1"}, PutBack(held(), "retry", 60_000), "applied",
        {**LATER, "arq:retry:a": b"2"},
    ),
    **{
        f"{how}: another runs it": (
            {**RUNNING, "arq:in-progress:a": (b"v:3:1", "10s"), "arq:retry:a": b"3"}, PutBack(held(), how, 5), "lost",
            None,
        )
        for how in ("retry", "return", "release")
    },
    "retry: the job was ended meanwhile": ({}, PutBack(held(), "retry", 0), "lost", None),
    "bury: its own result is there": (
        {"arq:result:a": b"R"}, Finish(held(), b"R", 60_000, letter=LETTER), "repeat", None,
    ),
    "bury, not kept: the job is over": ({}, Finish(held(), b"R", 0, letter=LETTER), "repeat", None),
    "bury: the lease ran out, and nobody took the job": (
        {**RAN_OUT, "arq:retry:a": b"1"}, Finish(held(), b"R", 60_000, letter=LETTER), "applied",
        {"arq:result:a": (b"R", "60s"), **BURIED},
    ),
    "bury: another runs it": (
        {**RUNNING, "arq:in-progress:a": (b"v:3:1", "10s")}, Finish(held(), b"R", 0, letter=LETTER), "lost", None,
    ),
    "never recorded": (RUNNING, Finish(held(), b"R", 60_000), "applied", {"arq:result:a": (b"R", "60s")}),
}  # fmt: skip


@pytest.mark.parametrize("case", AGAIN)
async def test_a_batch_sent_again_tells_what_is_recorded_already_from_what_was_lost(case, keyspace, store):
    before, outcome, verdict, after = AGAIN[case]
    await keyspace.seed(before)
    refusals = await store.complete(("q",), [outcome], again=True)
    assert refusals == {"repeat": Refusals([], [0]), "lost": Refusals([0], []), "applied": NONE}[verdict]
    assert await keyspace.dump() == (before if after is None else after)


@pytest.mark.parametrize(
    "outcome",
    [
        Finish(held(), b"R", 60_000), Finish(held(), b"R", -1), Finish(held(), b"R", 0),
        Finish(held(), b"R", 0, 60_000), Finish(held(), b"R", 60_000, letter=LETTER),
        Finish(held(), b"R", 0, letter=LETTER), PutBack(held(), "retry", 60_000), PutBack(held(), "return", 5),
        PutBack(held(), "release", 5),
    ],
)  # fmt: skip
async def test_whatever_the_outcome_is_sending_it_again_loses_nothing_and_changes_nothing(outcome, keyspace, store):
    await keyspace.seed(RUNNING)
    assert await store.complete(("q",), [outcome]) == NONE
    recorded = await keyspace.dump()
    assert (await store.complete(("q",), [outcome], again=True)).lost == []
    assert await keyspace.dump() == recorded


@pytest.mark.parametrize("count", [1000, 1500])
async def test_letters_of_many_outcomes_at_once_are_told_apart_and_as_many_as_are_to_be(count, keyspace, store, redis):
    await redis.mset({f"arq:in-progress:{n}": b"w:1:1" for n in range(count)})
    letter = LETTER._replace(most=700)
    outcomes = [Finish(held(f"{n}", token="w:1:1", attempt=1), b"R", 0, letter=letter) for n in range(count)]
    assert await store.complete(("q",), outcomes) == NONE
    left = await redis.zrange("barque:dead", 0, -1, withscores=True)
    assert [job_id for job_id, _ in left] == [b"%d" % n for n in range(count - 700, count)]
    assert len({score for _, score in left}) == 700
    assert await redis.hlen("barque:dead:about") == 700
    assert len([key async for key in redis.scan_iter("barque:dead:letter:*", count=1000)]) == 700


async def test_a_limit_that_was_lowered_is_reached_in_steps(keyspace, store, redis):
    now = await keyspace.now_ms()
    await redis.zadd("barque:dead", {f"{n}": now - 1000 - n for n in range(250)})
    for left in (150, 49, 20):
        await keyspace.seed({"arq:in-progress:a": b"w:2:7"})
        await store.complete(("q",), [Finish(held(), b"R", 0, letter=LETTER._replace(most=20))])
        assert await redis.zcard("barque:dead") == left


@pytest.mark.parametrize("score", [float("inf"), 9e15])
async def test_a_score_that_is_no_time_of_ours_does_not_stop_letters(score, keyspace, store, redis):
    await redis.zadd("barque:dead", {"x": score})
    await keyspace.seed(RUNNING)
    assert await store.complete(("q",), [Finish(held(), b"R", 0, letter=LETTER)]) == NONE
    assert abs(await redis.zscore("barque:dead", "a") - await keyspace.now_ms()) < 60_000


@pytest.mark.parametrize("key", ["barque:dead", "barque:dead:about"])
async def test_a_key_of_a_foreign_type_where_letters_go_stops_no_outcome(key, keyspace, store):
    await keyspace.seed({**RUNNING, key: b"x"})
    assert await store.complete(("q",), [Finish(held(), b"R", 60_000, letter=LETTER)]) == NONE
    after = await keyspace.dump()
    assert after["arq:result:a"] == (b"R", "60s")
    assert "arq:in-progress:a" not in after


async def test_the_letters_are_there_for_as_long_as_any_is_to_be_kept(keyspace, store, redis):
    await keyspace.seed({"arq:in-progress:a": b"w:2:7", "arq:in-progress:b": b"w:2:7"})
    long, short = LETTER._replace(keep_ms=900_000), LETTER._replace(keep_ms=60_000)
    await store.complete(("q",), [Finish(held(), b"R", 0, letter=long)])
    await store.complete(("q",), [Finish(held("b"), b"R", 0, letter=short)])
    assert await redis.pttl("barque:dead") > 600_000
    assert await redis.pttl("barque:dead:about") > 600_000


@pytest.mark.parametrize("count", [999, 1000, 1001, 2500])
async def test_more_outcomes_than_one_call_holds(count, keyspace, store, redis):
    await redis.mset(
        {f"arq:in-progress:{n}": b"w:1:1" for n in range(count)} | {f"arq:job:{n}": b"J" for n in range(count)}
    )
    await redis.zadd("q", {f"{n}": 5 for n in range(count)})
    await redis.delete("arq:in-progress:0", f"arq:in-progress:{count - 1}")
    outcomes = [Finish(held(f"{n}", token="w:1:1", attempt=1), b"R", 60_000) for n in range(count)]
    assert await store.complete(("q",), outcomes) == Refusals([0, count - 1], [])
    assert await redis.zcard("q") == 2
    assert await redis.exists("arq:result:1") == 1


@pytest.fixture
async def pushed(redis):
    """What is published on the channel `c`, once `take` is awaited."""
    pubsub = redis.pubsub()
    await pubsub.subscribe("c", "d")
    for _ in range(2):
        while await pubsub.get_message(timeout=5) is None:
            pass

    async def take() -> tuple[str, list]:
        async with asyncio.timeout(10):
            while (message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)) is None:
                pass
        return message["channel"].decode(), [(frame.job_id, frame.content) for frame in frames(message["data"])]

    yield take
    await pubsub.aclose()


RUN = {
    "arq:in-progress:a": (b"w:2:7", "10s"),
    "arq:in-progress:b": (b"w:2:7", "10s"),
    "arq:in-progress:n": (b"w:2:7", "10s"),
}


async def test_results_are_pushed_to_those_who_wait_in_one_message_each(keyspace, store, pushed):
    await keyspace.seed({**RUN, "barque:waiters": {"a": b"c d", "b": b"c", "other": b"d"}})
    outcomes = [Finish(held(job_id), f"R{job_id}".encode(), -1) for job_id in ("a", "n", "b")]
    await store.complete(("q",), outcomes)
    assert dict([await pushed(), await pushed()]) == {"c": [("a", b"Ra"), ("b", b"Rb")], "d": [("a", b"Ra")]}
    results = {"arq:result:a": b"Ra", "arq:result:n": b"Rn", "arq:result:b": b"Rb"}
    assert await keyspace.dump() == {**results, "barque:waiters": {"other": b"d"}}


async def test_a_result_that_is_not_kept_can_be_fetched_for_a_minute_by_who_waits_for_it(keyspace, store, pushed):
    await keyspace.seed({**RUN, "barque:waiters": {"a": b"c"}})
    await store.complete(("q",), [Finish(held(job_id), f"R{job_id}".encode(), 0) for job_id in ("a", "b")])
    assert await pushed() == ("c", [("a", b"Ra")])
    assert await keyspace.dump() == {"arq:in-progress:n": (b"w:2:7", "10s"), "barque:result:a": (b"Ra", "60s")}
    assert await store.await_results("c", ["a", "b"]) == [b"Ra", False]
    assert await store.results(["a", "b"]) == [b"Ra", None]


@pytest.mark.parametrize("keep_ms", [0, 60_000])
async def test_a_large_result_is_to_be_fetched(keep_ms, keyspace, store, pushed):
    large, limit = b"x" * 65_537, b"x" * 65_536
    await keyspace.seed({**RUN, "barque:waiters": {"a": b"c", "n": b"c"}})
    await store.complete(("q",), [Finish(held("a"), large, keep_ms), Finish(held("n"), limit, keep_ms)])
    assert await pushed() == ("c", [("a", None), ("n", limit)])
    assert await store.results(["a", "n"]) == [large, limit]


async def test_a_message_has_an_end_what_is_past_it_is_to_be_fetched(keyspace, store, redis, pushed):
    ids, result = [f"{n:02}" for n in range(40)], b"x" * 60_000
    await redis.mset({f"arq:in-progress:{job_id}": b"w:2:7" for job_id in ids})
    await redis.hset("barque:waiters", mapping=dict.fromkeys(ids, b"c"))
    await store.complete(("q",), [Finish(held(job_id), result, 60_000) for job_id in ids])
    channel, frames = await pushed()
    assert channel == "c"
    assert frames == [(job_id, result if n < 17 else None) for n, job_id in enumerate(ids)]
    assert await store.results(ids) == [result] * 40


async def test_no_call_carries_more_than_some_megabytes(keyspace, store, redis):
    ids = [f"{n}" for n in range(10)]
    await redis.mset({f"arq:in-progress:{job_id}": b"w:2:7" for job_id in ids[1:]})
    await store.complete(("q",), [Finish(held("warm"), b"R", 0)])
    await redis.config_resetstat()
    refusals = await store.complete(("q",), [Finish(held(job_id), b"x" * 2_000_000, 60_000) for job_id in ids])
    assert refusals == Refusals([0], [])
    assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] == 3
    assert await store.results(ids) == [None, *[b"x" * 2_000_000] * 9]


async def test_without_rights_on_channels_outcomes_are_recorded_all_the_same(keyspace, store, redis, server):
    await redis.execute_command("ACL", "SETUSER", "mute", "on", "nopass", "~*", "+@all", "resetchannels")
    client = connect(Settings(redis_url=f"redis://mute:any@{server.url.partition('//')[2].rpartition('@')[2]}"))
    await keyspace.seed({**RUNNING, "barque:waiters": {"a": b"c", "b": b"c"}})
    try:
        with pytest.raises(ResponseError, match="channel"):
            await client.publish("c", "x")
        assert await Store(client).complete(("q",), [Finish(held(), b"R", 60_000)]) == NONE
    finally:
        await client.aclose()
        await redis.execute_command("ACL", "DELUSER", "mute")
    assert await keyspace.dump() == {"arq:result:a": (b"R", "60s"), "barque:waiters": {"b": b"c"}}


@pytest.mark.parametrize("key", ["barque:waiters", "arq:abort", "barque:wake:q"])
async def test_a_key_of_a_foreign_type_beside_the_jobs_stops_no_outcome(key, keyspace, store):
    await keyspace.seed({**RUNNING, "q": {"a": "now+10s", "b": "now+10s"}, "arq:in-progress:b": b"w:2:7", key: b"x"})
    outcomes = [Finish(held(), b"R", 60_000), PutBack(held("b"), "return", 5)]
    assert await store.complete(("q",), outcomes) == NONE
    after = {"q": {"b": 5}, "arq:result:a": (b"R", "60s"), "arq:retry:b": b"2", "barque:wake:q": AWAKE}
    assert await keyspace.dump() == {**after, key: b"x"}


async def test_a_queue_that_became_another_type_fails_before_anything_is_written(keyspace, store):
    before = {**RUN, "q": b"x", "arq:job:a": b"A"}
    await keyspace.seed(before)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await store.complete(("q",), [Finish(held("a"), b"R", 60_000), PutBack(held("b"), "retry", 60_000)])
    assert await keyspace.dump() == before


async def test_a_full_server_takes_outcomes(keyspace, store, full):
    await keyspace.seed({**RUNNING, "q": {"a": "now+10s", "b": "now+10s"}, "arq:in-progress:b": b"w:2:7"})
    await full()
    outcomes = [Finish(held(), b"R", 60_000, letter=LETTER), PutBack(held("b"), "return", 5)]
    assert await store.complete(("q",), outcomes) == NONE
    after = {"q": {"b": 5}, "arq:result:a": (b"R", "60s"), "arq:retry:b": b"2", "barque:wake:q": AWAKE}
    assert await keyspace.dump() == {**after, **BURIED}


async def test_a_full_server_takes_outcomes_and_leaves_a_gap_in_histories(keyspace, store, full):
    await keyspace.seed({**RUNNING, **PAST, "q": {"a": "now+10s", "b": "now+10s"}, "arq:in-progress:b": b"w:1:7"})
    await full()
    outcomes = [
        PutBack(held(), "return", 5, entry=b"F"), Finish(held("b", token="w:1:7", attempt=1), b"R", 60_000, 0, ENTRY),
    ]  # fmt: skip
    assert await store.complete(("q",), outcomes) == NONE
    after = {"q": {"a": 5}, "arq:job:a": b"A", "arq:retry:a": b"2", "arq:result:b": (b"R", "60s"), **PAST}
    assert await keyspace.dump() == {**after, "barque:wake:q": AWAKE}
    again = await store.complete(("q",), outcomes, again=True)
    assert again == Refusals([], [0, 1])


async def test_a_job_put_back_is_pushed_to_nobody_and_its_waiters_stay(keyspace, store, redis):
    await keyspace.seed({**RUNNING, "barque:waiters": {"a": b"c"}})
    await store.complete(("q",), [PutBack(held(), "retry", 60_000)])
    assert await redis.hgetall("barque:waiters") == {b"a": b"c"}


async def test_ids_that_are_no_utf8_end_too(keyspace, store, redis):
    await redis.set(b"arq:in-progress:\xff", b"w:2:7")
    assert await store.complete(("q",), [Finish(held("\udcff"), b"R", 60_000)]) == NONE
    assert await redis.get(b"arq:result:\xff") == b"R"


# A batch of N against N batches of one, from a keyspace with something of everything.

IDS = "abcde"
STATES = st.fixed_dictionaries(
    {
        **{
            f"arq:in-progress:{job_id}": st.sampled_from([None, (b"w:2:7", "40s"), (b"v:1:1", "40s"), (b"done", "60s")])
            for job_id in IDS
        },
        **{f"arq:job:{job_id}": st.sampled_from([None, b"J"]) for job_id in IDS},
        **{f"arq:retry:{job_id}": st.sampled_from([None, b"2"]) for job_id in IDS},
        "q": st.dictionaries(st.sampled_from(IDS + "z"), st.sampled_from([1, "now+20s", "now+90s"]), max_size=5),
        "r": st.dictionaries(st.sampled_from(IDS + "z"), st.sampled_from([1, "now+20s"]), max_size=3),
        "arq:abort": st.dictionaries(st.sampled_from(IDS), st.just(7), max_size=3),
        "barque:waiters": st.dictionaries(st.sampled_from(IDS), st.sampled_from([b"c", b"c d"]), max_size=3),
    }
).map(lambda state: {key: value for key, value in state.items() if value})
LEASES = st.builds(
    lambda job_id, token, queue: HeldLease(queue, job_id, token, int(token.split(":")[1])),
    st.sampled_from(IDS),
    st.sampled_from(["w:2:7", "w:2:7", "w:1:1"]),
    st.integers(0, 1),
)
PRIORITIES, TENANTS = st.sampled_from([0, 0, 3]), st.sampled_from(["", "", "ab"])
OUTCOMES = st.one_of(
    st.builds(
        Finish,
        LEASES,
        st.sampled_from([b"", b"R"]),
        st.sampled_from([0, -1, 60_000]),
        st.sampled_from([0, 60_000]),
        st.sampled_from([None, None, LETTER]),
    ),
    st.builds(PutBack, LEASES, st.just("retry"), st.sampled_from([0, 60_000]), PRIORITIES, TENANTS),
    st.builds(PutBack, LEASES, st.just("return"), st.sampled_from([5, 10**14]), st.just(0), st.just("")),
    st.builds(PutBack, LEASES, st.just("release"), st.sampled_from([5, 10**14]), PRIORITIES, TENANTS),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    state=STATES,
    # An attempt has one outcome.
    batch=st.lists(OUTCOMES, max_size=8, unique_by=lambda outcome: (outcome.lease.job_id, outcome.lease.token)),
)
async def test_a_batch_of_n_is_n_batches_of_one(keyspace, store, state, batch):
    async def after(batches):
        await keyspace.clear()
        await keyspace.seed(state)
        refused, start = [], 0
        for part in batches:
            refused += [start + index for index in (await store.complete(("q", "r"), part)).lost]
            start += len(part)
        left = await keyspace.dump()
        left |= {key: sorted(value) for key, value in left.items() if key.startswith("barque:fair:")}  # not of when
        # The marker is a hint: an outcome that comes later in the batch may make it needless.
        return sorted(refused), {key: value for key, value in left.items() if not key.startswith("barque:wake:")}

    assert await after([batch]) == await after([[outcome] for outcome in batch])
