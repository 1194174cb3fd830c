"""What anybody may write to Redis, against a real worker process: no worker dies, and every bad job is accounted for.

    BARQUE_TEST_FUZZ_SEED=123 make test ARGS="tests/chaos/test_fuzz.py"     makes the bytes of a failure again

A bad job is accounted for when it ends in a result, or waits in its queue for a worker that knows its task, or is
named in the worker's log.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

import msgspec
import pytest

from common import BarqueError
from producer import Producer
from tests.chaos.driver.processes import Process, arq_command
from tests.chaos.fuzz import mutations
from tests.chaos.fuzz.mutations import MUTATIONS, mutated, valid_payload
from tests.chaos.fuzz.tasks import square

pytestmark = [pytest.mark.leaves_keys, pytest.mark.timeout(240)]

SEED = int(os.environ.get("BARQUE_TEST_FUZZ_SEED", random.SystemRandom().randrange(2**32)))

PAYLOADS = 10_000
NEIGHBOURS = 1000
QUEUE = "arq:queue"
OTHER = "fuzz:other"

TYPES = {
    "string": lambda redis, key: redis.set(key, b"\xff not what it should be"),
    "list": lambda redis, key: redis.rpush(key, b"\xff", b"1"),
    "set": lambda redis, key: redis.sadd(key, b"\xff", b"1"),
    "hash": lambda redis, key: redis.hset(key, b"\xff", b"1"),
    "zset": lambda redis, key: redis.zadd(key, {b"\xff": 1.0}),
    "stream": lambda redis, key: redis.xadd(key, {b"\xff": b"1"}),
}


class Fuzzed:
    """One worker process, and what is seen of it from outside."""

    def __init__(self, folder: Path, url: str) -> None:
        self.log = folder / "worker.jsonl"
        settings = {
            "BARQUE_REDIS_URL": url,
            "BARQUE_TASKS": "tests.chaos.fuzz.tasks",
            "BARQUE_QUEUES": f"{QUEUE},{OTHER}",
            "BARQUE_LEASE": "2",
            "BARQUE_LOG_FORMAT": "json",
            "BARQUE_LOG_FILE": str(self.log),
        }
        self.process = Process("worker", arq_command("workers.WorkerSettings"), folder=folder, settings=settings)

    def must_live(self) -> None:
        assert self.process.exit_code is None, f"the worker died, seed {SEED}:\n{self.process.last_words()}"

    def logged(self) -> bytes:
        return self.log.read_bytes() if self.log.exists() else b""

    async def until(self, happened, what, seconds=60):
        try:
            async with asyncio.timeout(seconds):
                while not await happened():
                    self.must_live()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"waited for {what} in vain, seed {SEED}; the log's end: {self.logged()[-2000:]!r}")

    async def stop(self) -> None:
        """It must still know how to stop."""
        self.must_live()
        self.process.ask_to_stop()
        async with asyncio.timeout(60):
            while self.process.exit_code is None:
                await asyncio.sleep(0.02)
        assert self.process.exit_code == 0, self.process.last_words()


@pytest.fixture
async def worker(redis_url, tmp_path):
    sys.stdout.write(f"BARQUE_TEST_FUZZ_SEED={SEED}\n")  # pytest shows it when the test fails
    fuzzed = Fuzzed(tmp_path, redis_url)
    try:

        async def started():
            return b'"worker_started"' in fuzzed.logged()

        await fuzzed.until(started, "the worker to start")
        yield fuzzed
    finally:
        fuzzed.process.end()


async def put(redis, jobs, queue=QUEUE):
    """Write jobs as a foreign program would: a payload and a place in the queue, nothing else."""
    ids = list(jobs)
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        await redis.mset({b"arq:job:" + job: jobs[job] for job in part})
        await redis.zadd(queue, dict.fromkeys(part, 1))


async def results_of(redis, ids):
    found = {}
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        found |= zip(part, await redis.mget([b"arq:result:" + job for job in part]), strict=True)
    return {job: raw for job, raw in found.items() if raw is not None}


class Named(msgspec.Struct):
    """A payload of which no more is read than a worker needs to find its task: what stands beside may be broken."""

    f: str


def asks_for_an_unknown_task(payload):
    try:
        name = msgspec.msgpack.decode(payload, type=Named).f
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
    return name not in mutations.NAMES


async def test_ten_thousand_mutated_payloads(redis, worker, tmp_path, monkeypatch):
    ran = tmp_path / "a-pickle-was-run"
    monkeypatch.setattr(mutations.Touch, "path", str(ran))
    chance = random.Random(SEED)
    made = {b"bad-%d" % number: mutated(chance) for number in range(PAYLOADS)}
    bad = {job: payload for job, (_, payload) in made.items()}
    good = {b"good-%d" % n: msgspec.msgpack.encode({"t": None, "f": "square", "a": [n], "k": {}, "et": 0})
            for n in range(NEIGHBOURS)}  # fmt: skip
    order = [*bad, *good]
    chance.shuffle(order)
    await put(redis, {job: bad.get(job) or good.get(job, b"") for job in order})
    may_wait = {job for job, payload in bad.items() if asks_for_an_unknown_task(payload)}

    async def all_but_unknown_tasks_are_done():
        return await redis.zcard(QUEUE) <= len(may_wait) and set(await redis.zrange(QUEUE, 0, -1)) <= may_wait

    await worker.until(all_but_unknown_tasks_are_done, "the queue to empty", seconds=150)
    worker.must_live()
    assert not ran.exists(), f"a pickle was run, seed {SEED}"

    results = await results_of(redis, [*bad, *good])
    squares = {job: msgspec.msgpack.decode(results[job]) for job in good if job in results}
    assert {job: (result["s"], result["r"]) for job, result in squares.items()} == {
        b"good-%d" % n: (True, n * n) for n in range(NEIGHBOURS)
    }
    waiting = set(await redis.zrange(QUEUE, 0, -1))
    log = worker.logged()
    lost = {job for job in bad if job not in results and job not in waiting and b'"%s"' % job not in log}
    assert not lost, f"seed {SEED}: {[(job, made[job][0], made[job][1][:200].hex()) for job in sorted(lost)[:5]]}"
    left = {key.removeprefix(b"arq:job:") async for key in redis.scan_iter("arq:job:*", count=1000)}
    assert left == waiting, "a job that has ended leaves no payload"
    assert b"Traceback" not in worker.process.last_words().encode()
    await worker.stop()


async def test_what_is_stored_of_bad_jobs_can_be_read(redis, redis_url, worker):
    """Producers, and people who look, get a value or one of Barque's errors; nothing else, and never hang."""
    chance = random.Random(SEED)
    bad = {f"bad-{number}".encode(): mutated(chance)[1] for number in range(500)}
    await put(redis, bad)
    may_wait = {job for job, payload in bad.items() if asks_for_an_unknown_task(payload)}

    async def done():
        return set(await redis.zrange(QUEUE, 0, -1)) <= may_wait

    await worker.until(done, "the queue to empty")
    # Results themselves may be anything, too.
    results = await results_of(redis, list(bad))
    for number, job in enumerate(results):
        if number % 2:
            raw = bytearray(results[job])
            for _ in range(chance.randrange(1, 20)):
                raw[chance.randrange(len(raw))] = chance.randrange(256)
            await redis.set(b"arq:result:" + job, bytes(raw[: chance.randrange(1, len(raw) + 1)]))
    async with Producer(redis_url) as producer:
        for job in results:
            handle = producer.job(job.decode())
            for ask in (lambda handle=handle: handle.result(timeout=10), handle.info, handle.status):
                try:
                    await ask()
                except BarqueError:
                    continue
                except Exception as error:
                    stored = await redis.get(b"arq:result:" + job)
                    pytest.fail(f"seed {SEED}: {type(error).__name__}: {error}; the result: {stored.hex()}")
    await worker.stop()


