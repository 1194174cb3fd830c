"""`producer.jobs`: which jobs are on which list, on a real server, whatever else is stored there."""

import dataclasses
import json
import math
import pickle
import re
import sys
from collections import Counter

import pytest

from common.codec import Extras, encode_job
from common.dead_letters import About, encode_about
from common.errors import ConfigurationError
from common.fairness import lane_of
from common.jobs import JobState, RemoteError
from common.redis.contents import LARGEST_LISTED
from common.result_codec import Result, encode_result
from common.uniqueness import digest_of
from producer import BlockingProducer, Producer
from producer.finding import MOST_LOOKED_AT
from producer.job_filters import LISTED_STATES
from tests.support.running import producer

__all__ = ["producer"]

PARKED, RESERVED = 2045 / 2048, 2047 / 2048
QUEUE = "arq:queue"


def payload(task="fetch", *args, **extras) -> bytes:
    return encode_job(task, args, {}, enqueued_ms=1_700_000_000_000, extras=Extras(**extras) if extras else None)


def result(job_id, *, outcome="succeeded", finished_ms=1_700_000_002_000, **changes) -> bytes:
    error = None if outcome == "succeeded" else RemoteError("app.Broken", f"no {job_id}", "tb")
    given = {
        "job_id": job_id, "task": "fetch", "queue": QUEUE, "success": error is None, "value": 1, "attempt": 1,
        "enqueued_ms": 1_700_000_000_000, "started_ms": 1_700_000_001_000, "finished_ms": finished_ms,
        "outcome": outcome, "worker": "w", "args": ("u",), "kwargs": {}, "error": error,
    }  # fmt: skip
    return encode_result(Result(**given | changes))


async def one_of_each(keyspace) -> None:
    """Seed a job in each state; its id says which."""
    now = await keyspace.now_ms()
    await keyspace.seed(
        {
            QUEUE: {
                "queued": 5,
                "scheduled": "now+900s",
                "running": "lease+300s",
                "waiting": math.floor(now) + 600_000 + PARKED,
                "reserved": math.floor(now) + 500_000 + RESERVED,
                "stock": 4,
            },
            "barque:laned:arq:queue": {"laned": lane_of("ada").encode()},
            f"barque:lane:arq:queue:{lane_of('ada')}": {"laned": 6},
            "arq:job:queued": payload("fetch", "u"),
            "arq:job:laned": payload(lane=lane_of("ada")),
            "arq:job:scheduled": payload("later"),
            "arq:job:running": payload("fetch", limit_key="acme"),
            "arq:job:waiting": payload("call"),
            "arq:job:reserved": payload("call", limit_key="acme"),
            "arq:job:stock": payload(),
            "arq:in-progress:running": (b"host-1-abc:2:7", "300s"),
            "arq:in-progress:stock": (b"1", "300s"),
            "barque:limit-wait:waiting": (b"concurrency:call", "600s"),
            "arq:result:succeeded": result("succeeded"),
            "arq:result:failed": result("failed", outcome="failed"),
            "arq:result:cancelled": result("cancelled", outcome="cancelled"),
            "arq:result:ended": b"garbage",
            "arq:result:dead": result("dead", outcome="failed"),
            "barque:dead": {"dead": now},
            "barque:dead:about": {
                "dead": encode_about(About("fetch", QUEUE, error="app.Broken", message="no dead", attempts=3))
            },
            "barque:dead:letter:dead": {"payload": payload("fetch", "d"), "queue": QUEUE.encode()},
        }
    )


async def ids(producer, **filters) -> list[str]:
    """Return the ids of all pages, as they come."""
    found, cursor = [], None
    for _ in range(1000):
        page = await producer.jobs(cursor=cursor, **filters)
        found += [info.job_id for info in page.jobs]
        cursor = page.next
        if cursor is None:
            return found
    raise AssertionError("there is no end to it")


LISTS = {
    "running": ["running", "stock"],
    "queued": ["queued", "laned"],
    "waiting": ["reserved", "waiting"],
    "scheduled": ["scheduled"],
    "dead": ["dead"],
    "succeeded": ["succeeded"],
    "failed": ["dead", "failed"],
    "cancelled": ["cancelled"],
    "ended": ["ended"],
}


