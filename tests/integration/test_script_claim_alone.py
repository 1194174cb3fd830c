"""claim.lua where one job is due, or all that are ask for nothing: they have ways of their own, and go as others do.

One queue alone is served by other ways than several, and where anybody is to be aborted none of these is taken.
"""

import pytest

NOBODYS = "an-empty-queue"
LONG_AGO = 10**11  # as in tests/support/keyspace.py: no time of our days
JOB = {"q": {"a": "now-30s"}, "arq:job:a": b"A"}

STATES = {
    "one job": JOB,
    "one that is due this very moment": JOB | {"q": {"a": "now"}},
    "with the next one to come": JOB | {"q": {"a": "now-30s", "b": "now+60s"}},
    "with one that never comes": JOB | {"q": {"a": "now-30s", "b": 10**14}},
    "beside one that runs": JOB | {"q": {"a": "now-30s", "b": "lease+60s"}, "arq:in-progress:b": (b"w:1:3", "60s")},
    "beside the end of a lost one": JOB | {"q": {"a": "now-60s", "b": "lease-30s"}, "arq:job:b": b"B"},
    "before another that is due": JOB | {"q": {"a": "now-60s", "b": "now-30s"}, "arq:job:b": b"B"},
    "one whose payload expired": {"q": {"a": "now-30s"}},
    "one whose payload is no payload": {"q": {"a": "now-30s"}, "arq:job:a": {"f": b"x"}},
    "one that had attempts": JOB | {"arq:retry:a": b"2"},
    "one that had one which does not count": JOB | {"arq:retry:a": b"0", "barque:attempts:a": [b"E"]},
    "one that a stock arq worker runs": JOB | {"arq:in-progress:a": (b"1", "60s")},
    "an ended tick": JOB | {"arq:in-progress:a": (b"done", "60s")},
    "one that is lost": JOB | {"q": {"a": "lease-30s"}},
    "one with a head start": JOB | {"q": {"a": 1_700_000_000_000 + 2032 / 2048}},
    "one of long ago": JOB | {"q": {"a": 5}},
    "one of before the beginning": JOB | {"q": {"a": -5}},
    "one to be aborted": JOB | {"arq:abort": {"a": "now-10s"}},
    "where another is to be aborted": JOB | {"arq:abort": {"b": "now-10s"}},
    "in a queue that is paused": JOB | {"barque:paused": {"queue:q": b"1"}},
    "where another queue is paused": JOB | {"barque:paused": {"queue:r": b"1"}},
    "one that is to be lifted": JOB | {"barque:lift:q": {"a": 1_700_000_000_000 + 1 / 2048}},
    "none": {},
    "none that is due": {"q": {"a": "now+60s"}, "arq:job:a": b"A"},
    "none, and a marker": {"barque:wake:q": {"due": 0}},
    "one, and a marker": JOB | {"barque:wake:q": {"due": 0}},
}


@pytest.mark.parametrize("most", [1, 100])
@pytest.mark.parametrize("state", STATES)
async def test_a_claim_of_one_queue_is_as_one_of_several(state, most, keyspace, store):
    claims, left = [], []
    for queues in (["q"], ["q", NOBODYS]):
        await keyspace.clear()
        await keyspace.seed(STATES[state])
        claims.append(await store.claim(queues, most=most, lease_ms=60_000, worker="w", number=7))
        left.append(await keyspace.dump())
    one, several = claims
    assert left[0] == left[1]
    assert one.waiting == several.waiting
    assert (one.next_due_ms is None) == (several.next_due_ms is None)
    if one.next_due_ms is not None:
        assert abs(one.next_due_ms - several.next_due_ms) < 10_000
    assert [as_told(job, one) for job in one.jobs] == [as_told(job, several) for job in several.jobs]


def page(**others) -> dict:
    """Return a queue of twenty due jobs, the first ten of one time, some of them otherwise."""
    jobs = {f"job-{n:02}": f"now-{60 - max(0, n - 10)}s" for n in range(20)}
    return {"q": jobs | others.pop("q", {})} | {f"arq:job:{job_id}": job_id.encode() for job_id in jobs} | others


PAGES = {
    "plain ones": page(),
    "of one time": page(q={f"job-{n:02}": "now-60s" for n in range(20)}),
    "one without a payload": {key: value for key, value in page().items() if key != "arq:job:job-07"},
    "one that had attempts": page(**{"arq:retry:job-07": b"2"}),
    "one that a stock arq worker runs": page(**{"arq:in-progress:job-07": (b"1", "60s")}),
    "one more than is known of": page(**{"arq:in-progress:job-07": (b"1", "60s"), "arq:retry:job-07": b"1"}),
    "an ended tick": page(**{"arq:in-progress:job-07": (b"done", "60s")}),
    "one that is lost": page(q={"job-07": "lease-30s"}),
    "one with a head start": page(q={"job-07": 1_700_000_000_000 + 2032 / 2048}),
    "one of long ago": page(q={"job-07": 5}),
    "one that is due later": page(q={"job-07": "now+60s"}),
}


@pytest.mark.parametrize("most", [7, 20, 100])
@pytest.mark.parametrize("queues", [["q"], ["q", NOBODYS]], ids=["one queue", "two"])
@pytest.mark.parametrize("state", PAGES)
async def test_a_page_is_claimed_as_where_somebody_is_to_be_aborted(state, queues, most, keyspace, store):
    claims, left = [], []
    for wishes in ({}, {"arq:abort": {"somebody": "now-10s"}}):
        await keyspace.clear()
        await keyspace.seed(PAGES[state] | wishes)
        claims.append(await store.claim(queues, most=most, lease_ms=60_000, worker="w", number=7))
        left.append(await keyspace.dump())
        left[-1].pop("arq:abort", None)
    plain, other = claims
    assert left[0] == left[1]
    assert plain.waiting == other.waiting
    assert (plain.next_due_ms is None) == (other.next_due_ms is None)
    assert [as_told(job, plain) for job in plain.jobs] == [as_told(job, other) for job in other.jobs]
    assert plain.jobs


def as_told(job, claim) -> tuple:
    """Return what is said of a job, its times to the nearest ten seconds, as the two claims were not made at once."""
    waited = job.due_ms if job.due_ms < LONG_AGO else round((claim.now_ms - job.due_ms) / 10_000)
    aborted = job.aborted and round((claim.now_ms - job.aborted) / 10_000)
    return job.job_id, job.payload, job.attempt, waited, aborted, job.queue, job.token, job.past, job.priority


async def test_a_full_server_gives_it(keyspace, store, full):
    await keyspace.seed(JOB)
    await full()
    claim = await store.claim(["q"], most=10, lease_ms=60_000, worker="w", number=7)
    assert [job.job_id for job in claim.jobs] == ["a"]