async def test_ids_that_are_any_bytes(redis, worker):
    chance = random.Random(SEED)
    odd = [
        b"",
        b" ",
        b"\n",
        b"\x00",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"a b",
        b"%s%d",
        b"{}",
        b"'\"`",
        b"arq:job:x",
        b"1:2:3",
    ]
    odd += ["ünïcode-☃".encode(), b"x" * 20_000, b"\x1b[31m", b"../../x", b"barque:waiters", b"-inf", b"nan"]
    odd += [chance.randbytes(chance.randrange(1, 60)) for _ in range(300)]
    ids = list(dict.fromkeys(odd))
    await put(
        redis, {job: msgspec.msgpack.encode({"t": None, "f": "square", "a": [3], "k": {}, "et": 0}) for job in ids}
    )

    async def done():
        return await redis.zcard(QUEUE) == 0

    await worker.until(done, "the queue to empty")
    results = await results_of(redis, ids)
    assert [job for job in ids if job not in results] == [], f"seed {SEED}"
    assert {msgspec.msgpack.decode(raw)["r"] for raw in results.values()} == {9}
    await worker.stop()


KEYS = {
    # key, with {} for the bad job's id, and the types that are wrong there
    "payload": ("arq:job:{}", ["list", "set", "hash", "zset", "stream"]),
    "attempts": ("arq:retry:{}", ["string", "list", "set", "hash", "zset", "stream"]),
    "lease": ("arq:in-progress:{}", ["list", "set", "hash", "zset", "stream"]),
    "result": ("arq:result:{}", ["string", "list", "set", "hash", "zset", "stream"]),
    "handed over result": ("barque:result:{}", ["string", "list", "set", "hash", "zset", "stream"]),
    "aborts": ("arq:abort", ["string", "list", "set", "hash", "zset", "stream"]),
    "waiters": ("barque:waiters", ["string", "list", "set", "hash", "zset", "stream"]),
    "wake marker": (f"barque:wake:{QUEUE}", ["string", "list", "set", "hash", "zset", "stream"]),
    "health": (f"{QUEUE}:health-check", ["string", "list", "set", "hash", "zset", "stream"]),
    "workers": ("barque:workers", ["string", "list", "set", "hash", "zset", "stream"]),
    "the other queue": (OTHER, ["string", "list", "set", "hash", "stream"]),
}


