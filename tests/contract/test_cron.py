"""arq's chapter "Cron jobs": when they run, how often in a fleet, and what they leave."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from arq import cron
from arq.constants import in_progress_key_prefix

# arq keeps the in-progress key of a tick for a minute, so that no other worker runs it. A worker that stops may
# leave the next tick in the queue.
pytestmark = pytest.mark.leaves_keys(
    "arq:in-progress:*", "arq:queue", "arq:job:tick:*", "barque:wake:*", "arq:retry:tick:*"
)


class Ticks:
    def __init__(self):
        self.contexts = []
        self.ticked = asyncio.Event()

    async def tick(self, ctx):
        self.contexts.append(ctx)
        self.ticked.set()


@pytest.fixture
def ticks():
    return Ticks()


async def test_a_cron_job_runs_at_its_time(make_worker, running, arq_redis, ticks):
    worker = make_worker(cron_jobs=[cron(ticks.tick, name="tick", second=set(range(60)))])
    async with running(worker):
        await asyncio.wait_for(ticks.ticked.wait(), 10)
    [context, *_] = ticks.contexts
    name, _, due = context["job_id"].rpartition(":")
    assert name == "tick"
    assert int(due) % 1000 == 123, "arq's ticks are off the top of the second"
    assert datetime.now(UTC).timestamp() * 1000 >= int(due)
    assert await arq_redis.keys("arq:result:*") == []


async def test_a_cron_job_can_run_at_startup(make_worker, ticks):
    worker = make_worker(cron_jobs=[cron(ticks.tick, name="tick", month=1, day=1, run_at_startup=True)])
    assert await worker.run_check() == 1
    assert len(ticks.contexts) == 1
    assert await worker.run_check() == 1, "its second start is no startup of the cron job"


@pytest.mark.parametrize("fleet", [("arq", "arq"), ("barque", "barque"), ("arq", "barque")], ids="-".join)
async def test_a_tick_runs_once_in_a_fleet(make_worker_of, running, fleet):
    runs, enough = [], asyncio.Event()

    async def tick(ctx):
        runs.append(ctx["job_id"])
        if len(runs) >= 3:
            enough.set()

    one, other = (make_worker_of(of, cron_jobs=[cron(tick, name="tick", second=set(range(60)))]) for of in fleet)
    async with running(one), running(other):
        await asyncio.wait_for(enough.wait(), 20)
    assert len(set(runs)) == len(runs)


async def test_where_ticks_are_not_unique_each_worker_runs_its_own(make_worker, running):
    runs, enough = [], asyncio.Event()

    async def tick(ctx):
        runs.append(ctx["job_id"])
        if len(runs) >= 2:
            enough.set()

    def worker():
        return make_worker(cron_jobs=[cron(tick, name="tick", month=1, day=1, run_at_startup=True, unique=False)])

    async with running(worker()), running(worker()):
        await asyncio.wait_for(enough.wait(), 10)
    assert len(set(runs)) == 2


async def test_a_late_workers_copy_of_a_tick_is_dropped(make_worker_of, arq_redis, ticks):
    """arq's own worker leaves it in the queue for a minute, and then runs it."""
    moment = datetime.now(UTC)
    for _ in range(2):
        job = cron(ticks.tick, name="tick", month=1, day=1)
        job.next_run = moment
        await make_worker_of("barque", cron_jobs=[job]).async_run()
    assert len(ticks.contexts) == 1
    assert await arq_redis.zcard("arq:queue") == 0


async def test_a_job_id_spans_schedules(make_worker, ticks):
    """Two schedules that share an id are one job."""
    jobs = [cron(ticks.tick, name=name, month=1, day=1, run_at_startup=True, job_id="shared") for name in ("a", "b")]
    assert await make_worker(cron_jobs=jobs).run_check() == 1


async def test_schedules_are_read_in_the_workers_time_zone(make_worker, ticks):
    zone = timezone(timedelta(hours=5, minutes=45))
    there = datetime.now(zone)
    job = cron(ticks.tick, name="tick", hour=(there.hour + 3) % 24, minute=7)
    worker = make_worker(cron_jobs=[job], timezone=zone)
    assert await worker.run_check() == 0
    assert job.next_run.utcoffset() == zone.utcoffset(None)
    assert (job.next_run.hour, job.next_run.minute) == ((there.hour + 3) % 24, 7)


@pytest.mark.leaves_keys
async def test_a_crons_result_is_kept_where_it_asks_for_it(make_worker, arq_redis, ticks):
    job = cron(ticks.tick, name="tick", month=1, day=1, run_at_startup=True, keep_result=60)
    await make_worker(cron_jobs=[job]).run_check()
    [result] = await arq_redis.all_job_results()
    assert (result.function, result.success) == ("tick", True)


async def test_a_cron_job_that_fails_is_not_tried_again(make_worker):
    tries = []

    async def explode(ctx):
        tries.append(ctx["job_try"])
        raise ValueError

    worker = make_worker(cron_jobs=[cron(explode, month=1, day=1, run_at_startup=True)])
    await worker.async_run()
    assert (tries, worker.jobs_failed) == ([1], 1)


async def test_cron_jobs_run_on_a_pool_that_was_given(make_worker_of, arq_redis, monkeypatch, ticks):
    """Where pickles are refused, what the worker itself enqueues must not be one."""
    monkeypatch.setenv("BARQUE_ACCEPT_PICKLE", "false")
    job = cron(ticks.tick, name="tick", month=1, day=1, run_at_startup=True)
    worker = make_worker_of("barque", cron_jobs=[job], redis_pool=arq_redis)
    assert await worker.run_check() == 1
    assert arq_redis.job_serializer is None, "the caller's own pool stays as it was"


def test_a_cron_job_is_a_coroutine_function(ticks):
    with pytest.raises(RuntimeError, match="not a coroutine function"):
        cron(print)


async def test_cron_jobs_are_made_by_cron(make_worker):
    with pytest.raises(RuntimeError, match="must be instances of CronJob"):
        make_worker(cron_jobs=[print])


async def test_an_ended_tick_keeps_its_lease_key_for_a_minute(make_worker, arq_redis, ticks):
    job = cron(ticks.tick, name="tick", month=1, day=1, run_at_startup=True)
    await make_worker(cron_jobs=[job]).run_check()
    key = in_progress_key_prefix + ticks.contexts[0]["job_id"]
    assert 55 < await arq_redis.ttl(key) <= 60
