"""Two producer processes that enqueue the same keys at once: one of them is heard, and both know which."""

import json
import subprocess
import sys
from collections import defaultdict

import pytest

from common import Context, Unique, task
from common.jobs import JobState
from producer import Producer
from tests.support.running import run_worker

__all__ = ["run_worker"]

pytestmark = pytest.mark.leaves_keys("arq:result:*")

KEYS, ROUNDS = 60, 5

RACE = """
import asyncio, json, sys
from common import Call, Unique
from common.errors import DuplicateJob
from producer import Producer

url, me, on_conflict, keys, rounds = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])

async def one(producer, key, turn):
    unique = Unique(on_conflict=on_conflict)
    try:
        call = Call("note", key, f"{me}:{turn}")
        job = await producer.enqueue(call, unique=unique, unique_key=key, delay=3600)
        return key, job.job_id, "new" if job.is_new else "replaced" if job.replaced else "there"
    except DuplicateJob as error:
        return key, error.job_id, "rejected"

async def main():
    async with Producer(url) as producer:
        client = producer.store.client
        await client.rpush("ready", me)
        await client.blpop("go:" + me)
        told = []
        for turn in range(rounds):
            told += await asyncio.gather(*(one(producer, key, turn) for key in range(keys)))
        print(json.dumps(told))

asyncio.run(main())
"""

ran: dict[int, str] = {}


@task(unique=Unique(key="key"))
async def note(ctx: Context, key: int, what: str) -> None:
    ran[key] = what


async def race(redis, redis_url: str, on_conflict: str) -> list[tuple[int, str, str]]:
    """Return what both processes were told: key, job id and word of each enqueue."""
    program = [sys.executable, "-c", RACE, redis_url]
    rest = [on_conflict, str(KEYS), str(ROUNDS)]
    runners = [subprocess.Popen([*program, me, *rest], stdout=subprocess.PIPE, text=True) for me in ("a", "b")]
    try:
        for _ in runners:
            assert await redis.blpop("ready", timeout=30)
        pipeline = redis.pipeline(transaction=True)
        for me in ("a", "b"):
            pipeline.rpush(f"go:{me}", "go")
        await pipeline.execute()
        return [tuple(told) for runner in runners for told in json.loads(runner.communicate(timeout=60)[0])]
    finally:
        for runner in runners:
            runner.kill()
            runner.wait()


@pytest.mark.leaves_keys("arq:*", "barque:wake:*")
@pytest.mark.parametrize(("on_conflict", "others"), [("return", "there"), ("reject", "rejected")])
async def test_one_of_all_that_come_is_added_and_all_are_told_the_same_job(on_conflict, others, redis, redis_url):
    told = await race(redis, redis_url, on_conflict)
    assert len(told) == 2 * KEYS * ROUNDS
    words, ids = defaultdict(list), defaultdict(set)
    for key, job_id, word in told:
        words[key].append(word)
        ids[key].add(job_id)
    assert all(sorted(words[key]) == sorted(["new", *[others] * (2 * ROUNDS - 1)]) for key in range(KEYS))
    assert all(len(ids[key]) == 1 for key in range(KEYS))
    assert await redis.zcard("arq:queue") == KEYS


@pytest.mark.parametrize("signing_keys", [None, f"k1:{'s' * 40}"], ids=["unsigned", "signed"])
async def test_whoever_replaces_last_is_run_and_what_is_signed_fits(
    signing_keys, redis, redis_url, run_worker, monkeypatch
):
    if signing_keys is not None:
        monkeypatch.setenv("BARQUE_SIGNING_KEYS", signing_keys)
    ran.clear()
    told = await race(redis, redis_url, "replace")
    assert sorted(word for _, _, word in told) == sorted(["new"] * KEYS + ["replaced"] * (2 * ROUNDS - 1) * KEYS)
    ids = {key: job_id for key, job_id, _ in told}
    assert await redis.zcard("arq:queue") == len(set(ids.values())) == KEYS
    await redis.zadd("arq:queue", dict.fromkeys(ids.values(), 1))
    await run_worker(note)
    async with Producer(redis_url) as producer:
        for job_id in ids.values():
            job = producer.job(job_id)
            await job.wait(timeout=30)
            assert await job.status() is JobState.SUCCEEDED
    # Each process's own are in order; which of the two came last, nobody knows.
    assert {ran[key] for key in range(KEYS)} <= {f"a:{ROUNDS - 1}", f"b:{ROUNDS - 1}"}
