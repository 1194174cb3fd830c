"""common/redis/inspect.py: where jobs and queues stand, read and never written."""

import pickle

import msgspec
import pytest

from common.codec import Extras, Reading, encode_job
from common.errors import Undecodable
from common.jobs import JobState, RemoteError
from common.redis.inspect import Inspector, WorkerReport
from common.result_codec import Result, encode_result

PAYLOAD = encode_job("fetch", ("u",), {"k": 1}, enqueued_ms=1_700_000_000_000, extras=Extras(meta={"trace": 1}))


def a_result(**changes) -> bytes:
    given = {
        "job_id": "a", "task": "fetch", "queue": "q", "success": True, "value": [1, {"b": 2}], "attempt": 3,
        "enqueued_ms": 1_700_000_000_000, "started_ms": 1_700_000_001_000, "finished_ms": 1_700_000_002_000,
        "outcome": "succeeded", "worker": "w", "args": ("u",), "kwargs": {"k": 1}, "metadata": {"trace": 1},
    }  # fmt: skip
    return encode_result(Result(**given | changes))


ERROR = {"success": False, "value": None, "error": RemoteError("a.B", "no", "tb")}

STATES = {
    JobState.UNKNOWN: [{}, {"arq:job:a": PAYLOAD}, {"arq:result:b": a_result()}],
    JobState.QUEUED: [{"q": {"a": 5}, "arq:job:a": PAYLOAD}, {"q": {"a": 5}}],
    JobState.SCHEDULED: [{"q": {"a": "now+60s"}, "arq:job:a": PAYLOAD}],
    JobState.RUNNING: [
        {"q": {"a": "now+60s"}, "arq:in-progress:a": (b"w:1:1", "60s")},
        {"q": {"a": 5}, "arq:in-progress:a": (b"1", "300s")},
    ],
    JobState.SUCCEEDED: [{"arq:result:a": a_result()}],
    JobState.FAILED: [
        {"arq:result:a": a_result(**ERROR, outcome="failed")}, {"arq:result:a": a_result(**ERROR, outcome="timed_out")},
    ],
    JobState.ENDED: [{"arq:result:a": b"garbage"}, {"arq:result:a": pickle.dumps({})}],
    JobState.CANCELLED: [{"arq:result:a": a_result(**ERROR, outcome="cancelled")}],
}  # fmt: skip


@pytest.fixture
def inspector(redis) -> Inspector:
    return Inspector(redis)


@pytest.mark.parametrize(("state", "stored"), [(state, stored) for state, every in STATES.items() for stored in every])
async def test_the_state_of_a_job(state, stored, keyspace, inspector):
    await keyspace.seed(stored)
    before = await keyspace.dump()
    assert await inspector.state("a", "q") is state
    assert (await inspector.job("a", "q")).state is state
    assert await keyspace.dump() == before


def test_every_state_is_in_the_table():
    assert STATES.keys() == set(JobState)


async def test_a_waiting_job(keyspace, inspector):
    await keyspace.seed({"q": {"a": 1_700_000_003_000}, "arq:job:a": PAYLOAD, "arq:retry:a": b"2"})
    info = await inspector.job("a", "q")
    assert (info.job_id, info.task, info.queue, info.attempt) == ("a", "fetch", "q", 2)
    assert (info.arguments, dict(info.keyword_arguments), dict(info.metadata)) == (("u",), {"k": 1}, {"trace": 1})
    assert info.enqueued_at.timestamp() == 1_700_000_000
    assert info.due_at.timestamp() == 1_700_000_003
    assert (info.started_at, info.finished_at, info.worker, info.result, info.error) == (None,) * 5


@pytest.mark.parametrize(("token", "worker"), [(b"host-1-abc:2:7", "host-1-abc"), (b"1", None)])
async def test_a_running_job_says_who_runs_it_where_that_is_known(token, worker, keyspace, inspector):
    await keyspace.seed({"q": {"a": "now+60s"}, "arq:job:a": PAYLOAD, "arq:in-progress:a": (token, "60s")})
    assert (await inspector.job("a", "q")).worker == worker


async def test_a_job_that_succeeded(keyspace, inspector):
    await keyspace.seed({"arq:result:a": a_result()})
    info = await inspector.job("a", "q")
    assert (info.task, info.queue, info.attempt, info.worker) == ("fetch", "q", 3, "w")
    assert info.result == [1, {"b": 2}]
    assert (info.arguments, dict(info.keyword_arguments), dict(info.metadata)) == (("u",), {"k": 1}, {"trace": 1})
    assert (info.finished_at - info.started_at).total_seconds() == 1
    assert info.error is None


async def test_a_job_that_failed(keyspace, inspector):
    await keyspace.seed({"arq:result:a": a_result(**ERROR)})
    info = await inspector.job("a", "q")
    assert info.error == RemoteError("a.B", "no", "tb")
    assert info.result is None


def garbled(**changes) -> bytes:
    return msgspec.msgpack.encode(
        {"t": 1, "f": "t", "a": [], "k": {}, "et": 1, "s": True, "r": 1, "st": 1, "ft": 1} | changes
    )