@pytest.mark.parametrize("state", LISTED_STATES)
async def test_a_list_holds_the_jobs_of_its_state(state, keyspace, producer):
    await one_of_each(keyspace)
    before = await keyspace.dump()
    assert sorted(await ids(producer, state=state)) == sorted(LISTS[state])
    assert await keyspace.dump() == before


@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_without_a_state_each_job_is_on_one_list(limit, keyspace, producer):
    await one_of_each(keyspace)
    found = await ids(producer, limit=limit)
    assert found[:8] == ["running", "stock", "queued", "laned", "reserved", "waiting", "scheduled", "dead"]
    assert sorted(found[8:]) == ["cancelled", "ended", "failed", "succeeded"]


@pytest.mark.parametrize("job_id", ["running", "stock", "queued", "laned", "waiting", "scheduled", "dead", "failed"])
async def test_an_id_is_found_at_once_in_whatever_state(job_id, keyspace, producer):
    await one_of_each(keyspace)
    page = await producer.jobs(id=job_id)
    assert ([info.job_id for info in page.jobs], page.next) == ([job_id], None)
    states = [state for state in LISTED_STATES if (await producer.jobs(id=job_id, state=state)).jobs]
    assert states == [state for state in LISTED_STATES if job_id in LISTS[state]]


async def test_an_id_is_found_in_whatever_queue_that_is_known(keyspace, redis_url):
    await keyspace.seed(
        {"low": {"a": 5}, "arq:job:a": payload(), "barque:laned:odd": {"b": b"l"}, "barque:lane:odd:l": {"b": 5}}
    )
    async with Producer(redis_url) as producer:
        (info,) = (await producer.jobs(id="a")).jobs
        assert (info.state, info.task, info.queue) == (JobState.UNKNOWN, "fetch", None)
        assert (await producer.jobs(id="a", queue="low")).jobs[0].state is JobState.QUEUED
        assert (await producer.jobs(id="b", queue="odd")).jobs[0].state is JobState.QUEUED
        assert (await producer.jobs(id="c")).jobs == ()


async def test_a_dead_job_whose_result_is_gone_is_found_by_its_letter(keyspace, producer):
    await one_of_each(keyspace)
    await keyspace.client.delete("arq:result:dead")
    (info,) = (await producer.jobs(id="dead")).jobs
    assert (info.state, info.is_dead, info.task, info.arguments) == (JobState.FAILED, True, "fetch", ("d",))
    assert (info.error.type, info.error.message, info.attempt) == ("app.Broken", "no dead", 3)


async def test_what_is_told_of_a_job_on_a_list(keyspace, producer):
    await one_of_each(keyspace)
    told = {info.job_id: info for info in (await producer.jobs()).jobs}
    assert (told["queued"].task, told["queued"].arguments, told["queued"].queue) == ("fetch", ("u",), QUEUE)
    assert told["queued"].due_at.timestamp() == 0.005
    assert told["laned"].due_at.timestamp() == 0.006
    assert (told["running"].worker, told["running"].attempt) == ("host-1-abc", 1)
    assert told["stock"].worker is None
    assert (told["waiting"].waits_for, told["waiting"].due_at) == ("concurrency:call", None)
    assert (told["failed"].error.type, told["failed"].is_dead) == ("app.Broken", False)
    assert (told["dead"].is_dead, told["dead"].finished_at is not None) == (True, True)
    for job_id in ("queued", "running", "scheduled", "succeeded"):
        assert told[job_id] == dataclasses.replace(await producer.job(job_id).info(), attempts=(), attempts_dropped=0)


FILTERS = [
    ({"task": "fetch"}, {"running", "stock", "queued", "laned", "dead", "succeeded", "failed", "cancelled"}),
    ({"task": "la*"}, {"scheduled"}),
    ({"task": "fetch", "state": ["queued", "running"]}, {"running", "stock", "queued", "laned"}),
    ({"task": "[f]etch"}, {"running", "stock", "queued", "laned", "dead", "succeeded", "failed", "cancelled"}),
    ({"key": "acme"}, {"running", "reserved"}),
    ({"key": "ada"}, {"laned"}),
    ({"key": lane_of("ada")}, {"laned"}),
    ({"key": "concurrency:call"}, {"waiting"}),
    ({"error": "BROKEN"}, {"dead", "failed", "cancelled"}),
    ({"error": "no dea"}, {"dead"}),
    ({"error": "app.Broken", "state": "failed"}, {"dead", "failed"}),
    ({"queue": "another"}, set()),
    ({"queue": QUEUE, "state": "succeeded"}, {"succeeded"}),
]