@pytest.mark.parametrize("what", KEYS)
async def test_foreign_values_under_our_keys(redis, redis_url, worker, what):
    """Of each wrong type in turn: neighbours run as if nothing were, and the bad job ends or is reported."""
    pattern, types = KEYS[what]
    async with Producer(redis_url) as producer:
        for number, kind in enumerate(types):
            bad = b"bad-%d" % number
            key = pattern.format(bad.decode())
            await redis.delete(key)
            payload = valid_payload(random.Random(SEED + number))
            pipeline = redis.pipeline(transaction=True)  # the worker sees all of it or nothing
            pipeline.set(b"arq:job:" + bad, payload)
            if key == f"arq:job:{bad.decode()}":
                pipeline.delete(key)
            TYPES[kind](pipeline, key)
            beside = b"beside-%d" % number
            pipeline.set(b"arq:job:" + beside, msgspec.msgpack.encode({"f": "square", "a": [7], "k": {}, "et": 0}))
            pipeline.zadd(QUEUE, {beside: 1} if key == OTHER else {bad: 1, beside: 1})
            await pipeline.execute()
            job = await producer.enqueue(square(4), job_id=f"after-{number}")

            async def neighbours_ended(beside=beside, after=job.job_id):
                return await redis.exists(b"arq:result:" + beside, f"arq:result:{after}") == 2

            await worker.until(neighbours_ended, f"the neighbours of a {kind} under {key}", seconds=20)
            assert msgspec.msgpack.decode(await redis.get(b"arq:result:" + beside))["r"] == 49
            assert await job.result(timeout=20) == 16

            async def accounted_for(bad=bad, key=key, kind=kind):
                if b'"%s"' % bad in worker.logged():
                    return True
                # Of a result that is no string nothing can be read, and a fouled queue holds no job.
                return key == OTHER or (await redis.type(b"arq:result:" + bad) == b"string" and kind != "string")

            await worker.until(accounted_for, f"{bad!r} to be accounted for, with a {kind} under {key}", seconds=20)
            await redis.delete(key)
    await worker.stop()


async def test_a_queue_of_another_type_is_served_again_once_it_is_one(redis, redis_url, worker):
    await redis.set(OTHER, b"not a queue")
    async with Producer(redis_url) as producer:
        with pytest.raises(BarqueError):
            await producer.enqueue(square(4), queue=OTHER, job_id="into-nothing")
        assert not await redis.exists("arq:job:into-nothing"), "not half a job"
        assert await (await producer.enqueue(square(3))).result(timeout=20) == 9
        await redis.delete(OTHER)
        assert await (await producer.enqueue(square(5), queue=OTHER)).result(timeout=20) == 25
    await worker.stop()


WORDS = [b"nan", b"-nan", b"inf", b"-inf", b"1e400", b"-5", b"0", b"1.5", b"", b"abc", b"9" * 40, b"\x00\xff", b"1:2:3"]


async def test_counts_tokens_and_scores_that_are_nonsense(redis, redis_url, worker):
    """A lease of somebody unknown is waited out; whatever else is written there, the job ends."""
    bad = []
    for number, word in enumerate(WORDS):
        job = b"counted-%d" % number
        await redis.set(b"arq:retry:" + job, word)
        bad.append(job)
        held = b"held-%d" % number
        await redis.set(b"arq:in-progress:" + held, word, px=300)
        bad.append(held)
        await redis.hset("barque:waiters", held, word)
        await redis.publish("barque:control", b"abort " + word)
        await redis.publish("barque:control", word)
    payload = msgspec.msgpack.encode({"t": None, "f": "square", "a": [2], "k": {}, "et": 0})
    await put(redis, dict.fromkeys(bad, payload))
    scores = {b"early": "-inf", b"long-ago": -1e308, b"tiny": 5e-324, b"negative": -1}
    await redis.mset({b"arq:job:" + job: payload for job in scores})
    await redis.zadd(QUEUE, scores)
    # Never due is no fault of ours, and keeps nobody from working.
    await redis.zadd(QUEUE, {b"never": "+inf", b"hardly": 1e300})

    async def done():
        return set(await redis.zrange(QUEUE, 0, -1)) == {b"never", b"hardly"}

    await worker.until(done, "all to end but what is never due")
    results = await results_of(redis, [*bad, *scores])
    assert results.keys() == {*bad, *scores}
    async with Producer(redis_url) as producer:
        assert await (await producer.enqueue(square(6))).result(timeout=20) == 36
    await worker.stop()


def test_every_mutation_makes_bytes_and_the_same_seed_the_same_ones():
    def make():
        chance = random.Random(SEED)
        return [(name, mutation(chance)) for name, mutation in MUTATIONS.items() for _ in range(20)]

    first = make()
    assert first == make()
    assert all(isinstance(raw, bytes) for _, raw in first)
    assert {mutated(random.Random(seed))[0] for seed in range(500)} == set(MUTATIONS)
