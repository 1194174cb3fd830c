"""claim.lua where one job is due: what has a way of its own there ends as it does where several queues are served."""

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