@pytest.mark.parametrize(
    "stored",
    [
        {"q": {"a": 5}, "arq:job:a": b"garbage"},
        {"q": {"a": 5}, "arq:job:a": pickle.dumps({"f": "t"})},
        {"q": {"a": 5}, "arq:job:a": b"\x85\xa1t\xc0\xa1f\xa1x\xa2et\x01\xa1k\x80\xa1a\x91\xa1\xff"},
        {"q": {"a": 5}, "arq:job:a": encode_job("t", (), {}, enqueued_ms=2**62)},
        {"q": {"a": 5}, "arq:job:a": b"\x84\xa1f\xa1x\xa1a\x01\xa1k\x02\xa2et\x01"},
        {"q": {"a": 2.0**62}, "arq:job:a": PAYLOAD},
        {"arq:result:a": b"garbage"},
        {"arq:result:a": garbled(ft=2**62)},
        {"arq:result:a": garbled(a=5)},
        {"arq:result:a": garbled(k=5)},
        {"arq:result:a": b"\x83\xa1f\xa1x\xa1s\xc3\xa1r\xa1\xff"},
        {"arq:result:a": pickle.dumps({"f": "t"})},
    ],
)
async def test_what_cannot_be_decoded_leaves_fields_empty(stored, keyspace, inspector):
    await keyspace.seed(stored)
    info = await inspector.job("a", "q")
    assert info.job_id == "a"
    assert info.state is not JobState.UNKNOWN


async def test_pickles_are_read_where_they_are_accepted(keyspace, redis):
    await keyspace.seed({"q": {"a": 5}, "arq:job:a": encode_job("t", (1,), {}, enqueued_ms=1, form="pickle")})
    info = await Inspector(redis, Reading(accept_pickle=True)).job("a", "q")
    assert (info.task, info.arguments) == ("t", (1,))
    assert (await Inspector(redis).job("a", "q")).task is None


async def test_a_queue(keyspace, inspector):
    await keyspace.seed({"q": {"a": "now-30s", "b": "now-10s", "c": "now+60s"}})
    report = await inspector.queue("q")
    assert (report.queue, report.queued, report.scheduled) == ("q", 2, 1)
    assert 30 <= report.oldest_due_seconds < 60


@pytest.mark.parametrize("stored", [{}, {"q": {"c": "now+60s"}}])
async def test_a_queue_with_nothing_due(stored, keyspace, inspector):
    await keyspace.seed(stored)
    report = await inspector.queue("q")
    assert (report.queued, report.scheduled, report.oldest_due_seconds) == (0, len(stored), None)


def a_report(worker: str) -> WorkerReport:
    return WorkerReport(worker, "host", 1, "0.1", ("q",), 100, 1, 2, running=3)


async def test_workers_are_those_whose_reports_are_fresh(keyspace, inspector, store):
    now = await keyspace.now_ms()
    for worker in ("b", "a"):
        await store.report_worker(worker, msgspec.json.encode(a_report(worker)), now_ms=now, keep_ms=60_000)
    assert await inspector.workers() == [a_report("a"), a_report("b")]
    await keyspace.client.delete("barque:worker:a")  # as its TTL would
    assert await inspector.workers() == [a_report("b")]
    await store.forget_worker("b")
    assert await inspector.workers() == []


async def test_a_report_that_is_none_hides_no_other(keyspace, inspector, store, redis):
    await store.report_worker("b", msgspec.json.encode(a_report("b")), now_ms=await keyspace.now_ms(), keep_ms=60_000)
    await redis.zadd("barque:workers", {"a": 1, b"\xff": 2, "list": 3, "nested": 4})
    await redis.mset(
        {"barque:worker:a": b"garbage \xff", b"barque:worker:\xff": b"{}", "barque:worker:nested": b"[" * 10**5}
    )
    await redis.lpush("barque:worker:list", "x")
    assert await inspector.workers() == [a_report("b")]


async def test_a_dead_workers_name_leaves_the_list_with_the_next_report_of_another(keyspace, store):
    now = await keyspace.now_ms()
    await store.report_worker("dead", b"{}", now_ms=now - 100_000, keep_ms=20_000)
    await store.report_worker("live", b"{}", now_ms=now, keep_ms=20_000)
    assert await keyspace.dump() == {
        "barque:workers": {"live": "now"}, "barque:worker:live": (b"{}", "20s"), "barque:worker:dead": (b"{}", "20s"),
    }  # fmt: skip


async def test_results_of_many(keyspace, inspector):
    await keyspace.seed({"arq:result:a": a_result(), "arq:result:b": b"garbage"})
    (found, missing) = await inspector.results(["a", "x"])
    assert (found.task, missing) == ("fetch", None)
    with pytest.raises(Undecodable):
        await inspector.results(["b"])


@pytest.mark.parametrize(
    ("count", "attempt"), [(b"3", 3), (b"1.5", 1), (b"nan", 0), (b"inf", 0), (b"-2", 0), (b"x", 0), (b"", 0)]
)
async def test_a_count_of_attempts_that_is_none_is_read_all_the_same(count, attempt, keyspace, inspector):
    await keyspace.seed({"q": {"a": 5}, "arq:job:a": PAYLOAD, "arq:retry:a": count})
    assert (await inspector.job("a", "q")).attempt == attempt


async def test_a_job_whose_id_is_no_utf8_is_found(redis, keyspace, inspector):
    await redis.zadd("q", {b"\xff": 5})
    assert await inspector.state("\udcff", "q") is JobState.QUEUED
    assert (await inspector.job("\udcff", "q")).state is JobState.QUEUED
    assert await inspector.results(["\udcff"]) == [None]