@pytest.mark.parametrize(("filters", "expected"), FILTERS)
@pytest.mark.parametrize("limit", [1, 50])
async def test_filters_all_of_which_must_fit(filters, expected, limit, keyspace, producer):
    await one_of_each(keyspace)
    assert sorted(await ids(producer, limit=limit, **filters)) == sorted(expected)


@pytest.mark.parametrize(("task", "key"), [("sync", "17"), ("sync", "ada"), (None, digest_of("sync", "ada"))])
async def test_the_job_of_a_unique_key_is_found(task, key, keyspace, producer):
    stored = 17 if key == "17" else "ada"
    await keyspace.seed(
        {
            QUEUE: {"a": 5, "b": 6},
            "arq:job:a": payload("sync"),
            "arq:job:b": payload("sync"),
            "barque:unique:" + digest_of("sync", stored): {"job": b"a", "queue": QUEUE.encode()},
        }
    )
    filters = {"key": key} if task is None else {"key": key, "task": task}
    assert await ids(producer, **filters) == ["a"]


WRONG = [
    ({"state": "asleep"}, "state='asleep'"),
    ({"state": []}, "state="),
    ({"limit": 0}, "limit=0"),
    ({"limit": 501}, "limit=501"),
    ({"limit": "9"}, "limit='9'"),
    ({"cursor": "nonsense"}, "cursor="),
    ({"cursor": "é"}, "cursor="),
    ({"cursor": 5}, "cursor="),
    ({"cursor": "k" * 5000}, "cursor="),
    ({"task": ""}, "task="),
    ({"id": ""}, "id="),
    ({"queue": "\ud800"}, "queue="),
    ({"error": "x", "state": "queued"}, "has not failed"),
    ({"key": "x", "state": "failed"}, "has ended"),
]


@pytest.mark.parametrize(("given", "words"), WRONG)
async def test_what_cannot_be_asked_for_is_said(given, words, producer):
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        await producer.jobs(**given)


async def test_an_unknown_filter_is_a_type_error(producer):
    with pytest.raises(TypeError, match=r"'colour'.*state, queue, task, id, key, error, limit, cursor"):
        await producer.jobs(colour="red")


async def test_a_cursor_is_for_the_filters_it_came_with(keyspace, producer):
    await one_of_each(keyspace)
    cursor = (await producer.jobs(limit=1)).next
    assert re.fullmatch(r"[\w-]+", cursor)
    with pytest.raises(ConfigurationError, match="other filters"):
        await producer.jobs(limit=1, cursor=cursor, state="queued")


GARBAGE = [
    b"", b"\xff", b"garbage", pickle.dumps({"f": "t"}), b"\x80\x04.", encode_job("t", (), {}, enqueued_ms=2**62),
    b"\x85\xa1t\xc0\xa1f\xa1x\xa2et\x01\xa1k\x80\xa1a\x91\xa1\xff", b"x" * (LARGEST_LISTED + 1),
]  # fmt: skip


async def test_no_garbage_breaks_a_page(keyspace, producer, redis):
    odd = b"\xff odd\n\x00 id"
    state = {QUEUE: {f"g{index}": 5 + index for index in range(len(GARBAGE))}, "barque:dead": {"d": 7}}
    state |= {f"arq:job:g{index}": raw for index, raw in enumerate(GARBAGE)}
    state |= {f"arq:result:r{index}": raw for index, raw in enumerate(GARBAGE)}
    await keyspace.seed(state | {"barque:dead:about": {"d": b"garbage"}, "barque:limit-wait:g1": b"\xff"})
    await redis.zadd(QUEUE, {odd: math.inf, b"low": -math.inf, b"far": 2.0**62})
    await redis.hset("arq:job:typed", "not", "a string")
    await redis.zadd(QUEUE, {"typed": 50, "gone": 51})
    await redis.set("barque:dead:letter:d", "no hash")
    await redis.set("barque:laned:" + QUEUE, "no hash")
    await redis.set("barque:fair:" + QUEUE, "no hash")
    for filters in ({}, {"task": "t"}, {"key": "k"}, {"error": "e"}):
        for limit in (1, 50):
            await ids(producer, limit=limit, **filters)
    told = {info.job_id: info for info in (await producer.jobs(limit=500)).jobs}
    assert odd.decode(errors="surrogateescape") in told
    assert {"low", "far", "typed", "gone", "d", "g0", "r2"} <= told.keys()
    assert "is no job" in told["g2"].unreadable
    assert "pickle" in told["g3"].unreadable
    assert "expired" in told["gone"].unreadable
    assert f"{LARGEST_LISTED + 1:,} bytes" in told["g7"].unreadable
    assert "another type" in told["typed"].unreadable
    assert (told["r2"].state, told["r2"].unreadable) == (JobState.ENDED, None)
    assert told["r7"].error.message.endswith("are not read for a list")
    page = await producer.jobs(task="t")
    assert page.unreadable >= 2 * (len(GARBAGE) - 2)


