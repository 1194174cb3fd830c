"""Stock arq workers and Barque's on one queue: nothing lost, nothing run twice, nobody in another's way."""

import asyncio
from collections import Counter

import msgspec
import pytest
from arq import Retry, func
from arq.jobs import JobStatus

from common.redis.store import Store

pytestmark = pytest.mark.leaves_keys("arq:result:*", "barque:wake:*", "barque:attempts:*")

MSGPACK = {"job_serializer": msgspec.msgpack.encode, "job_deserializer": msgspec.msgpack.decode}


@pytest.mark.parametrize("form", ["pickle", "msgpack"])
async def test_each_attempt_of_each_job_runs_once(make_worker_of, arq_redis, msgpack_redis, form):
    """A third of the jobs asks for a second attempt at once, a third for one a little later."""
    client, options = (arq_redis, {}) if form == "pickle" else (msgpack_redis, MSGPACK)
    attempts = Counter()
    by = Counter()
    both = asyncio.Event()

    def work_of(engine):
        async def work(ctx, number):
            attempts[number, ctx["job_try"]] += 1
            by[engine] += 1
            if len(by) == 2:
                both.set()
            await both.wait()
            if ctx["job_try"] == 1 and number % 3:
                raise Retry(defer=None if number % 3 == 1 else 0.03)
            return number

        return func(work, name="work")

    jobs = [await client.enqueue_job("work", number, _job_id=f"job-{number}") for number in range(300)]
    fleet = [make_worker_of(engine, [work_of(engine)], **options) for engine in ("arq", "barque")]
    async with asyncio.timeout(60):
        await asyncio.gather(*(worker.async_run() for worker in fleet))
    expected = {(number, 1) for number in range(300)} | {(number, 2) for number in range(300) if number % 3}
    assert attempts.keys() == expected
    assert set(attempts.values()) == {1}
    assert by["arq"] > 0
    assert by["barque"] > 0
    assert [await job.result() for job in jobs] == list(range(300))
    assert sum(worker.jobs_complete for worker in fleet) == 300
    assert sum(worker.jobs_retried for worker in fleet) == 200
    assert sum(worker.jobs_failed for worker in fleet) == 0
    assert await client.keys("arq:[ji]*") == [], "no payload or lease is left"
    assert await client.zcard("arq:queue") == 0


class Hold:
    """Jobs that run until they are let go."""

    def __init__(self, wanted=1):
        self.wanted, self.runs = wanted, []
        self.all_run, self.open = asyncio.Event(), asyncio.Event()

    async def hold(self, ctx):
        self.runs.append(ctx["job_id"])
        if len(self.runs) == self.wanted:
            self.all_run.set()
        await self.open.wait()


@pytest.mark.parametrize(("holder", "other"), [("barque", "arq"), ("arq", "barque")])
async def test_a_running_job_is_left_alone(make_worker_of, running, arq_redis, holder, other):
    hold = Hold()

    async def probe(ctx):
        return "ran"

    held = await arq_redis.enqueue_job("hold")
    async with running(make_worker_of(holder, [func(hold.hold, name="hold")], max_jobs=1)):
        await hold.all_run.wait()
        # As arq's Job.abort() does: due at once, whatever its score said.
        await arq_redis.zadd("arq:queue", {held.job_id: 1})
        async with running(make_worker_of(other, [func(hold.hold, name="hold"), func(probe, name="probe")])):
            for _ in range(3):
                after = await arq_redis.enqueue_job("probe")
                assert await after.result(timeout=10, poll_delay=0.01) == "ran"
            assert await held.status() is JobStatus.in_progress
        hold.open.set()
        await held.result(timeout=10, poll_delay=0.01)
    assert hold.runs == [held.job_id]


async def test_jobs_stock_workers_run_never_block_barques_claims(make_worker_of, running, arq_redis):
    """They stay at the head of the queue: more of them than a worker with room for one would page through singly."""
    hold = Hold(wanted=60)

    async def probe(ctx):
        return "ran"

    for _ in range(60):
        await arq_redis.enqueue_job("hold")
    async with running(make_worker_of("arq", [func(hold.hold, name="hold")], max_jobs=60)):
        await hold.all_run.wait()
        async with running(make_worker_of("barque", [func(probe, name="probe")], max_jobs=1)):
            for _ in range(3):
                job = await arq_redis.enqueue_job("probe")
                assert await job.result(timeout=10, poll_delay=0.01) == "ran"
        hold.open.set()
    # What the stock worker was closed with runs again.
    await make_worker_of("arq", [func(hold.hold, name="hold")]).async_run()


async def test_a_stock_worker_takes_over_from_a_barque_worker_that_died(make_worker_of, arq_redis, until):
    async def which(ctx):
        return ctx["job_try"]

    job = await arq_redis.enqueue_job("which")

    async def taken():  # arq rounds a due time up: it may be a moment ahead of the server's clock
        return (await Store(arq_redis).claim(["arq:queue"], most=1, lease_ms=50, worker="dead", number=1)).jobs

    assert [claimed.job_id for claimed in await until(taken)] == [job.job_id]
    await make_worker_of("arq", [func(which, name="which")]).run_check()
    # What the dead worker began is counted by Barque's workers alone (docs/arq_compatibility.md).
    assert await job.result() == 1


@pytest.mark.parametrize(("runs_it", "other"), [("barque", "arq"), ("arq", "barque")])
async def test_an_abort_reaches_the_worker_that_runs_the_job(make_worker_of, running, arq_redis, runs_it, other):
    hold = Hold()
    job = await arq_redis.enqueue_job("hold")
    functions = [func(hold.hold, name="hold")]
    async with running(make_worker_of(runs_it, functions, allow_abort_jobs=True)) as _:
        await hold.all_run.wait()
        async with running(make_worker_of(other, functions, allow_abort_jobs=True)):
            assert await job.abort(timeout=10, poll_delay=0.01) is True
    assert hold.runs == [job.job_id]