@pytest.mark.parametrize("name", [QUEUE, "barque:dead", "barque:laned:" + QUEUE, "barque:dead:about"])
async def test_a_key_of_another_type_is_as_good_as_none(name, keyspace, producer, redis):
    await one_of_each(keyspace)
    await redis.delete(name)
    await redis.set(name, "foreign")
    assert {"failed", "succeeded"} <= set(await ids(producer))


async def test_jobs_of_one_moment_are_all_paged_through(redis, keyspace, producer):
    """And whatever becomes of the one that a page ended with."""
    every = [f"{index:04}" for index in range(300)]
    await redis.zadd(QUEUE, dict.fromkeys(every, 5))
    found, cursor = [], None
    for _ in range(100):
        page = await producer.jobs(state="queued", limit=7, cursor=cursor)
        found += [info.job_id for info in page.jobs]
        cursor = page.next
        if cursor is None:
            break
        await redis.zrem(QUEUE, *found[-3:], *found[:2])
    assert found == every


async def test_a_page_looks_at_so_many_and_says_so(redis, keyspace, producer):
    await redis.mset({f"arq:job:{index:05}": payload("other") for index in range(3000)} | {"arq:job:z": payload()})
    await redis.zadd(QUEUE, {f"{index:05}": index for index in range(3000)} | {"z": 3000})
    first = await producer.jobs(task="fetch", state="queued")
    assert (first.jobs, first.looked_at, first.at_end) == ((), MOST_LOOKED_AT, False)
    second = await producer.jobs(task="fetch", state="queued", cursor=first.next)
    assert ([info.job_id for info in second.jobs], second.looked_at, second.at_end) == (["z"], 1001, True)


async def test_results_are_scanned_a_bounded_number_of_keys_a_page(redis, keyspace, producer):
    await redis.mset({f"arq:job:{index:05}": b"x" for index in range(6000)})
    await redis.mset({f"arq:result:{index}": result(str(index), finished_ms=index) for index in range(20)})
    pages, cursor = [], None
    while True:
        pages.append(await producer.jobs(state="succeeded", cursor=cursor))
        cursor = pages[-1].next
        if cursor is None:
            break
    found = Counter(info.job_id for page in pages for info in page.jobs)
    assert found.keys() == {str(index) for index in range(20)}
    assert all(page.looked_at <= MOST_LOOKED_AT + 100 for page in pages)
    assert len(pages) > 2
    for page in pages:
        times = [info.finished_at for info in page.jobs]
        assert times == sorted(times, reverse=True)


async def test_running_jobs_keep_their_page_while_their_leases_move_on(redis, keyspace, producer):
    every = [f"{index:03}" for index in range(60)]
    await redis.mset({f"arq:in-progress:{job_id}": b"w:1:1" for job_id in every})
    found, cursor = [], None
    for turn in range(6):
        now = await keyspace.now_ms()
        leases = {job_id: now + 50_000.5 + (index * 7919 + turn * 104729) % 5000 for index, job_id in enumerate(every)}
        await redis.zadd(QUEUE, leases)
        page = await producer.jobs(state="running", limit=10, cursor=cursor)
        found += [info.job_id for info in page.jobs]
        cursor = page.next
    assert found == every


@pytest.mark.parametrize(("lease_s", "delayed"), [(10, 0), (10, 7000), (600, 0), (600, 7000), (3599, 10)])
async def test_running_jobs_are_found_however_long_their_lease_and_whatever_else_is_due_soon(
    lease_s, delayed, redis, keyspace, producer
):
    now = await keyspace.now_ms()
    every = [f"r{index:03}" for index in range(60)]
    await redis.mset({f"arq:in-progress:{job_id}": b"w:1:1" for job_id in every})
    await redis.zadd(QUEUE, {job_id: now + lease_s * 1000 + index + 0.5 for index, job_id in enumerate(every)})
    if delayed:
        await redis.zadd(QUEUE, {f"d{index}": now + 9000 + index for index in range(delayed)})
    assert sorted(set(await ids(producer, state="running", limit=25))) == every


async def test_what_workers_tell_of_those_that_run_and_counts(keyspace, producer, redis):
    await one_of_each(keyspace)
    report = {"worker": "w", "host": "h", "pid": 1, "version": "1", "queues": [QUEUE], "concurrency": 9}
    report |= {"started_ms": 1, "reported_ms": 2, "running": 3, "succeeded": 4, "retried": 5, "failed": 6}
    run = {"job_id": "running", "task": "fetch", "queue": QUEUE, "attempt": 1, "started_ms": 1_700_000_000_000}
    report |= {"worker": "host-1-abc", "longest": [run]}
    await redis.zadd("barque:workers", {"w": 2})
    await redis.set("barque:worker:w", json.dumps(report))
    counts = await producer.job_counts()
    assert (counts.queued, counts.later, counts.running, counts.dead) == (3, 4, 3, 1)
    assert (counts.succeeded, counts.retried, counts.failed) == (4, 5, 6)
    counts = await producer.job_counts(queue="none")
    assert (counts.queued, counts.running) == (0, 0)
    for filters in ({"state": "running"}, {"id": "running"}):
        assert (await producer.jobs(**filters)).jobs[0].started_at.timestamp() == 1_700_000_000


KINDS = {
    "TIME", "ZCOUNT", "ZRANGE", "ZSCORE", "ZMSCORE", "ZCARD", "MGET", "GET", "STRLEN", "HSTRLEN", "HGET", "HMGET",
    "HEXISTS", "HSCAN", "HLEN", "SCAN", "EVALSHA", "EVAL", "MULTI", "EXEC", "PING", "CLIENT", "LRANGE",
}  # fmt: skip
MOST_IN_ONE_COMMAND = 2000


def looks_at(name: str, arguments: list[str]) -> int:
    """Return how many members, fields or keys a command may look at."""
    if name == "ZRANGE" and "barque:workers" in arguments:
        return 0  # those that live; pruned at each report
    if name == "ZRANGE" and "LIMIT" in arguments:
        return int(arguments[arguments.index("LIMIT") + 2])
    if name == "ZRANGE":
        first, last = int(arguments[1]), int(arguments[2])
        return last - first + 1 if 0 <= first <= last else sys.maxsize
    if name == "LRANGE":
        return 0  # the attempts of one job, which are kept up to a number
    if name in {"SCAN", "HSCAN"}:
        return int(arguments[arguments.index("COUNT") + 1])
    return len(arguments)


async def test_no_command_of_a_page_takes_the_server_long(redis, redis_url, keyspace):
    """By what is asked, not by the clock: each command looks at a bounded number of jobs, whatever there is."""
    await one_of_each(keyspace)
    await redis.mset({f"arq:job:{index:05}": payload() for index in range(5000)})
    await redis.zadd(QUEUE, {f"{index:05}": index for index in range(5000)})
    await redis.hset("barque:laned:" + QUEUE, mapping={f"l{index:05}": lane_of("ada") for index in range(2000)})
    seen: list[list[str]] = []
    async with Producer(redis_url) as producer, redis.monitor() as monitor:
        for filters in ({}, {"task": "no*"}, {"key": "ada"}, {"error": "x"}, {"id": "queued"}, {"state": "failed"}):
            await ids(producer, limit=500, **filters)
            await producer.jobs(limit=1, **filters)
        await producer.job_counts()
        await producer.store.client.execute_command("ECHO", "over")
        while (command := (await monitor.next_command())["command"].split(" "))[-1] != "over":
            seen.append([part.strip('"') for part in command])
    assert len(seen) > 100
    assert {name.upper() for name, *_ in seen} <= KINDS
    assert [command for command in seen if looks_at(command[0].upper(), command[1:]) > MOST_IN_ONE_COMMAND] == []


def test_blocking(redis_url, no_keys_left):
    with BlockingProducer(redis_url) as producer:
        page = producer.jobs(state="queued", limit=10)
        assert (page.jobs, page.next) == ((), None)
        assert producer.job_counts().queued == 0
